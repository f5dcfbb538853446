"""How far apart two spectra may be by chance, known from a few replicas only."""

from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtr, chdtri, fdtrc, fdtri

__all__ = ["Agreement", "agreement", "merged", "projected"]


class Agreement(NamedTuple):
    """A statistic, the limit beyond which a test fails, and the probability of as much by chance."""

    statistic: float
    limit: float
    p_value: float


def agreement(difference: np.ndarray, noise: np.ndarray, level: float) -> Agreement:
    """Whether a difference of two spectra is noise: its square over that of the noise, summed over cells.

    Cells are correlated and replicas fewer than cells, so that there is no covariance matrix to invert. The sum of
    squares of Gaussian noise of covariance C is taken for a scaled χ² of the same mean and variance, with
    (tr C)²/tr C² degrees of freedom n (Satterthwaite 1946, Biometrics Bulletin 2, 110), whose traces are estimated
    without bias. With its mean from R replicas the ratio follows F of n and n (R − 1) degrees of freedom.

    Args:
        difference: Shape (C,), in units in which all cells are to count alike.
        noise: R replicas of what the difference is without a cause, up to a constant, in the same units, shape (R, C).
        level: Probability of a true difference of zero to fail.

    Returns:
        The sum of squares over that expected of noise, its limit and its p-value.
    """
    freedom = len(noise) - 1
    centred = noise - noise.mean(0)
    gram = centred @ centred.T / freedom
    trace = np.trace(gram)
    squares = (np.sum(gram**2) - trace**2 / freedom) * freedom**2 / ((freedom - 1) * (freedom + 2))
    ndf = trace**2 / np.clip(squares, trace**2 / len(difference), trace**2)
    ratio = difference @ difference / trace
    limit, p_value = fdtri(ndf, freedom * ndf, 1 - level), fdtrc(ndf, freedom * ndf, ratio)
    return Agreement(float(ratio), float(limit), float(p_value))


def projected(
    difference: np.ndarray, replicas: np.ndarray, folded: np.ndarray, variances: np.ndarray, level: float
) -> Agreement:
    """Whether unfolded data reject a model more strongly than the data as measured, which they must not.

    If the unfolded spectrum is a linear function of the data that returns the model for the model's data, its χ² is
    that of a projection: what is left of the folded χ² is at least a χ² of E − C degrees of freedom. A p-value near 0
    says that too little is left: the covariance of the unfolded spectrum is too small.

    References:
        Cousins, May, Sun, "Should unfolded histograms be used to test hypotheses?", 2016, arXiv:1607.07038 (the bottom
        line test); Hartlap, Simon, Schneider, "Why your model parameter confidences might be too optimistic", 2007,
        arXiv:astro-ph/0608064 (the inverse of a covariance matrix of few replicas).

    Args:
        difference: Unfolded data minus the model, in C cells, shape (C,).
        replicas: The unfolded spectrum of R > C + 2 bootstrap replicas of the data, shape (R, C).
        folded: Data minus the model at detector level, in E > C cells, shape (E,).
        variances: Variances of the data there, shape (E,).
        level: Probability of a correct covariance to fail.

    Returns:
        The unfolded χ², corrected for the noise of the covariance, the largest that passes, and the p-value.
    """
    number, cells = replicas.shape
    correction = (number - cells - 2) / (number - 1)
    unfolded = correction * float(difference @ np.linalg.solve(np.atleast_2d(np.cov(replicas.T)), difference))
    measured, left = float(np.sum(folded**2 / variances)), len(folded) - cells
    # The true χ² over the corrected one, which has the covariance of a few Gaussian replicas: its quantiles.
    true = chdtri(number - cells, (np.arange(200) + 0.5) / 200) / (number - cells - 2)

    def p_value(value: float) -> float:
        return float(chdtr(left, np.maximum(measured - value * true, 0)).mean())

    limit = brentq(lambda value: p_value(value) - level, 0, measured / true[-1]) if p_value(0) > level else 0.0
    return Agreement(unfolded, float(limit), p_value(unfolded))


def merged(contents: np.ndarray, number: int) -> np.ndarray:
    """Which neighbouring cells to add up for groups of about equal contents.

    Args:
        contents: Expected contents, shape (C,); cells without any belong to no group.
        number: How many groups at most.

    Returns:
        A matrix of zeros and ones, shape (C, groups): contents @ matrix are those of the groups.
    """
    filled = np.flatnonzero(contents > 0)
    middle = (np.cumsum(contents) - contents / 2)[filled] / contents.sum()
    group = np.unique((middle * number).astype(int), return_inverse=True)[1]
    matrix = np.zeros((len(contents), group.max() + 1))
    matrix[filled, group] = 1
    return matrix
