"""The figures of the integration: which there are, and their numbers from all methods' events."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hepgen.config import Config, Integration
from hepgen.integration.matrix_element import Point
from hepgen.metrics.intervals import Interval
from hepgen.plots.figures import Axis, Comparison, Curves, Histogram, Points, banded_line

__all__ = [
    "OBSERVABLES",
    "Result",
    "distribution_figure",
    "efficiency_figure",
    "figure_names",
    "histogram",
    "integral_figure",
    "weights_figure",
]

BINS = 40
WEIGHT_EDGES = np.geomspace(1e-4, 1e4, 161)
OBSERVABLES: dict[str, tuple[str, Callable[[Point], np.ndarray]]] = {
    "x1": (r"$x_1$ of the quark", lambda p: p.x1),
    "x2": (r"$x_2$ of the antiquark", lambda p: p.x2),
    "x3": (r"$x_3$ of the gluon", lambda p: 2 - p.x1 - p.x2),
    "cos_theta": (r"$\cos\theta$ of the quark", lambda p: p.cos_theta),
    "thrust": ("thrust", lambda p: np.maximum(np.maximum(p.x1, p.x2), 2 - p.x1 - p.x2)),
}


@dataclass(frozen=True)
class Result:
    """Events of one method and seed.

    Attributes:
        point: Where they lie.
        weight: Integrand over density [pb], shape (n,).
        stratum: The part of the hypercube that each was drawn in, shape (n,).
        unweighted: Weights after hit or miss, shape (n,).
        maximum: The weight [pb] that hit or miss takes as the largest.
        adaptation: Evaluations before these events.
    """

    point: Point
    weight: np.ndarray
    stratum: np.ndarray
    unweighted: np.ndarray
    maximum: float
    adaptation: int

    @property
    def integral(self) -> float:
        """The cross section [pb]."""
        return float(self.weight.mean())

    @property
    def error(self) -> float:
        """Its standard error [pb]: the weights' spread within the strata, whose numbers of points are fixed."""
        number = np.bincount(self.stratum)
        mean = np.bincount(self.stratum, self.weight) / np.maximum(number, 1)
        squares = np.bincount(self.stratum, (self.weight - mean[self.stratum]) ** 2)
        return float(np.sqrt((number * squares / np.maximum(number - 1, 1)).sum())) / len(self.weight)


Results = dict[str, list[Result]]


def figure_names(config: Config) -> list[str]:
    """The figures that an evaluation writes, whatever the methods."""
    return ["integral", "efficiency", "weights", *(f"observable_{name}" for name in OBSERVABLES)]


def integral_figure(block: Integration, results: Results, truth: float) -> Points:
    """The integral of every training over that by quadrature."""
    return Points(
        title="cross section",
        categories=[f"seed {seed}" for seed in block.seeds],
        series={
            name: [
                (r.integral / truth, (r.integral - r.error) / truth, (r.integral + r.error) / truth) for r in of_seeds
            ]
            for name, of_seeds in results.items()
        },
        floor=[1.0] * len(block.seeds),
        floor_label=f"quadrature, {truth:.5g} pb",
        y=Axis(label="integral over quadrature"),
        notes=[f"{block.events:,} evaluations after the adaptation"],
    )


def efficiency_figure(shares: dict[str, dict[str, Interval]], seeds: int) -> Points:
    """Shares of the drawn events that are worth something, by method and what they are shares of."""
    return Points(
        title="what a weighted event is worth",
        categories=list(next(iter(shares.values()))),
        series={name: [tuple(share) for share in of_method.values()] for name, of_method in shares.items()},
        y=Axis(label="share of the drawn events", log=True),
        notes=[f"mean of {seeds} trainings and its 68 % interval" if seeds > 1 else "one training"],
    )


def weights_figure(results: Results) -> Curves:
    """Distribution of the weights over their mean, median and band over seeds."""
    shares = {
        name: [np.histogram(r.weight / r.integral, WEIGHT_EDGES)[0] / len(r.weight) for r in of_seeds]
        for name, of_seeds in results.items()
    }
    filled = np.flatnonzero(np.sum([np.sum(runs, 0) for runs in shares.values()], 0))
    shown = slice(filled[0], filled[-1] + 1)
    centers = np.sqrt(WEIGHT_EDGES[:-1] * WEIGHT_EDGES[1:])[shown]
    return Curves(
        title="event weights",
        lines=[banded_line(name, centers, np.array(runs)[:, shown]) for name, runs in shares.items()],
        x=Axis(label="weight over mean weight", log=True),
        y=Axis(label="share of the drawn events", log=True),
        notes=["events outside the cuts have no weight and are not shown"],
    )


def histogram(name: str, results: list[Result], block: Integration, *, unweighted: bool) -> tuple[np.ndarray, ...]:
    """Bin edges, density and its variance of an observable of all seeds' events together."""
    of = OBSERVABLES[name][1]
    values = np.concatenate([of(r.point) for r in results])
    weights = np.concatenate([r.unweighted if unweighted else r.weight for r in results])
    edges = np.linspace(*_range(name, block), BINS + 1)
    densities = [np.histogram(values, edges, weights=weights**power)[0] for power in (1, 2)]
    scale = densities[0].sum() * (edges[1] - edges[0])
    return edges, densities[0] / scale, densities[1] / scale**2


def _range(name: str, block: Integration) -> tuple[float, float]:
    """Smallest and largest value of an observable within the cuts."""
    most = 1 - block.y_cut
    low = {"thrust": 2 / 3, "cos_theta": -block.max_cos_theta}
    least = max(2 * block.min_energy / block.energy, 2 * block.y_cut)
    return low.get(name, least), block.max_cos_theta if name == "cos_theta" else most


def distribution_figure(name: str, block: Integration, results: Results) -> Comparison:
    """One observable: the first method's weighted events, and unweighted ones of all methods."""
    first = next(iter(results))
    shown = {f"{first}, weighted": (results[first], False)}
    shown |= {f"{method}, unweighted": (of_seeds, True) for method, of_seeds in results.items()}
    histograms = []
    for label, (of_seeds, unweighted) in shown.items():
        edges, density, variance = histogram(name, of_seeds, block, unweighted=unweighted)
        role = "model" if unweighted else "reference"
        histograms.append(Histogram(label=label, values=density.tolist(), errors=np.sqrt(variance).tolist(), role=role))
    return Comparison(
        title="unweighted events",
        edges=edges.tolist(),
        histograms=histograms,
        x=Axis(label=OBSERVABLES[name][0]),
        y=Axis(label="normalised to unit area"),
        ratio=Axis(label=f"ratio to {first}", range=(0.8, 1.2)),
        notes=["all seeds together; overweights keep their weight"],
    )
