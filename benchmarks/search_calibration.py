"""How often the bump hunt finds nothing where there is nothing, and whether significances are as expected.

Disjoint samples of real size are taken from a large one of background; some are given signal events.

Usage: python benchmarks/search_calibration.py results/observables/qcd/*.h5 --signal results/observables/wprime/*.h5
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import kstest

from hepgen.search.background import falling_edges, fit
from hepgen.search.hunt import hunt
from hepgen.search.statistics import asimov, discovery, workspace
from hepgen.table import read_tables

# Samples that the background is divided into, and signal events injected into each.
CASES = ((100, 0), (20, 0), (20, 60))
BINS = 40
TOYS = 100
PER_UNIT = 100


def measure(background: np.ndarray, signal: np.ndarray, samples: int, injected: int) -> str:
    """One row of the table."""
    rng = np.random.default_rng(samples + injected)
    edges = falling_edges(background, BINS)
    low, high = np.quantile(signal, [0.1, 0.9])
    window = (edges[1:] > low) & (edges[:-1] < high)
    template = np.histogram(signal, edges)[0][window] / len(signal) * PER_UNIT
    p_values, observed, expected = [], [], []
    for number, part in enumerate(np.array_split(rng.permutation(background), samples)):
        alone = np.histogram(part, edges)[0].astype(float)
        counts = alone + np.histogram(rng.choice(signal, injected, replace=False), edges)[0]
        p_values.append(hunt(counts, edges, TOYS, number).overall.value)
        for data, found in ((counts, observed), (alone, expected)):
            smooth = fit(data, edges, ~window)
            spec = workspace(data[window], smooth.expected[window], smooth.modes[:, window], template)
            found.append(discovery(spec if found is observed else asimov(spec, injected)))
    row = (samples, len(background) // samples, injected, np.mean(np.array(p_values) <= 0.05))
    return (
        "{:7d} {:7d} {:9d} {:10.2f}".format(*row)
        + f" {kstest(p_values, 'uniform').pvalue:6.3f}  {np.mean(observed):5.2f} ± {np.std(observed):.2f}"
        + f" {np.mean(expected):12.2f} {np.mean(np.array(observed) > 1):6.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("background", nargs="+", type=Path)
    parser.add_argument("--signal", nargs="+", type=Path, required=True)
    arguments = parser.parse_args()
    background, signal = (read_tables(paths).columns["mjj"] for paths in (arguments.background, arguments.signal))
    print("samples  events  injected  p <= 0.05  KS, p   Z observed        Z expected  Z > 1")
    for samples, injected in CASES:
        print(measure(background, signal, samples, injected), flush=True)


if __name__ == "__main__":
    main()
