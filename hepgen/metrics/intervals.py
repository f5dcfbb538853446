"""68 % intervals from resampled events and repeated trainings."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.sparse import csc_matrix
from scipy.special import betaincinv

from hepgen.errors import HepgenError

__all__ = ["LEVEL", "Interval", "binned_sums", "bootstrap", "draw_counts", "interval", "inverse"]

LEVEL = 0.6827


class Interval(NamedTuple):
    """A value and the bounds of its central 68.27 % interval."""

    value: float
    low: float
    high: float


def bootstrap(
    statistic: Callable[[np.ndarray], np.ndarray | float], strata: np.ndarray, *, replicas: int = 200, seed: int
) -> np.ndarray:
    """Recompute a statistic on events drawn with replacement (Efron 1979).

    Events are drawn within each stratum, so that no class of events can vanish from a replica.

    Args:
        statistic: Takes how often each event was drawn, integers of shape (n,), and returns one or more numbers.
        strata: The class of every event, shape (n,); a constant array for a plain bootstrap.
        replicas: How many times to draw.
        seed: Fixes the draws.

    Returns:
        The statistic of every replica, shape (replicas, ...).
    """
    return np.asarray([statistic(counts) for counts in _drawn(strata, replicas, seed)])


def draw_counts(strata: np.ndarray, *, replicas: int = 200, seed: int) -> np.ndarray:
    """How often each event is drawn in every replica of `bootstrap`, shape (n, replicas), float32."""
    counts = np.empty((replicas, len(strata)), dtype=np.float32)
    for row, drawn in zip(counts, _drawn(strata, replicas, seed), strict=True):
        row[:] = drawn
    return np.ascontiguousarray(counts.T)


def binned_sums(rows: np.ndarray, weight: np.ndarray, size: int, counts: np.ndarray) -> np.ndarray:
    """Sums of the weights of the events in each of several bins, for many resamplings at once.

    Args:
        rows: The bin of each event, shape (n,).
        weight: The events' weights, shape (n,).
        size: How many bins there are.
        counts: How often each event is taken, shape (n, replicas); its precision is that of the sums.

    Returns:
        Shape (replicas, size), float64.
    """
    starts = np.arange(len(rows) + 1)
    matrix = csc_matrix((weight.astype(counts.dtype), rows, starts), shape=(size, len(rows)))
    return (matrix @ counts).T.astype(np.float64)


def _drawn(strata: np.ndarray, replicas: int, seed: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(strata == value) for value in np.unique(strata)]
    for _ in range(replicas):
        counts = np.zeros(len(strata), dtype=np.int64)
        for members in classes:
            counts[members] = np.bincount(rng.integers(len(members), size=len(members)), minlength=len(members))
        yield counts


def interval(
    nominal: np.ndarray, replicas: np.ndarray, *, seed: int, support: tuple[float, float] = (-np.inf, np.inf)
) -> Interval:
    """The mean over trainings and its interval over test events and trainings together.

    The spread of the bootstrap replicas around their own mean (so that a biased replica does not shift the value)
    is convolved with Student's t for the mean of a few trainings, which widens it as it should for two or three
    (and by up to a tenth too much where both contribute alike: Behrens and Fisher's problem).

    Args:
        nominal: The statistic of each of S trainings on the events as they are, shape (S,).
        replicas: The same on B bootstrap replicas, shape (B, S); the trainings share each replica's events.
        seed: Fixes the random numbers of the convolution.
        support: The smallest and the largest possible value, at which the interval ends.

    Raises:
        HepgenError: if a value is not finite.
    """
    nominal, replicas = np.atleast_1d(nominal), np.asarray(replicas, dtype=np.float64)
    if not (np.isfinite(nominal).all() and np.isfinite(replicas).all()):
        msg = "a figure of merit is not finite; are there too few events to measure it?"
        raise HepgenError(msg)
    trainings = len(nominal)
    means = np.repeat(replicas.reshape(len(replicas), trainings).mean(1), 50)
    deviations = means - means.mean()
    if trainings > 1:
        error = nominal.std(ddof=1) / np.sqrt(trainings)
        deviations += error * np.random.default_rng(seed).standard_t(trainings - 1, size=len(deviations))
    low, high = np.quantile(deviations, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    value = float(nominal.mean())
    return Interval(value, max(value + min(low, 0.0), support[0]), min(value + max(high, 0.0), support[1]))


def inverse(efficiency: Interval, events: float) -> Interval:
    """The inverse of an efficiency, e.g. the rejection of background, with an interval for however few events pass.

    Few events hardly differ between bootstrap replicas, so that the efficiency's interval is made no narrower than
    Jeffreys' for a binomial proportion (Brown, Cai, DasGupta 2001). Nor does it reach below that of one event: a
    larger inverse is beyond what can be measured.

    Args:
        efficiency: The efficiency, at least 1/events, and its interval.
        events: The effective number of events that it was measured on.
    """
    one, passing = (_jeffreys(count, events) for count in (1.0, efficiency.value * events))
    low = max(min(efficiency.low, passing[0]), one[0])
    high = min(max(efficiency.high, passing[1]), 1.0)
    return Interval(1 / efficiency.value, 1 / high, 1 / low)


def _jeffreys(passing: float, events: float) -> tuple[float, float]:
    low, high = betaincinv(passing + 0.5, events - passing + 0.5, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
