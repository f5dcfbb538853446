"""FPD, KPD and W1 of JetNet beside hepgen's, on equal, unweighted events.

python benchmarks/jetnet_agreement.py [observables.h5 ...]

Run where both are installed. Without tables it writes JetNet's figures to tests/metrics/jetnet_golden.json, which
the tests hold hepgen against; with tables it compares their two halves in both libraries and writes nothing.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np

from hepgen.metrics.distances import fpd, kpd, wasserstein
from hepgen.table import read_tables

GOLDEN = Path(__file__).parents[1] / "tests" / "metrics" / "jetnet_golden.json"
FEATURES = ["pt_j1", "eta_j1", "mass_j1", "pt_j2", "eta_j2", "dphi_jj", "mass_j2"]
SEED = 42
# Events on each side, columns, and by how much generated events are stretched and shifted.
CASES = [(50_000, 3, 1.2, 0.1), (50_000, 2, 1.0, 0.0)]
# JetNet's W1 is the mean over resampled events, which is W1 itself where that is far above its fluctuations.
W1_BATCHES = 50
W1_LEAST = 0.1


def events(size, columns, stretch, shift):
    """Generated events and truth of correlated columns, the first with an exponential tail."""
    rng = np.random.default_rng(columns)
    x, y = rng.normal(size=(2, size, columns)) @ rng.normal(size=(columns, columns)) + 2
    x[:, 0], y[:, 0] = rng.exponential(size=(2, size))
    return x * stretch + shift, y


def of_jetnet(x, y):
    """FPD, KPD and, where it can be compared, W1 of the first column in units of the truth's standard deviation."""
    from jetnet.evaluation import gen_metrics

    gen_metrics.rng = np.random.default_rng(SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        figures = {"fpd": gen_metrics.fpd(y, x, seed=SEED)[0], "kpd": gen_metrics.kpd(y, x, seed=SEED)[0]}
        first = [side[:, None, :1] / y[:, 0].std() for side in (x, y)]
        w1 = gen_metrics.w1p(*first, num_batches=W1_BATCHES, exclude_zeros=False, return_std=False)[0]
    return {name: float(value) for name, value in figures.items()} | ({"w1": float(w1)} if w1 > W1_LEAST else {})


def of_hepgen(x, y):
    return {"fpd": fpd(x, y, SEED), "kpd": kpd(x, y, SEED), "w1": wasserstein(x[:, 0], y[:, 0], SEED)}


def compare(x, y):
    start = time.process_time()
    theirs = of_jetnet(x, y)
    middle = time.process_time()
    ours = of_hepgen(x, y)
    print(f"{len(x)} and {len(y)} events: jetnet {middle - start:.1f} s, hepgen {time.process_time() - middle:.1f} s")
    for name, value in theirs.items():
        print(f"  {name:4s} jetnet {value:.6g}  hepgen {ours[name].value:.6g}  ratio {ours[name].value / value:.5f}")
    return theirs


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", type=Path, help="observables of a run, at least 100 events in all")
    tables = parser.parse_args().tables
    if tables:
        y, x = np.array_split(read_tables(tables).matrix(FEATURES), 2)
        compare(x, y)
        # Beside two halves of one distribution, one that is off by 2 % in all scales.
        compare(1.02 * x, y)
    else:
        golden = [{"events": case, "jetnet": compare(*events(*case))} for case in CASES]
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
