"""Events of equal weight from weighted ones by hit or miss."""

import numpy as np

__all__ = ["bootstrap_maximum", "unweight"]

# The events are so many times those of a replica; hepgen's own choice: the largest 50 ln 2 or 35 are overweights.
POOL = 50


def bootstrap_maximum(weight: np.ndarray) -> float:
    """The median, over bootstrap replicas of a fiftieth of the events, of a replica's largest weight.

    It is taken in the limit of many replicas: of m events drawn with replacement none lies above the quantile q with
    the probability q^m, so that the median is the quantile 2^(-1/m), whatever the random numbers. Unlike the largest
    weight of all it does not hang on one outlier.

    Args:
        weight: Event weights, shape (n,).

    References:
        Gao, Höche, Isaacson, Krause, Schulz, Event generation with normalizing flows, 2020, arXiv:2001.10028.
    """
    return float(np.quantile(weight, 0.5 ** (1 / max(len(weight) // POOL, 1)), method="inverted_cdf"))


def unweight(weight: np.ndarray, maximum: float, rng: np.random.Generator) -> np.ndarray:
    """Weights after hit or miss, shape (n,): 0 for a rejected event, 1, or what a weight is above the maximum.

    Since overweights are kept, no distribution depends on the maximum.
    """
    ratio = weight / maximum
    return np.where(rng.random(len(weight)) < ratio, np.maximum(ratio, 1.0), 0.0)
