"""How many true events a generated sample is worth."""

from typing import NamedTuple

import numpy as np

from hepgen.errors import HepgenError
from hepgen.metrics.intervals import Interval
from hepgen.metrics.weighted import matrix, mean_one, quantile

__all__ = ["LEAST", "Amplification", "amplification"]

# Mean number of true events that a cell's probability is measured with.
CELL_EVENTS = 50
# True events that make two cells.
LEAST = 4 * CELL_EVENTS
MOST_LEVELS = 10


class Amplification(NamedTuple):
    """How many true events know the truth as well as a generator does.

    Attributes:
        equivalent: Their number, with its 68 % interval; a sample of N generated events is worth 1/(1/n + 1/N) of
            them.
        factor: The same over the number of training events: above one the generator has amplified them.
        training: The number of training events.
        bound: Whether no difference from the truth is seen beyond one standard deviation; then the numbers are lower
            bounds (of 84 % confidence) and their upper ends infinite.
    """

    equivalent: Interval
    factor: Interval
    training: int
    bound: bool


def amplification(
    x: np.ndarray,
    y: np.ndarray,
    training: int,
    seed: int,
    *,
    x_weight: np.ndarray | None = None,
    y_weight: np.ndarray | None = None,
) -> Amplification:
    """Equivalent number of true events, from the probabilities of K cells of equal probability.

    1. A random half of the truth is cut at its median in one column after the other, over and over: K = 2^levels
       cells, such that each holds about 50 events of the other half. It cuts few columns more than once and, where
       there are more than levels, the last ones never. So each column alone is cut into K cells, too.
    2. The other half of the truth gives the probabilities p of the cells, the generated events the probabilities g.
    3. Their distance D = K Σ (g − p)² exceeds that of an infinite generated sample from the exact probabilities by
       the noise K Σ (var g + var p), which is subtracted. The variances are those of weighted shares.
    4. n true events have on average the distance K Σ p(1 − p)/n: solved for n, it is the equivalent number.
    5. The variance of D is K² Σ (4 (g − p)² v − 2 v²) with v = var g + var p, the unbiased estimate of that of squared
       normals, and not below its value 2 K² Σ v² without a difference.
    6. Of the results in the cells of all columns and in those of each column, the one with the smallest lower end
       counts. This makes the lower bound a careful one: no cells may show a larger difference.

    The published method compares with samples of the exact density; here it is estimated from held-out events, so
    that no more can be seen than these allow. Finer cells would see more of the generator's small structures.

    Args:
        x: Generated events of shape (n, d).
        y: Truth that the generator has not seen, shape (m, d), the larger the better.
        training: How many true events the generator was trained on.
        seed: Fixes the halves.
        x_weight: Event weights of shape (n,); None for equal ones.
        y_weight: The same of the truth, shape (m,).

    Raises:
        HepgenError: if the truth is too small for two cells.

    References:
        Butter, Diefenbacher, Kasieczka, Nachman, Plehn, GANplifying event samples, 2021, arXiv:2008.06545; Bieringer
        et al., Calomplification, 2022, arXiv:2202.07352.
    """
    levels = min(int(np.log2(max(len(y) / 2 / CELL_EVENTS, 1))), MOST_LEVELS)
    if levels < 1:
        msg = f"the amplification needs at least {LEAST} held-out true events, found {len(y)}"
        raise HepgenError(msg)
    x, y, x_weight, y_weight = matrix(x), matrix(y), mean_one(x, x_weight), mean_one(y, y_weight)
    halves = np.array_split(np.random.default_rng(seed).permutation(len(y)), 2)
    columns = [[k] for k in range(x.shape[1])]
    results = []
    for chosen in [list(range(x.shape[1])), *(columns if len(columns) > 1 else [])]:
        first, second = ((y[rows][:, chosen], y_weight[rows]) for rows in halves)
        results.append(_equivalent((x[:, chosen], x_weight), first, second, levels))
    equivalent, bound = min(results, key=lambda result: result[0].low)
    factor = Interval(*(number / training for number in equivalent))
    return Amplification(equivalent, factor, training, bound)


def _equivalent(
    x: tuple[np.ndarray, np.ndarray],
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    levels: int,
) -> tuple[Interval, bool]:
    """Equivalent number of true events, and whether it is a bound, by cells from the first half of the truth.

    Args:
        x: Generated events, shape (n, d), and their weights.
        first: The same of the half of the truth that the cells are cut in.
        second: The same of the other half.
        levels: How often cells are cut in two.
    """
    thresholds = _cut(*first, levels)
    cells = 2**levels
    (g, g_variance), (p, p_variance) = (
        _shares(_cells(events, thresholds), weight, cells) for events, weight in (x, second)
    )
    noise = g_variance + p_variance
    squares = (g - p) ** 2
    distance = cells * np.sum(squares - noise)
    variance = np.sum(4 * squares * noise - 2 * noise**2)
    spread = cells * np.sqrt(max(variance, np.sum(2 * noise**2)))
    of_one = cells * np.sum(p * (1 - p))
    low = of_one / max(distance + spread, spread)
    bound = bool(distance <= spread)
    equivalent = (low, low, np.inf) if bound else (of_one / distance, low, of_one / (distance - spread))
    return Interval(*map(float, equivalent)), bound


def _cut(events: np.ndarray, weight: np.ndarray, levels: int) -> list[np.ndarray]:
    """Medians at which the cells of every level are cut in two, shapes (1,), (2,), (4,) and so on."""
    thresholds: list[np.ndarray] = []
    for level in range(levels):
        cell = _cells(events, thresholds)
        column = events[:, level % events.shape[1]]
        members = (cell == number for number in range(2**level))
        # A cell may stay empty where a column has few different values.
        thresholds.append(np.array([quantile(column[m], weight[m], 0.5) if weight[m].any() else 0.0 for m in members]))
    return thresholds


def _cells(events: np.ndarray, thresholds: list[np.ndarray]) -> np.ndarray:
    """The cell of each event, shape (n,)."""
    cell = np.zeros(len(events), dtype=np.int64)
    for level, cuts in enumerate(thresholds):
        cell = 2 * cell + (events[:, level % events.shape[1]] > cuts[cell])
    return cell


def _shares(cell: np.ndarray, weight: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """The weight's shares in the cells and their variances, shapes (cells,)."""
    total = weight.sum()
    share = np.bincount(cell, weight, cells) / total
    squares = np.bincount(cell, weight**2, cells) / total**2
    return share, (1 - share) ** 2 * squares + share**2 * (squares.sum() - squares)
