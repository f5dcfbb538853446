"""How often the bump hunt finds nothing where there is nothing, and whether significances are as expected.

Without arguments in spectra drawn from a dijet function, before and after cuts on scores of the kinds that taggers
have: one that knows nothing of the mass, ones that do, and the same flattened by the quantiles of as many other events.

With events in disjoint samples of them, some of which are given signal events, without a cut.

Usage: python benchmarks/search_calibration.py [--samples 150]
       python benchmarks/search_calibration.py results/observables/qcd/*.h5 --signal results/observables/wprime/*.h5
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kstest

from hepgen.models.decorrelation import ConditionalRank
from hepgen.search.background import SQRT_S, falling_edges, fit
from hepgen.search.hunt import hunt
from hepgen.search.pseudodata import Events, select
from hepgen.search.statistics import asimov, discovery, workspace
from hepgen.table import read_tables

# Samples that the background is divided into, and signal events injected into each.
CASES = ((100, 0), (20, 0), (20, 60))
BINS = 40
TOYS = 59
PER_UNIT = 100
# The drawn spectra [GeV], as steep as the embedded simulation's, and their events.
GRID = np.linspace(2950, 9000, 20_001)
EDGES = np.linspace(3000, 7000, BINS + 1)
EVENTS = 10_000
EFFICIENCIES = (1.0, 0.1, 0.01)
Score = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def draw(rng: np.random.Generator) -> np.ndarray:
    """Masses from (1 − x)^10 x^−5, x = m/(13 TeV), shape (EVENTS,)."""
    x = GRID / SQRT_S
    cumulative = np.cumsum((1 - x) ** 10 * x**-5)
    return np.interp(rng.random(EVENTS), cumulative / cumulative[-1], GRID)


def correlated(slope: float, bend: float = 0.0) -> Score:
    """A normal score whose mean rises with the mass: by `slope` in 1.5 TeV at first, then less or more."""

    def score(mass: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        distance = (mass - EDGES[0]) / 1500
        return rng.normal(size=len(mass)) + slope * distance * (1 + bend * distance)

    return score


def flattened(score: Score) -> Score:
    """The quantile of a score among other events of the same mass, as `decorrelation: quantiles` gives it."""

    def rank(mass: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        other = draw(rng)
        learnt = ConditionalRank().fit(score(other, rng), other, np.ones(EVENTS))
        return learnt(torch.from_numpy(score(mass, rng)), torch.from_numpy(mass)).numpy()

    return rank


SCORES: dict[str, Score] = {"random": correlated(0.0)}
for label, raw in {"0.3": correlated(0.3), "1": correlated(1.0), "1, bent": correlated(1.0, -0.2)}.items():
    SCORES |= {f"slope {label}, flattened": flattened(raw), f"slope {label}": raw}


def false_alarms(score: Score, efficiencies: Sequence[float], samples: int, seed: int) -> list[str]:
    """Rows of the table."""
    rng, found = np.random.default_rng(seed), {efficiency: [] for efficiency in efficiencies}
    none = Events(np.empty(0), {"score": np.empty((1, 0))})
    for number in range(samples):
        mass = draw(rng)
        events = Events(mass, {"score": score(mass, rng)[None]})
        for efficiency, p_values in found.items():
            counts = np.histogram(select(events, none, "score", efficiency).data, EDGES)[0].astype(float)
            p_values.append(hunt(counts, EDGES, TOYS, number).overall.value)
    return [
        f"{efficiency:6g} {np.mean(np.array(p) <= 0.05):10.3f} {kstest(p, 'uniform').pvalue:8.3g}"
        for efficiency, p in found.items()
    ]


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
    parser.add_argument("background", nargs="*", type=Path)
    parser.add_argument("--signal", nargs="+", type=Path, default=[])
    parser.add_argument("--samples", type=int, default=150)
    arguments = parser.parse_args()
    if not arguments.background:
        print("score                        kept  p <= 0.05    KS, p")
        for number, (name, score) in enumerate(SCORES.items()):
            # Without a cut the score does not matter.
            for row in false_alarms(score, EFFICIENCIES[number > 0 :], arguments.samples, number + 1):
                print(f"{name:26s}{row}", flush=True)
        return
    background, signal = (read_tables(paths).columns["mjj"] for paths in (arguments.background, arguments.signal))
    print("samples  events  injected  p <= 0.05  KS, p   Z observed        Z expected  Z > 1")
    for samples, injected in CASES:
        print(measure(background, signal, samples, injected), flush=True)


if __name__ == "__main__":
    main()
