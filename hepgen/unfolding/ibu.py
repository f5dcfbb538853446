"""Iterative Bayesian unfolding of a binned spectrum, with its statistical covariance."""

from typing import NamedTuple

import numpy as np

from hepgen.errors import HepgenError

__all__ = ["BinnedResult", "Response", "ibu", "response_matrix", "simulation_covariance"]


class BinnedResult(NamedTuple):
    """Spectra of K iterations in C truth-level bins (causes) and E detector-level bins (effects).

    Attributes:
        unfolded: Truth-level contents, shape (K, C).
        covariance: Their covariance, shape (K, C, C).
        refolded: Detector-level contents that they predict, shape (K, E).
    """

    unfolded: np.ndarray
    covariance: np.ndarray
    refolded: np.ndarray


class Response(NamedTuple):
    """What a simulation says about the detector, the first arguments of `ibu` after the data.

    Attributes:
        matrix: P(effect i | cause j) at [i, j], whose columns add up to the efficiency, shape (E, C).
        prior: Truth-level contents, shape (C,).
        purity: Share of the detector-level contents that is no fake, shape (E,); 1 where there are none.
    """

    matrix: np.ndarray
    prior: np.ndarray
    purity: np.ndarray


def response_matrix(
    causes: np.ndarray,
    effects: np.ndarray,
    weights: np.ndarray,
    bins: int | tuple[int, int],
    *,
    pass_truth: np.ndarray | None = None,
    pass_reco: np.ndarray | None = None,
) -> Response:
    """Estimate the response from simulated pairs.

    Args:
        causes: Truth-level bin of every event, shape (n,); with under- and overflow as the first and last bin,
            as ``numpy.searchsorted(edges, values, side="right")`` counts them, no event is lost.
        effects: Detector-level bin of every event, shape (n,).
        weights: Event weights, shape (n,).
        bins: Detector-level and truth-level bins, or one number for both, under- and overflow included.
        pass_truth: Which events pass at particle level, shape (n,); the others are fakes; all by default.
        pass_reco: Which events are seen at detector level, shape (n,); the others are misses; all by default.
    """
    size, causes_size = (bins, bins) if isinstance(bins, int) else bins
    true = weights if pass_truth is None else weights * pass_truth
    seen, both = (w if pass_reco is None else w * pass_reco for w in (weights, true))
    prior, measured = np.bincount(causes, true, causes_size), np.bincount(effects, seen, size)
    joint = np.bincount(effects * causes_size + causes, both, size * causes_size).reshape(size, causes_size)
    genuine = np.bincount(effects, both, size)
    purity = np.divide(genuine, measured, out=np.ones_like(measured), where=measured > 0)
    return Response(_over(joint, prior), prior, purity)


def ibu(
    data: np.ndarray,
    response: np.ndarray,
    prior: np.ndarray,
    purity: np.ndarray | float = 1.0,
    *,
    iterations: int,
    data_variance: np.ndarray | None = None,
    efficiency: np.ndarray | None = None,
) -> BinnedResult:
    """Unfold by repeated use of Bayes' theorem (Richardson–Lucy).

    Each iteration takes the last one's result as its prior. The covariance is the data's, propagated through
    all iterations with the derivatives of Adye. Fakes are taken from the data by their simulated share of every bin.

    References:
        D'Agostini, "A multidimensional unfolding method based on Bayes' theorem", 1995, NIM A 362, 487;
        Adye, "Unfolding algorithms and tests using RooUnfold", 2011, arXiv:1105.1160.

    Args:
        data: Detector-level contents, shape (E,).
        response: P(effect | cause), shape (E, C).
        prior: Truth-level contents or shape, shape (C,), scaled to the data. Causes of zero prior stay at zero.
        purity: Share of the data that is no fake, shape (E,).
        iterations: How often to iterate.
        data_variance: Variances of the data, shape (E,); Poisson by default.
        efficiency: P(seen | cause), shape (C,); by default the sums of the response's columns.

    Raises:
        HepgenError: if the data or the prior are empty.
    """
    for what, contents in (("data", data), ("prior", prior)):
        if not np.sum(contents) > 0:
            msg = f"iterative Bayesian unfolding: the {what} have no events; check the selection and the weights"
            raise HepgenError(msg)
    variance = purity**2 * (data if data_variance is None else data_variance)
    data = purity * data
    efficiency = response.sum(0) if efficiency is None else efficiency
    spectrum = np.sum(data) * prior / np.sum(prior)
    jacobian = np.zeros(response.shape)
    steps = []
    for iteration in range(iterations):
        unfolding = _over(response * _over(spectrum, efficiency), (response @ spectrum)[:, None])
        updated = data @ unfolding
        # The prior depends on the data from the second iteration on.
        if iteration > 0:
            jacobian = jacobian * _over(updated, spectrum) - (
                (jacobian * _over(efficiency, spectrum)) @ (unfolding.T * data) @ unfolding
            )
        jacobian = jacobian + unfolding
        spectrum = updated
        steps.append((spectrum, jacobian.T @ (variance[:, None] * jacobian), _over(response @ spectrum, purity)))
    return BinnedResult(*(np.stack(parts) for parts in zip(*steps, strict=True)))


def simulation_covariance(
    causes: np.ndarray,
    effects: np.ndarray,
    weights: np.ndarray,
    data: np.ndarray,
    bins: int | tuple[int, int],
    *,
    pass_truth: np.ndarray | None = None,
    pass_reco: np.ndarray | None = None,
    iterations: int,
    replicas: int = 50,
    seed: int,
) -> np.ndarray:
    """Covariance of every iteration from the finite simulation, by a Poisson bootstrap of its pairs.

    Args:
        causes: Truth-level bins, shape (n,).
        effects: Detector-level bins, shape (n,).
        weights: Event weights, shape (n,).
        data: Detector-level contents, shape (E,).
        bins: As in `response_matrix`.
        pass_truth: As in `response_matrix`.
        pass_reco: As in `response_matrix`.
        iterations: As in `ibu`.
        replicas: Bootstrap replicas.
        seed: Fixes them.

    Returns:
        Shape (iterations, C, C).
    """
    rng = np.random.default_rng(seed)
    spectra = []
    for _ in range(replicas):
        drawn = weights * rng.poisson(1, len(weights))
        response = response_matrix(causes, effects, drawn, bins, pass_truth=pass_truth, pass_reco=pass_reco)
        spectra.append(ibu(data, *response, iterations=iterations).unfolded)
    deviations = np.stack(spectra, axis=1) - np.mean(spectra, axis=0)[:, None]
    return np.einsum("krc,krd->kcd", deviations, deviations) / (replicas - 1)


def _over(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """A quotient that is 0 where the denominator is: bins that nothing can reach."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)
