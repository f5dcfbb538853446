"""What every comparison of weighted samples begins with: checked weights and a common scale."""

import numpy as np

from hepgen.errors import HepgenError

__all__ = ["matrix", "mean_one", "quantile", "standardise"]


def mean_one(events: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """The weights of events, shape (n, ...), scaled to a mean of one, shape (n,); None stands for equal weights.

    Raises:
        HepgenError: if there are no events, or the weights are not one per event, not finite, negative or all zero.
    """
    if not len(events):
        msg = "a sample to compare is empty; generate or keep at least one event"
        raise HepgenError(msg)
    if weight is None:
        return np.ones(len(events))
    if weight.shape != (len(events),):
        msg = f"{len(events)} events have weights of shape {weight.shape}; give one weight per event"
        raise HepgenError(msg)
    if not (np.isfinite(weight).all() and (weight >= 0).all() and weight.any()):
        msg = "event weights must be finite, not negative and not all zero; drop or clip the others before comparing"
        raise HepgenError(msg)
    return weight / weight.mean(dtype=np.float64)


def matrix(events: np.ndarray) -> np.ndarray:
    """Events as float64 of shape (n, d), of which those of shape (n,) get d = 1.

    Raises:
        HepgenError: if a value is not finite.
    """
    events = np.asarray(events, dtype=np.float64).reshape(len(events), -1)
    bad = len(events) - np.count_nonzero(np.isfinite(events).all(1))
    if bad:
        msg = f"{bad} of {len(events)} events to compare hold values that are not finite; drop them and count the loss"
        raise HepgenError(msg)
    return events


def standardise(x: np.ndarray, y: np.ndarray, y_weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets, shapes (n, d) and (m, d), in units of the second's standard deviations from its means.

    A column that is constant in the second set has no such unit and keeps its own.

    Raises:
        HepgenError: if a value is not finite.
    """
    x, y = matrix(x), matrix(y)
    mean = np.average(y, axis=0, weights=y_weight)
    scale = np.sqrt(np.average((y - mean) ** 2, axis=0, weights=y_weight))
    scale[scale <= 1e-12 * np.abs(mean)] = 1
    return (x - mean) / scale, (y - mean) / scale


def quantile(values: np.ndarray, weight: np.ndarray, level: float) -> float:
    """The smallest value, of shape (n,), with at least the share `level` of the weight at or below it."""
    order = np.argsort(values)
    cumulative = np.cumsum(weight[order])
    return float(values[order[np.searchsorted(cumulative, level * cumulative[-1])]])
