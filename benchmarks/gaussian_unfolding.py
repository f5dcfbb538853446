"""How near unfolding comes to a truth that is known exactly, and how often its 68 % intervals hold it.

Simulation N(0, 1), data N(0.2, 0.8), a detector that smears by N(0, 0.3), bins of 0.4. Every pseudo-experiment has
events of its own and goes through the whole analysis: bootstrap replicas of a single training each, whose scatter is
hence in them, toys that choose the iteration, covariance. The truth is the normal density's integral over each bin.

Usage: python benchmarks/gaussian_unfolding.py [ibu omnifold_trees ...] [--experiments 8] [--replicas 20] [--toys 20]
"""

import argparse
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import norm

from hepgen.config import Config, parse
from hepgen.metrics.divergences import triangular, triangular_floor
from hepgen.table import Table, write_table
from hepgen.unfolding.dataset import Tables
from hepgen.unfolding.iterations import choose
from hepgen.unfolding.results import Binned, combine, read_binned
from hepgen.unfolding.uncertainties import budget
from hepgen.unfolding.unfold import unfold
from hepgen.unfolding.variations import runs

EVENTS = 10_000
SIMULATION, DATA, SMEARING = norm(0.0, 1.0), norm(0.2, 0.8), 0.3
EDGES = np.linspace(-2.2, 2.6, 13)
TRUTH = EVENTS * np.diff(DATA.cdf(EDGES))
# Of the data alone, as if the detector were perfect.
FLOOR = 1e3 * triangular_floor(len(TRUTH), EVENTS, np.inf)
TRAINING = {"epochs": 10, "batch_size": 500, "learning_rate": 1e-2}
NETWORK = {"iterations": 4, "settings": {"hidden": [32, 32]}, "training": TRAINING}
# Few leaves: more would end early, short of a ratio that depends on a single observable.
TREES = {"model": "gradient_boosting", "iterations": 8, "settings": {"leaves": 4, "min_events": 100}}
METHODS: dict[str, dict[str, Any]] = {
    "ibu": {"type": "ibu", "iterations": 6},
    "omnifold": {"type": "omnifold", **NETWORK},
    "omnifold_trees": {"type": "omnifold", **TREES},
    "conditional_flow": {"type": "conditional_flow", "iterations": 3},
    "neural_bayes": {"type": "neural_bayes", "iterations": 3},
}


class Score(NamedTuple):
    """What one pseudo-experiment says of one estimate: distances × 10³, covered bins, iterations from 1."""

    distance: float
    covered: float = np.nan
    iteration: float = np.nan


def configure(methods: Sequence[str], number: int, replicas: int, toys: int) -> Config:
    """The analysis of one pseudo-experiment."""
    sample = {"source": "arrays", "path": "x.npy", "columns": {"x": 0}, "truth": {"x": 1}}
    block = {
        "simulation": "simulation",
        "data": "data",
        "observables": ["x"],
        "binning": {"x": {"edges": EDGES.tolist()}},
        "seeds": [1],
        "replicas": replicas,
        "toys": toys,
        "tests": False,
        "methods": {method: METHODS[method] for method in methods},
    }
    return parse({"seed": number, "samples": {"simulation": sample, "data": sample}, "unfolding": block})


def draw(folder: Path, seed: int) -> Tables:
    """Tables of the simulation and of the data, as many as the truth expects up to their fluctuation."""
    rng = np.random.default_rng(seed)
    tables = {}
    for name, density, events in (("simulation", SIMULATION, EVENTS), ("data", DATA, rng.poisson(EVENTS))):
        truth = density.rvs(events, random_state=rng)
        tables[name] = [folder / f"{name}.h5"]
        write_table(tables[name][0], [Table({"x": truth + rng.normal(0, SMEARING, events)}, {"x": truth})])
    return tables


def experiment(methods: Sequence[str], number: int, replicas: int, toys: int) -> dict[str, Score]:
    """The scores of every method, of the prior and of the data as they are."""
    config = configure(methods, number, replicas, toys)
    with TemporaryDirectory() as name, redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        folder = Path(name)
        tables = draw(folder, number)
        files = {method: [] for method in methods}
        for method, variation, seed in runs(config.unfolding):
            files[method].append(folder / f"{method}_{variation.name}_{seed}.h5")
            unfold(config, method, variation.name, seed, tables, files[method][-1], "cpu")
        scores = {}
        for method in methods:
            combine(config, method, tables, files[method], folder / "measured.h5")
            (binned,) = read_binned(folder / "measured.h5")
            scores[method] = score(binned)
        bare = {"prior": binned.prior.values, "no unfolding": binned.measured.values}
    return scores | {label: Score(distance(values)) for label, values in bare.items()}


def score(binned: Binned) -> Score:
    """Of the iteration that the toys choose."""
    iteration = choose([binned])
    result = budget(binned, iteration)
    covered = np.abs(result.central - TRUTH) <= np.sqrt(np.diag(result.statistical))
    return Score(distance(result.central), covered.mean(), iteration + 1)


def distance(values: np.ndarray) -> float:
    """Triangular discriminator × 10³ from the truth."""
    return 1e3 * float(triangular(np.maximum(values, 0), TRUTH))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=["ibu", "omnifold_trees"], choices=METHODS, metavar="method")
    parser.add_argument("--experiments", type=int, default=8)
    parser.add_argument("--replicas", type=int, default=20)
    parser.add_argument("--toys", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = [
        experiment(arguments.methods, number, arguments.replicas, arguments.toys)
        for number in range(1, arguments.experiments + 1)
    ]
    print(f"statistical floor of the data alone: {FLOOR:.3f}")
    print("estimate           distance x 10^3   in floors   coverage of 68 %   iteration")
    for estimate in found[0]:
        columns = np.array([scores[estimate] for scores in found])
        mean, error = columns.mean(0), columns.std(0, ddof=1) / np.sqrt(len(columns))
        line = f"{estimate:18s} {mean[0]:7.3f} ± {error[0]:.3f} {mean[0] / FLOOR:11.2f}"
        if np.isfinite(mean[1]):
            line += f"     {100 * mean[1]:6.1f} ± {100 * error[1]:.1f} %   {mean[2]:9.1f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
