"""Significance of a signal of known shape, and limits on it: HistFactory workspaces for pyhf."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import pyhf
from scipy.interpolate import PchipInterpolator
from scipy.stats import norm

from hepgen.errors import HepgenError

__all__ = ["REFERENCE", "Limits", "asimov", "discovery", "limits", "model_of", "workspace"]

# Signal events before any cut that mu = 1 stands for.
REFERENCE = 100
LEVEL = 0.05
# Hypotheses for the limits, in standard deviations of mu: without signal, and above the best strength.
WITHOUT_SIGNAL = np.geomspace(0.5, 7, 9)
ABOVE_BEST = np.linspace(0.8, 3.2, 5)


class Limits(NamedTuple):
    """Upper limits on signal events before any cut, CLs at 95 %; `expected` from −2 to +2 standard deviations."""

    observed: float
    expected: tuple[float, ...]


def workspace(
    observed: np.ndarray, background: np.ndarray, modes: np.ndarray, signal: np.ndarray, uncertainty: float = 0.0
) -> dict[str, Any]:
    """A pyhf workspace of the bins around the signal.

    Args:
        observed: Events per bin, shape (bins,).
        background: Events expected without signal.
        modes: Independent one-sigma shifts of the logarithm of `background`, shape (modes, bins). Each is a common
            factor and a change of shape, which pyhf moves together.
        signal: Events expected of `REFERENCE` signal events, shape (bins,).
        uncertainty: One standard deviation of the logarithm of all of `signal`.
    """
    modifiers = []
    for number, mode in enumerate(modes):
        factor = float(np.average(mode, weights=background))
        shape = mode - factor
        name = f"background_{number}"
        scales = {"hi": float(np.exp(factor)), "lo": float(np.exp(-factor))}
        shapes = {"hi_data": (background * np.exp(shape)).tolist(), "lo_data": (background * np.exp(-shape)).tolist()}
        modifiers.append({"name": name, "type": "normsys", "data": scales})
        modifiers.append({"name": name, "type": "histosys", "data": shapes})
    scales = {"hi": float(np.exp(uncertainty)), "lo": float(np.exp(-uncertainty))}
    of_signal = [
        {"name": "mu", "type": "normfactor", "data": None},
        {"name": "signal_efficiency", "type": "normsys", "data": scales},
    ]
    samples = [
        {"name": "signal", "data": signal.tolist(), "modifiers": of_signal},
        {"name": "background", "data": background.tolist(), "modifiers": modifiers},
    ]
    return _with_data([{"name": "window", "samples": samples}], observed)


def _with_data(channels: list[dict[str, Any]], observed: np.ndarray) -> dict[str, Any]:
    """The workspace of data, whose signal strength may become as large as they ask for."""
    observations = [{"name": "window", "data": observed.tolist()}]
    best, error, spread = _estimate(channels, observations)
    parameters = [{"name": "mu", "bounds": [[0.0, 2 * (best + 10 * max(error, spread))]], "inits": [error]}]
    measurement = {"name": "search", "config": {"poi": "mu", "parameters": parameters}}
    return {"channels": channels, "observations": observations, "measurements": [measurement], "version": "1.0.0"}


def model_of(spec: dict[str, Any]) -> tuple[pyhf.Model, list[float]]:
    """The validated model of a workspace and its data."""
    with warnings.catch_warnings():
        # pyhf 0.7.6 validates by a class that jsonschema 4.18 deprecates.
        warnings.filterwarnings("ignore", "jsonschema.RefResolver is deprecated", DeprecationWarning)
        found = pyhf.Workspace(spec)
        model = found.model()
    return model, found.data(model)


def asimov(spec: dict[str, Any], events: float) -> dict[str, Any]:
    """The workspace with what it expects of so many signal events before any cut in place of its data."""
    signal, background = (np.array(sample["data"]) for sample in spec["channels"][0]["samples"])
    return _with_data(spec["channels"], background + events / REFERENCE * signal)


def discovery(spec: dict[str, Any]) -> float:
    """How many standard deviations the data lie from the background alone, 0 for a deficit.

    Raises:
        HepgenError: if a fit fails.

    References:
        Cowan, Cranmer, Gross, Vitells 2011, arXiv:1007.1727.
    """
    model, data = model_of(spec)
    settings = model.config
    arguments = settings.suggested_init(), settings.suggested_bounds(), settings.suggested_fixed()
    with _refusing_failed_fits():
        return float(np.sqrt(pyhf.infer.test_statistics.q0(0.0, data, model, *arguments)))


def limits(spec: dict[str, Any]) -> Limits:
    """Limits by asymptotic CLs, from hypotheses about the limits that Gaussian errors would give.

    Raises:
        HepgenError: if a fit fails.

    References:
        Read 2002, J. Phys. G 28, 2693 (CLs); Cowan, Cranmer, Gross, Vitells 2011, arXiv:1007.1727.
    """
    model, data = model_of(spec)
    best, error, spread = _estimate(spec["channels"], spec["observations"])
    strengths = np.unique(np.concatenate([error * WITHOUT_SIGNAL, best + spread * ABOVE_BEST]))
    with _refusing_failed_fits():
        tests = [pyhf.infer.hypotest(mu, data, model, return_expected_set=True) for mu in strengths]
    excluded = np.array([[observed, *expected] for observed, expected in tests], dtype=np.float64).T
    observed, *expected = (REFERENCE * _crossing(strengths, levels) for levels in excluded)
    return Limits(observed, tuple(expected))


def _crossing(strengths: np.ndarray, levels: np.ndarray) -> float:
    """Where CLs falls to 5 %: interpolated as a number of standard deviations, which grows smoothly."""
    deviations = norm.isf(np.clip(levels, 1e-12, 1 - 1e-12))
    rising = np.concatenate([[True], deviations[1:] > np.maximum.accumulate(deviations)[:-1]])
    return float(PchipInterpolator(deviations[rising], strengths[rising])(norm.isf(LEVEL)))


def _estimate(channels: list[dict[str, Any]], observations: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Gaussian estimate of mu, at least 0, and its standard deviation: without signal, and with so much."""
    samples = channels[0]["samples"]
    signal, background = (np.array(sample["data"]) for sample in samples)
    uncertainty = float(np.log(samples[0]["modifiers"][1]["data"]["hi"]))
    modifiers = samples[1]["modifiers"]
    shifts = [
        scale["data"]["hi"] * np.array(shape["data"]["hi_data"]) - background
        for scale, shape in zip(modifiers[::2], modifiers[1::2], strict=True)
    ]
    covariance = np.diag(background + 1) + sum((np.outer(shift, shift) for shift in shifts), np.zeros(()))
    pull = np.linalg.solve(covariance, signal)
    variance = 1 / (pull @ signal)
    best = max(float(variance * (pull @ (np.array(observations[0]["data"]) - background))), 0.0)
    with_signal = 1 / (signal @ np.linalg.solve(covariance + np.diag(best * signal), signal))
    return best, float(np.sqrt(variance)), float(np.hypot(np.sqrt(with_signal), uncertainty * best))


@contextmanager
def _refusing_failed_fits() -> Iterator[None]:
    try:
        yield
    except pyhf.exceptions.FailedMinimization as error:
        msg = f"search: pyhf could not fit the spectrum ({error}); take looser cuts or another search.range"
        raise HepgenError(msg) from error
