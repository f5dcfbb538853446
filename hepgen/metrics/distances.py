"""Distances between two weighted samples: Wasserstein, correlations, Fréchet and kernel distances.

Every distance takes generated events `x` and the truth `y`, gives the truth's scale to both, and would be zero for
endless samples of one distribution. Finite ones leave something above zero: hold it against that of truth with truth.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import nnls

from hepgen.errors import HepgenError
from hepgen.metrics.divergences import effective_events
from hepgen.metrics.resampling import PERMUTATIONS, Estimate, Measure, estimate, permutation_p_value
from hepgen.metrics.weighted import matrix, mean_one, standardise

__all__ = [
    "FEWEST",
    "correlations",
    "fpd",
    "kpd",
    "p_value",
    "pearson_difference",
    "sliced_wasserstein",
    "wasserstein",
]

# With as many the error of a bootstrap is known to 14 %.
REPLICAS = 25
PROJECTIONS = 50
# Kansal et al. measure the Fréchet distance of 20 batches at each of 10 sizes between these two, and the kernel
# distance of 10 batches of 5000 (arXiv:2211.10295; the defaults of their library JetNet).
FRECHET_SIZES = (20_000, 50_000)
FRECHET_POINTS = 10
FRECHET_BATCHES = 20
KERNEL_BATCHES = 10
KERNEL_BATCH = 5000
# Effective events of each side that a Fréchet or kernel distance needs.
FEWEST = 50


def wasserstein(
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    replicas: int = REPLICAS,
    *,
    x_weight: np.ndarray | None = None,
    y_weight: np.ndarray | None = None,
) -> Estimate:
    """First Wasserstein distance in units of the truth's standard deviation, with its bootstrap error.

    Args:
        x: One number per event, shape (n,).
        y: The same of the truth, shape (m,).
        seed: Fixes the replicas.
        replicas: Bootstrap replicas of both sides; with 25 the error is known to 14 %.
        x_weight: Event weights of shape (n,); None for equal ones.
        y_weight: The same of the truth, shape (m,).
    """
    return _estimate("wasserstein", x, y, seed, replicas, x_weight, y_weight)


def pearson_difference(
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    replicas: int = REPLICAS,
    *,
    x_weight: np.ndarray | None = None,
    y_weight: np.ndarray | None = None,
) -> Estimate:
    """Largest absolute difference of two sets' correlation coefficients, with its bootstrap error.

    Args:
        x: Events of shape (n, d); a constant column counts as uncorrelated.
        y: The truth, shape (m, d).
        seed: Fixes the replicas.
        replicas: Bootstrap replicas of both sides.
        x_weight: Event weights of shape (n,); None for equal ones.
        y_weight: The same of the truth, shape (m,).
    """
    return _estimate("pearson", x, y, seed, replicas, x_weight, y_weight)


def sliced_wasserstein(
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    *,
    x_weight: np.ndarray | None = None,
    y_weight: np.ndarray | None = None,
) -> Estimate:
    """Mean first Wasserstein distance of the projections on 50 random directions, with its bootstrap error.

    Args:
        x: Events of shape (n, d); every column is taken in units of the truth's standard deviation.
        y: The truth, shape (m, d).
        seed: Fixes the directions, which are uniform on the sphere, and the replicas.
        x_weight: Event weights of shape (n,); None for equal ones.
        y_weight: The same of the truth, shape (m,).

    References:
        Bonneel, Rabin, Peyré, Pfister, Sliced and Radon Wasserstein Barycenters of Measures, 2015, J. Math. Imaging
        Vis. 51, 22.
    """
    return _estimate("sliced_wasserstein", x, y, seed, REPLICAS, x_weight, y_weight)


def fpd(
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    *,
    x_weight: np.ndarray | None = None,
    y_weight: np.ndarray | None = None,
) -> Estimate:
    """Fréchet physics distance, extrapolated to infinite batches by a fit linear in one over their size.

    It is the squared Wasserstein distance of the two normals with the samples' means and covariances, every column
    divided by the truth's largest absolute value. Batches are drawn with replacement, by the weights; for equal
    weights they are those that JetNet draws with the same seed. Where a sample is smaller than its 50 000 events, the
    batches are smaller in proportion. The finite samples themselves leave a distance above zero: see the null value.

    Args:
        x: Events of shape (n, d).
        y: The truth, shape (m, d).
        seed: Fixes the batches.
        x_weight: Event weights of shape (n,); None for equal ones.
        y_weight: The same of the truth, shape (m,).

    Returns:
        The distance, with an error from the spread of the largest batches, scaled to the samples' size where these
        are larger, and from the fit.

    Raises:
        HepgenError: if a sample has fewer than 50 events.

    References:
        Kansal et al., Evaluating generative models in high energy physics, 2023, arXiv:2211.10295.
    """
    size = _size(x, y, x_weight, y_weight)
    shrink = min(size / FRECHET_SIZES[1], 1)
    sizes = (1 / np.linspace(*(1 / (bound * shrink) for bound in FRECHET_SIZES), FRECHET_POINTS)).astype(np.int64)
    x, y = _unit_range(x, y)
    rng = np.random.default_rng(seed)
    distances = np.empty((FRECHET_POINTS, FRECHET_BATCHES))
    for point, batch in np.ndindex(distances.shape):
        truth, drawn = _draw(y, y_weight, sizes[point], rng), _draw(x, x_weight, sizes[point], rng)
        distances[point, batch] = _frechet(*_sample_moments(drawn), *_sample_moments(truth))
    value, fit_error = _intercept(1 / sizes, distances.mean(1))
    spread = distances[-1].std(ddof=1) * math.sqrt(sizes[-1] / size)
    return Estimate(value, math.hypot(spread, fit_error))


def kpd(
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    *,
    x_weight: np.ndarray | None = None,
    y_weight: np.ndarray | None = None,
) -> Estimate:
    """Kernel physics distance: the squared maximum mean discrepancy with a kernel of degree four.

    The kernel of two events is (a·b/d + 1)⁴, every column divided by the truth's largest absolute value, and the
    value the median of ten batches of at most 5000 events. Batches are drawn with replacement, by the weights; for
    equal weights they are those that JetNet draws with the same seed. An event that is drawn twice is like another
    one of its kind, so that equal parents have a distance above zero, of the order of one over the samples' size.

    Args:
        x: Events of shape (n, d).
        y: The truth, shape (m, d).
        seed: Fixes the batches.
        x_weight: Event weights of shape (n,); None for equal ones.
        y_weight: The same of the truth, shape (m,).

    Returns:
        The median and its error: half of the batches' central 68 % (which is JetNet's error, that of a single batch)
        scaled to the median of ten batches from samples of this size.

    Raises:
        HepgenError: if a sample has fewer than 50 events.

    References:
        Kansal et al., Evaluating generative models in high energy physics, 2023, arXiv:2211.10295.
    """
    size = _size(x, y, x_weight, y_weight)
    batch = min(KERNEL_BATCH, len(x), len(y))
    x, y = _unit_range(x, y)
    sides = np.kron(np.eye(2), np.full(batch, 1 / batch))
    values = []
    for number in range(KERNEL_BATCHES):
        rng = np.random.default_rng(seed + 1000 * number)
        truth, drawn = _draw(y, y_weight, batch, rng), _draw(x, x_weight, batch, rng)
        values.append(_discrepancy(np.concatenate([drawn, truth]))(*sides))
    low, high = np.percentile(values, [16.275, 83.725])
    # The median of independent batches, which share the fluctuations of the samples that they are drawn from.
    scale = math.sqrt(math.pi / 2 / KERNEL_BATCHES + batch / size)
    return Estimate(float(np.median(values)), float(high - low) / 2 * scale)


def p_value(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    *,
    permutations: int = PERMUTATIONS,
    x_weight: np.ndarray | None = None,
    y_weight: np.ndarray | None = None,
) -> float:
    """Probability that a distance is at least as large if both samples have one parent, by a permutation test.

    Both samples together give the scale here, so that they can be exchanged. The Fréchet and kernel distances are
    those of the whole samples, not of batches; of the latter at most 5000 events on each side, chosen at random.

    Args:
        name: ``wasserstein`` (of one column), ``pearson``, ``sliced_wasserstein``, ``fpd`` or ``kpd``.
        x: Events of shape (n, d), or (n,).
        y: The truth, shape (m, d), or (m,).
        seed: Fixes the permutations and whatever else is drawn.
        permutations: How many; the smallest p-value is 1/(permutations + 1).
        x_weight: Event weights of shape (n,); None for equal ones. With weights the p-value holds for n = m.
        y_weight: The same of the truth, shape (m,).
    """
    weights = mean_one(x, x_weight), mean_one(y, y_weight)
    if name == "kpd":
        rng = np.random.default_rng(seed)
        chosen = [rng.permutation(len(events))[:KERNEL_BATCH] for events in (x, y)]
        (x, y), weights = (x[chosen[0]], y[chosen[1]]), (weights[0][chosen[0]], weights[1][chosen[1]])
    scale = np.concatenate([matrix(x), matrix(y)]), np.concatenate(weights)
    return permutation_p_value(_measure(name, x, y, scale, seed), *weights, seed, permutations)


def correlations(x: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """Pearson's correlation coefficients of events, shape (d, d), 0 of a constant column with any other and itself.

    Args:
        x: Events of shape (n, d).
        weight: Event weights of shape (n,); None for equal ones.
    """
    weight = mean_one(x, weight)
    return _coefficients(_moments_of(standardise(x, x, weight)[0])(weight / weight.sum())[1])


def _estimate(
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    replicas: int,
    x_weight: np.ndarray | None,
    y_weight: np.ndarray | None,
) -> Estimate:
    weights = mean_one(x, x_weight), mean_one(y, y_weight)
    return estimate(_measure(name, x, y, (y, weights[1]), seed), *weights, seed, replicas)


def _measure(name: str, x: np.ndarray, y: np.ndarray, scale: tuple[np.ndarray, np.ndarray], seed: int) -> Measure:
    """The distance of x from y in the scale of weighted events."""
    in_units, distance = MEASURES[name]
    return distance(in_units(np.concatenate([matrix(x), matrix(y)]), *scale)[0], seed)


def _wasserstein_of(pooled: np.ndarray, seed: int) -> Measure:
    return _transport(pooled[:, 0])


def _transport(values: np.ndarray) -> Measure:
    """The area between the two cumulative distributions; `values` are sorted only once."""
    order = np.argsort(values)
    gaps = np.diff(values[order])
    return lambda first, second: float(np.abs(np.cumsum((first - second)[order])[:-1]) @ gaps)


def _sliced_of(pooled: np.ndarray, seed: int) -> Measure:
    directions = np.random.default_rng(seed).normal(size=(PROJECTIONS, pooled.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    slices = [_transport(pooled @ direction) for direction in directions]
    return lambda first, second: float(np.mean([transport(first, second) for transport in slices]))


def _pearson_of(pooled: np.ndarray, seed: int) -> Measure:
    moments_of = _moments_of(pooled)
    return lambda first, second: float(
        np.abs(_coefficients(moments_of(first)[1]) - _coefficients(moments_of(second)[1])).max()
    )


def _coefficients(covariance: np.ndarray) -> np.ndarray:
    root = np.sqrt(np.diag(covariance).clip(0))
    scale = np.outer(root, root)
    # A column that is constant but for rounding, in units of the truth's standard deviation.
    return np.divide(covariance, scale, out=np.zeros_like(scale), where=np.minimum.outer(root, root) > 1e-6)


def _frechet_of(pooled: np.ndarray, seed: int) -> Measure:
    moments_of = _moments_of(pooled)
    return lambda first, second: _frechet(*moments_of(first), *moments_of(second))


def _moments_of(pooled: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Mean and covariance as a function of weights of sum one; the products of columns are taken only once."""
    size = pooled.shape[1]
    rows, columns = np.triu_indices(size)
    products = np.hstack([pooled, pooled[:, rows] * pooled[:, columns]])

    def moments_of(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        means, covariance = weight @ products, np.empty((size, size))
        covariance[rows, columns] = covariance[columns, rows] = means[size:]
        return means[:size], covariance - np.outer(means[:size], means[:size])

    return moments_of


def _sample_moments(events: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = events.mean(0)
    centred = events - mean
    return mean, centred.T @ centred / (len(events) - 1)


def _frechet(mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray) -> float:
    """|Δμ|² + Tr(A + B − 2 (AB)^½), of which the last trace is that of the root of A^½ B A^½."""
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    return float(np.sum((mean_a - mean_b) ** 2) + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def _intercept(abscissa: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Intercept of a straight line whose intercept and slope are not negative, and its error from the residuals."""
    design = np.column_stack([np.ones_like(abscissa), abscissa])
    solution, residual = nnls(design, values)
    variance = residual**2 / (len(values) - 2) * np.linalg.inv(design.T @ design)[0, 0]
    return float(solution[0]), math.sqrt(variance)


def _discrepancy(pooled: np.ndarray, seed: int = 0) -> Measure:
    """The unbiased squared discrepancy; an event's kernel with itself is left out.

    The kernel is (q·q')², with q the products of the pairs of an event's values and 1. Its mean over two sets is the
    sum of the products of their second moments of q, so that the time rises with the events and not their square.
    """
    values = np.column_stack([pooled / math.sqrt(pooled.shape[1]), np.ones(len(pooled))])
    rows, columns = np.triu_indices(values.shape[1])
    pairs = values[:, rows] * values[:, columns] * np.where(rows == columns, 1, math.sqrt(2))
    own = np.square(pairs).sum(1) ** 2

    def measure(first: np.ndarray, second: np.ndarray) -> float:
        one, other = ((pairs * weight[:, None]).T @ pairs for weight in (first, second))
        within = sum(
            (np.sum(moments**2) - weight**2 @ own) / (1 - weight @ weight)
            for moments, weight in ((one, first), (other, second))
        )
        return float(within - 2 * np.sum(one * other))

    return measure


def _unit_range(x: np.ndarray, y: np.ndarray, y_weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Both sets divided by the largest absolute value of the second one's columns; one of zeros is kept."""
    x, y = matrix(x), matrix(y)
    largest = np.abs(y).max(0)
    largest[largest == 0] = 1
    return x / largest, y / largest


def _size(x: np.ndarray, y: np.ndarray, x_weight: np.ndarray | None, y_weight: np.ndarray | None) -> float:
    """Events of the smaller sample, for weighted ones the effective number.

    Raises:
        HepgenError: if these are fewer than 50.
    """
    size = min(effective_events(mean_one(x, x_weight)), effective_events(mean_one(y, y_weight)))
    if size < FEWEST:
        msg = f"this distance needs at least {FEWEST} (effective) events on each side, found {size:.0f}; draw more"
        raise HepgenError(msg)
    return size


def _draw(events: np.ndarray, weight: np.ndarray | None, size: int, rng: np.random.Generator) -> np.ndarray:
    chances = None if weight is None else weight / weight.sum()
    return events[rng.choice(len(events), size=size, p=chances)]


# How events are scaled, and the distance of scaled ones.
MEASURES: dict[str, tuple[Callable[..., tuple[np.ndarray, np.ndarray]], Callable[[np.ndarray, int], Measure]]] = {
    "wasserstein": (standardise, _wasserstein_of),
    "pearson": (standardise, _pearson_of),
    "sliced_wasserstein": (standardise, _sliced_of),
    "fpd": (_unit_range, _frechet_of),
    "kpd": (_unit_range, _discrepancy),
}
