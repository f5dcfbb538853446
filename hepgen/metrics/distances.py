"""Distances between two weighted samples: Wasserstein, correlations, Fréchet and kernel distances.

Every public function takes generated events `x` and the truth `y`, gives the truth's scale to both, and returns a
distance that is zero (in the mean, for the unbiased `kpd`) where both are the same distribution.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import nnls

from hepgen.errors import HepgenError
from hepgen.metrics.divergences import effective_events
from hepgen.metrics.resampling import Estimate, Measure, estimate, permutation_p_value
from hepgen.metrics.weighted import matrix, mean_one, standardise

__all__ = ["fpd", "kpd", "p_value", "pearson_difference", "sliced_wasserstein", "wasserstein"]

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
# Larger ones make the p-value of the kernel distance too slow: the time rises with the square.
KERNEL_PERMUTED = 2000
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
    """Kernel physics distance: the unbiased squared maximum mean discrepancy with a kernel of degree four.

    The kernel of two events is (a·b/d + 1)⁴, every column divided by the truth's largest absolute value, and the
    value the median of ten batches of at most 5000 events. Batches are drawn with replacement, by the weights; for
    equal weights they are those that JetNet draws with the same seed.

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
    values = []
    for number in range(KERNEL_BATCHES):
        rng = np.random.default_rng(seed + 1000 * number)
        truth, drawn = _draw(y, y_weight, batch, rng), _draw(x, x_weight, batch, rng)
        values.append(_mean_kernel(drawn) + _mean_kernel(truth) - 2 * _kernel(drawn, truth).mean())
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
    permutations: int = 100,
    x_weight: np.ndarray | None = None,
    y_weight: np.ndarray | None = None,
) -> float:
    """Probability that a distance is at least as large if both samples have one parent, by a permutation test.

    The Fréchet and kernel distances are those of the whole samples, not of batches; of the latter at most 2000 events
    on each side, chosen at random.

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
        chosen = [rng.permutation(len(events))[:KERNEL_PERMUTED] for events in (x, y)]
        (x, y), weights = (x[chosen[0]], y[chosen[1]]), (weights[0][chosen[0]], weights[1][chosen[1]])
    return permutation_p_value(MEASURES[name](x, y, weights[1], seed), *weights, seed, permutations)


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
    return estimate(MEASURES[name](x, y, weights[1], seed), *weights, seed, replicas)


def _wasserstein_of(x: np.ndarray, y: np.ndarray, y_weight: np.ndarray, seed: int) -> Measure:
    return _transport(np.concatenate(standardise(x, y, y_weight))[:, 0])


def _transport(values: np.ndarray) -> Measure:
    """The area between the two cumulative distributions; `values` are sorted only once."""
    order = np.argsort(values)
    gaps = np.diff(values[order])
    return lambda first, second: float(np.abs(np.cumsum((first - second)[order])[:-1]) @ gaps)


def _sliced_of(x: np.ndarray, y: np.ndarray, y_weight: np.ndarray, seed: int) -> Measure:
    pooled = np.concatenate(standardise(x, y, y_weight))
    directions = np.random.default_rng(seed).normal(size=(PROJECTIONS, pooled.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    slices = [_transport(pooled @ direction) for direction in directions]
    return lambda first, second: float(np.mean([transport(first, second) for transport in slices]))


def _pearson_of(x: np.ndarray, y: np.ndarray, y_weight: np.ndarray, seed: int) -> Measure:
    moments_of = _moments_of(np.concatenate(standardise(x, y, y_weight)))
    return lambda first, second: float(
        np.abs(_correlations(moments_of(first)[1]) - _correlations(moments_of(second)[1])).max()
    )


def _correlations(covariance: np.ndarray) -> np.ndarray:
    root = np.sqrt(np.diag(covariance).clip(0))
    scale = np.outer(root, root)
    # A column that is constant but for rounding, in units of the truth's standard deviation.
    return np.divide(covariance, scale, out=np.zeros_like(scale), where=np.minimum.outer(root, root) > 1e-6)


def _frechet_of(x: np.ndarray, y: np.ndarray, y_weight: np.ndarray, seed: int) -> Measure:
    moments_of = _moments_of(np.concatenate(_unit_range(x, y)))
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
    return events.mean(0), np.atleast_2d(np.cov(events, rowvar=False))


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


def _kernel_of(x: np.ndarray, y: np.ndarray, y_weight: np.ndarray, seed: int) -> Measure:
    pooled = np.concatenate(_unit_range(x, y))
    kernel = _kernel(pooled, pooled)
    own = np.diag(kernel)

    def measure(first: np.ndarray, second: np.ndarray) -> float:
        weights = np.stack([first, second])
        means = weights @ kernel @ weights.T
        within = (np.diag(means) - weights**2 @ own) / (1 - np.sum(weights**2, 1))
        return float(within.sum() - 2 * means[0, 1])

    return measure


def _kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    kernel = a @ b.T
    kernel /= a.shape[1]
    kernel += 1
    np.square(kernel, out=kernel)
    return np.square(kernel, out=kernel)


def _mean_kernel(events: np.ndarray) -> float:
    """Mean kernel of an event with another one."""
    kernel = _kernel(events, events)
    return float((kernel.sum() - np.trace(kernel)) / (len(events) * (len(events) - 1)))


def _unit_range(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray, int], Measure]] = {
    "wasserstein": _wasserstein_of,
    "pearson": _pearson_of,
    "sliced_wasserstein": _sliced_of,
    "fpd": _frechet_of,
    "kpd": _kernel_of,
}
