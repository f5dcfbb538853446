"""Whether generated events lie where the truth lies (fidelity) and reach all of it (diversity)."""

import numpy as np
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from hepgen.errors import HepgenError
from hepgen.metrics.resampling import Estimate
from hepgen.metrics.weighted import mean_one, standardise

__all__ = ["prdc"]

SUBSETS = 5
# Memory and time rise with its square.
SUBSET_EVENTS = 5000


def prdc(
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    *,
    neighbours: int = 5,
    x_weight: np.ndarray | None = None,
    y_weight: np.ndarray | None = None,
) -> dict[str, Estimate]:
    """Precision, recall, density and coverage, from balls around events that reach to their k-th nearest neighbour.

    Precision is the share of generated events inside any ball of the truth, recall that of true events inside any
    ball of the generated events; density is how many balls of the truth hold a generated event, over k; coverage is
    the share of true events with a generated event in their ball. Truth against truth gives density 1 and a coverage
    near 1 − 2⁻ᵏ, but precision and recall below one that depend on the dimensions and the number of events: compare
    with the null value at equal numbers. Balls of weighted events reach as far as k + 1 events of mean weight,
    themselves included, so that a weight of two is the same as two equal events.

    Args:
        x: Generated events of shape (n, d), taken in units of the truth's standard deviation.
        y: The truth, shape (m, d).
        seed: Fixes five disjoint subsets of each side, of at most 5000 events.
        neighbours: k.
        x_weight: Event weights of shape (n,); None for equal ones.
        y_weight: The same of the truth, shape (m,).

    Returns:
        The mean over the subsets, with the error from their spread.

    Raises:
        HepgenError: if the subsets hold no more than k events.

    References:
        Kynkäänniemi et al., Improved Precision and Recall Metric for Assessing Generative Models, 2019,
        arXiv:1904.06991; Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models, 2020,
        arXiv:2002.09797.
    """
    weights = mean_one(x, x_weight), mean_one(y, y_weight)
    x, y = standardise(x, y, weights[1])
    sides = [(events[weight > 0], weight[weight > 0]) for events, weight in zip((x, y), weights, strict=True)]
    size = min(SUBSET_EVENTS, *(len(weight) // SUBSETS for _, weight in sides))
    if size <= neighbours:
        msg = (
            f"coverage needs more than {SUBSETS * neighbours} events of positive weight on each side, found "
            f"{' and '.join(str(len(weight)) for _, weight in sides)}; draw more"
        )
        raise HepgenError(msg)
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(len(weight))[: SUBSETS * size].reshape(SUBSETS, size) for _, weight in sides]
    values = [
        _compare(*(array[rows] for (side, rows) in zip(sides, pair, strict=True) for array in side), neighbours)
        for pair in zip(*chosen, strict=True)
    ]
    return {
        name: Estimate(float(np.mean(column)), float(np.std(column, ddof=1) / np.sqrt(SUBSETS)))
        for name, column in zip(("precision", "recall", "density", "coverage"), zip(*values, strict=True), strict=True)
    }


def _compare(
    x: np.ndarray, x_weight: np.ndarray, y: np.ndarray, y_weight: np.ndarray, neighbours: int
) -> tuple[float, float, float, float]:
    x_weight, y_weight = x_weight / x_weight.mean(), y_weight / y_weight.mean()
    distance = cdist(x, y)
    in_truth = distance <= _radii(y, y_weight, neighbours)
    in_generated = distance <= _radii(x, x_weight, neighbours)[:, None]
    return (
        float(np.average(in_truth.any(1), weights=x_weight)),
        float(np.average(in_generated.any(0), weights=y_weight)),
        float(np.average(in_truth @ y_weight, weights=x_weight) / neighbours),
        float(np.average(in_truth.any(0), weights=y_weight)),
    )


def _radii(events: np.ndarray, weight: np.ndarray, neighbours: int) -> np.ndarray:
    """How far from each event the weight around it, its own included, reaches k + 1, shape (n,)."""
    tree = KDTree(events)
    radii = np.empty(len(events))
    left, queried = np.arange(len(events)), neighbours + 1
    while len(left):
        queried = min(queried, len(events))
        distance, nearest = tree.query(events[left], queried)
        # Rounding must not ask for one neighbour more.
        reached = np.cumsum(weight[nearest], axis=1) >= neighbours + 1 - 1e-9
        done = reached[:, -1] | (queried == len(events))
        first = np.where(reached.any(1), reached.argmax(1), queried - 1)
        radii[left[done]] = distance[done, first[done]]
        left, queried = left[~done], 2 * queried
    return radii
