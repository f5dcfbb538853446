import json

import numpy as np
import pyhf
import pytest
from scipy.optimize import brentq
from scipy.stats import norm, poisson

from hepgen.search.statistics import REFERENCE, asimov, discovery, limits, model_of, workspace


def counting(observed, background=50.0, signal=40.0, modes=()):
    shifts = np.reshape(modes, (-1, 1))
    return workspace(np.array([float(observed)]), np.array([background]), shifts, np.array([signal]))


def q_tilde(mu, observed, background, signal):
    """The test statistic of a counting experiment without systematic uncertainties (arXiv:1007.1727)."""
    best = max((observed - background) / signal, 0.0)
    if best > mu:
        return 0.0
    hypothesis, fitted = mu * signal + background, best * signal + background
    return 2 * (hypothesis - fitted - observed * np.log(hypothesis / fitted))


def excluded_strength(observed, background, signal):
    """Where CLs is 5 % by the asymptotic formulae, without pyhf."""

    def cls(mu):
        q, q_asimov = q_tilde(mu, observed, background, signal), q_tilde(mu, background, background, signal)
        if q <= q_asimov:
            above, below = norm.sf(np.sqrt(q)), norm.sf(np.sqrt(q) - np.sqrt(q_asimov))
        else:
            above = norm.sf((q + q_asimov) / (2 * np.sqrt(q_asimov)))
            below = norm.sf((q - q_asimov) / (2 * np.sqrt(q_asimov)))
        return above / below - 0.05

    return brentq(cls, 1e-3, 20)


@pytest.mark.parametrize("observed", [38, 50, 66])
def test_limits_of_a_counting_experiment_are_those_of_an_independent_calculation(observed):
    found = limits(counting(observed))
    assert found.observed == pytest.approx(REFERENCE * excluded_strength(observed, 50.0, 40.0), rel=0.01)
    assert found.expected[2] == pytest.approx(REFERENCE * excluded_strength(50, 50.0, 40.0), rel=0.01)
    assert list(found.expected) == sorted(found.expected)


@pytest.mark.parametrize(("background", "ratio"), [(50, 0.97), (20, 0.95), (5, 0.91)])
def test_asymptotic_limits_are_too_strong_where_there_are_few_events(background, ratio):
    """Against CLs from Poisson probabilities for as many events as the background's mean; the documented figures."""

    def cls(signal):
        return poisson.cdf(background, background + signal) / poisson.cdf(background, background)

    exact = brentq(lambda signal: cls(signal) - 0.05, 1e-3, 100)
    found = limits(counting(background, background=float(background))).observed * 40 / REFERENCE
    assert found / exact == pytest.approx(ratio, abs=0.006)


@pytest.mark.parametrize("events", [500, 1000])
def test_strong_signals_are_not_cut_off(events):
    """Without systematic uncertainties, in 8 equal bins: an exact formula, and a limit 1.64 errors above the data."""
    background, signal = np.full(8, 2.0), np.full(8, 9.0)
    spec = asimov(workspace(background, background, np.zeros((0, 8)), signal), events)
    total = background + events / REFERENCE * signal
    exact = np.sqrt(2 * np.sum(total * np.log(total / background) - total + background))
    assert discovery(spec) == pytest.approx(exact, rel=1e-4)
    estimate = events + 1.645 * REFERENCE * np.sqrt(total.sum()) / signal.sum()
    assert limits(spec).observed == pytest.approx(estimate, rel=0.01)


def test_an_uncertain_efficiency_weakens_the_limit_but_not_the_significance():
    """A limit far above its error in quadrature: (n − b)/s · (1 + 1.64 · 10 %) and the statistical error."""
    data, background, signal = (np.array([number]) for number in (1050.0, 50.0, 40.0))
    exact, uncertain = (workspace(data, background, np.zeros((0, 1)), signal, error) for error in (0.0, 0.1))
    assert discovery(uncertain) == pytest.approx(discovery(exact), rel=1e-3)
    relative = np.hypot(0.1, np.sqrt(1050) / 1000)
    assert limits(uncertain).observed == pytest.approx(2500 * np.exp(1.645 * relative), rel=0.02)


def test_significance_of_a_counting_experiment():
    for observed in (60, 90):
        expected = np.sqrt(2 * (observed * np.log(observed / 50) - (observed - 50)))
        assert discovery(counting(observed)) == pytest.approx(expected, rel=1e-3)
    assert discovery(counting(45)) == pytest.approx(0, abs=1e-3)


def test_an_uncertain_background_costs_significance_as_it_should():
    """With a Gaussian background error σ: about (n − b)/√(b + σ²), to a tenth for an excess of 20 %."""
    without, with_ = discovery(counting(60)), discovery(counting(60, modes=[0.1]))
    assert with_ / without == pytest.approx(np.sqrt(50 / (50 + 25)), rel=0.1)


def test_asimov_data_lie_on_the_expectation():
    spec = asimov(counting(77), 50)
    assert spec["observations"][0]["data"] == [50 + 50 / REFERENCE * 40]
    assert discovery(asimov(counting(77), 0)) == pytest.approx(0, abs=1e-3)


def test_modes_change_the_background_as_one_sigma_does():
    background, mode = np.array([40.0, 30.0, 20.0]), np.array([0.10, -0.05, 0.2])
    spec = workspace(background, background, mode[None], np.array([1.0, 5.0, 1.0]))
    model, _ = model_of(json.loads(json.dumps(spec)))
    for sigma in (-1, 1):
        parameters = np.array(model.config.suggested_init(), dtype=float)
        parameters[model.config.poi_index] = 0
        parameters[model.config.par_slice("background_0")] = sigma
        expected = pyhf.tensorlib.tolist(model.expected_actualdata(parameters))
        assert expected == pytest.approx(background * np.exp(sigma * mode), rel=1e-6)
