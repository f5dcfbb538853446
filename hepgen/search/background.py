"""The smooth background of a mass spectrum, fitted to the spectrum itself."""

from typing import NamedTuple

import numpy as np
from scipy.special import xlogy
from scipy.stats import chi2

from hepgen.errors import HepgenError

__all__ = ["SQRT_S", "Fit", "Fits", "falling_edges", "fit", "fit_many"]

# Collision energy that the spectrum is expressed in [GeV].
SQRT_S = 13_000.0
PARAMETERS = (3, 4)
# Fall of the deviance that the fourth parameter must bring: the 95 % quantile of Wilks' theorem.
WORTH = float(chi2.ppf(0.95, 1))
STEPS = 200
PRECISION = 1e-10
# How a range is found: the spectrum has fallen to this part of its maximum, as a selection's turn-on reaches beyond
# that; the fit has at least this probability; and so many events lie above.
FALLEN = 0.8
FIT_PROBABILITY = 0.05
EVENTS_ABOVE = 10


class Fit(NamedTuple):
    """A fitted spectrum.

    Attributes:
        expected: Events per bin, shape (bins,).
        modes: Independent one-sigma shifts of the logarithm of `expected`, shape (parameters, bins).
        deviance: Twice the log-likelihood ratio to the saturated model, over the bins of the fit.
        freedom: Bins of the fit less parameters.
    """

    expected: np.ndarray
    modes: np.ndarray
    deviance: float
    freedom: int


class Fits(NamedTuple):
    """Fits to many spectra: `expected` of shape (spectra, bins), everything else of shape (spectra,)."""

    expected: np.ndarray
    deviance: np.ndarray
    parameters: np.ndarray
    converged: np.ndarray


def fit(counts: np.ndarray, edges: np.ndarray, used: np.ndarray | None = None) -> Fit:
    """Fit p1 (1 − x)^p2 x^−(p3 + p4 ln x), x = m/√s, to a binned spectrum by the Poisson likelihood.

    Args:
        counts: Events per bin, shape (bins,).
        edges: Bin edges [GeV], shape (bins + 1,).
        used: The bins to fit to, all of them without it; the others are predicted.

    Raises:
        HepgenError: if the fit does not converge, or no more bins are filled than there are parameters.
    """
    used = np.ones(len(counts), dtype=bool) if used is None else used
    filled = np.count_nonzero(counts[used])
    if filled <= max(PARAMETERS):
        msg = f"search: only {filled} bins hold events, too few to fit the background's {max(PARAMETERS)} parameters"
        raise HepgenError(f"{msg}; take looser cuts, more events or another search.range")
    best = fit_many(counts[None], edges, used[None])
    if not best.converged[0]:
        msg = f"search: the background fit to {counts[used].sum():g} events did not converge"
        raise HepgenError(f"{msg}; change search.range or search.bins")
    expected, parameters = best.expected[0], int(best.parameters[0])
    basis = _basis(edges, parameters)
    variances, directions = np.linalg.eigh(np.linalg.inv(_information(basis, expected[None] * used)[0]))
    modes = np.sqrt(variances)[:, None] * (basis @ directions).T
    return Fit(expected, modes, float(best.deviance[0]), int(used.sum()) - parameters)


def fit_many(counts: np.ndarray, edges: np.ndarray, used: np.ndarray | None = None) -> Fits:
    """Fit many spectra at once, shape (spectra, bins), in all bins or those of a mask of the same shape; see `fit`.

    The function, taken at the centres of the bins, is log-linear in its parameters, so that the likelihood has one
    maximum. p4 is taken where it lowers the deviance by more than 3.84 and the spectrum still falls from bin to bin:
    with few events it would otherwise follow a signal. Where no event lies in the tail it may have no best value.

    References:
        ATLAS 2017, arXiv:1703.09127 (the function); Wilks 1938 (the number of parameters).
    """
    used = np.ones(counts.shape, dtype=bool) if used is None else used
    few, many = (_maximise(counts, _basis(edges, number), used) for number in PARAMETERS)
    falling = (np.diff(many.expected, axis=1) < 0).all(axis=1)
    better = many.converged & falling & (few.deviance - many.deviance > WORTH)
    expected = np.where(better[:, None], many.expected, few.expected)
    return Fits(expected, *(np.where(better, b, a) for a, b in zip(few[1:], many[1:], strict=True)))


def falling_edges(mass: np.ndarray, bins: int) -> np.ndarray:
    """Edges of the part of a spectrum that the function describes, shape (bins + 1,).

    The range ends where ten events are left. It begins as low as it can, above the most populated bin where the
    spectrum has fallen to 80 %: the lower edge is raised until the fit's probability is above 5 %.

    Raises:
        HepgenError: if no such range holds half of the events above the most populated bin.
    """
    if len(mass) <= EVENTS_ABOVE:
        msg = f"search: {len(mass)} background events make no spectrum; give more events"
        raise HepgenError(msg)
    high = np.sort(mass)[-EVENTS_ABOVE]
    counts, edges = np.histogram(mass, bins=bins, range=(mass.min(), high))
    peak = int(np.argmax(counts))
    start = peak + int(np.argmax(counts[peak:] <= FALLEN * counts[peak]))
    for low in edges[start:-1]:
        trial = np.linspace(low, high, bins + 1)
        inside, _ = np.histogram(mass, trial)
        if inside.sum() < counts[peak:].sum() / 2:
            break
        fitted = fit(inside, trial)
        if chi2.sf(fitted.deviance, fitted.freedom) > FIT_PROBABILITY:
            return trial
    msg = "search: no range of the spectrum is smooth enough for the background function; set search.range"
    raise HepgenError(msg)


def _basis(edges: np.ndarray, parameters: int) -> np.ndarray:
    """Orthonormal columns that span the logarithm of the function, shape (bins, parameters)."""
    x = (edges[:-1] + edges[1:]) / 2 / SQRT_S
    columns = [np.ones_like(x), np.log(x), np.log1p(-x), np.log(x) ** 2]
    return np.linalg.qr(np.stack(columns[:parameters], axis=1))[0]


def _information(basis: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Fisher information of the basis' coefficients, shape (spectra, parameters, parameters)."""
    return basis.T @ (expected[..., None] * basis)


def _maximise(counts: np.ndarray, basis: np.ndarray, used: np.ndarray) -> Fits:
    """Newton's method; a step changes no bin by more than a factor e."""
    theta = np.log(counts + 0.5) * used @ basis
    for _ in range(STEPS):
        expected = np.exp(theta @ basis.T)
        gradient = ((counts - expected) * used) @ basis
        information = _information(basis, expected * used) + 1e-12 * np.eye(basis.shape[1])
        step = np.linalg.solve(information, gradient[..., None])[..., 0]
        gain = (step * gradient).sum(1)
        if (gain < PRECISION).all():
            break
        theta += step / np.maximum(1.0, np.abs(step @ basis.T).max(1, keepdims=True))
    terms = xlogy(counts, counts / expected) - counts + expected
    deviance = 2 * (terms * used).sum(1)
    return Fits(expected, deviance, np.full(len(counts), basis.shape[1]), gain < PRECISION)
