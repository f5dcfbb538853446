"""Histograms with errors and the χ² between them."""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import chdtrc

__all__ = ["Chi2", "Counts", "chi2", "count"]


class Counts(NamedTuple):
    """Contents of n + 2 bins, the first and last being underflow and overflow, and their variances."""

    values: np.ndarray
    variances: np.ndarray

    @property
    def events(self) -> float:
        """How many events of equal weight are known as well."""
        return float(self.values.sum() ** 2 / self.variances.sum())


class Chi2(NamedTuple):
    """χ², its degrees of freedom and the standard deviation of χ²/ndf."""

    value: float
    ndf: int

    @property
    def per_ndf(self) -> float:
        return self.value / self.ndf

    @property
    def error(self) -> float:
        """Standard deviation of χ²/ndf: that of a non-central χ² with the excess over ndf as its centre."""
        excess = max(self.value - self.ndf, 0.0)
        return math.sqrt(2 * (self.ndf + 2 * excess)) / self.ndf

    @property
    def p_value(self) -> float:
        """Probability of a χ² at least as large from equal parents; bins must hold several events each."""
        return float(chdtrc(self.ndf, self.value))


def count(values: np.ndarray, edges: np.ndarray, weights: np.ndarray | None = None) -> Counts:
    """Histogram finite values of shape (n,), keeping what lies outside the edges.

    Args:
        values: One number per event.
        edges: Rising bin edges, shape (bins + 1,); bins are closed on the left.
        weights: Event weights of shape (n,); the variance of a bin is the sum of their squares.
    """
    bins = np.searchsorted(edges, values, side="right")
    weights = np.ones(len(values)) if weights is None else weights
    size = len(edges) + 1
    return Counts(np.bincount(bins, weights, size), np.bincount(bins, weights**2, size))


def chi2(first: Counts, second: Counts) -> Chi2:
    """χ² = Σ (a − b)²/(σ²_a + σ²_b) over bins that are not empty in both, of two histograms of equal sums.

    With unit weights its mean is ndf at any bin content: given a + b, a is binomial. The equal sums cost one
    degree of freedom.
    """
    variances = first.variances + second.variances
    filled = variances > 0
    difference = (first.values - second.values)[filled]
    return Chi2(float(np.sum(difference**2 / variances[filled])), max(int(filled.sum()) - 1, 1))
