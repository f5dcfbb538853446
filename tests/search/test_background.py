import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

from hepgen.errors import HepgenError
from hepgen.search.background import falling_edges, fit, fit_many


def test_fit_is_the_maximum_of_the_likelihood_in_the_physical_parameters(spectrum):
    edges, dijet = spectrum
    counts = np.random.default_rng(1).poisson(dijet(5000))
    x = (edges[:-1] + edges[1:]) / 2 / 13_000

    def expected(p):
        return np.exp(p[0] + p[1] * np.log1p(-x) - p[2] * np.log(x))

    found = minimize(lambda p: np.sum(expected(p) - counts * np.log(expected(p))), [1, 10, 5], method="Nelder-Mead",
                     options={"maxiter": 20_000, "xatol": 1e-7, "fatol": 1e-9, "maxfev": 20_000})  # fmt: skip
    assert fit(counts, edges).expected == pytest.approx(expected(found.x), rel=1e-3)


def test_pulls_are_unit_gaussians_and_the_fourth_parameter_is_rarely_taken(spectrum):
    """300 toys: a mean is known to 0.06, a standard deviation to 0.04, a share of 5 % to 1.3 %; all times 3.5."""
    edges, dijet = spectrum
    truth = dijet(3000)
    counts = np.random.default_rng(2).poisson(truth, (300, len(truth)))
    fits = [fit(spectrum, edges) for spectrum in counts]
    bins = [0, 7, 20]
    pulls = np.array([(np.log(f.expected / truth) / np.sqrt((f.modes**2).sum(0)))[bins] for f in fits])
    assert np.abs(pulls.mean(0)).max() < 0.2
    assert np.abs(pulls.std(0) - 1).max() < 0.15
    assert np.mean([len(f.modes) == 4 for f in fits]) == pytest.approx(0.05, abs=0.045)
    probability = chi2.sf([f.deviance for f in fits], [f.freedom for f in fits])
    assert np.mean(probability < 0.05) < 0.15


def test_many_fits_are_the_single_ones(spectrum):
    edges, dijet = spectrum
    counts = np.random.default_rng(3).poisson(dijet(300), (5, 40))
    many = fit_many(counts, edges)
    assert many.converged.all()
    for spectrum_, expected in zip(counts, many.expected, strict=True):
        assert fit(spectrum_, edges).expected == pytest.approx(expected, rel=1e-4)


def test_bins_left_out_do_not_enter(spectrum):
    edges, dijet = spectrum
    counts = np.random.default_rng(4).poisson(dijet(3000))
    used = np.ones(40, dtype=bool)
    used[5:12] = False
    signal = counts + 100 * ~used
    assert fit(counts, edges, used).expected == pytest.approx(fit(signal, edges, used).expected)
    assert fit(counts, edges).expected != pytest.approx(fit(signal, edges).expected)


def test_too_few_filled_bins_are_refused(spectrum):
    edges, _ = spectrum
    with pytest.raises(HepgenError, match="only 2 bins hold events"):
        fit(np.bincount([3, 3, 9], minlength=40), edges)


def test_an_empty_tail_in_which_the_fourth_parameter_has_no_best_value_is_fitted_with_three(spectrum):
    edges, _ = spectrum
    counts = np.array([14, 6, 3, 4, 4, 1, 0, 2, 4] + 31 * [0])
    found = fit(counts, edges)
    assert len(found.modes) == 3
    assert found.expected.sum() == pytest.approx(counts.sum())


def test_the_range_begins_above_the_turn_on_and_ends_where_ten_events_are_left():
    rng = np.random.default_rng(5)
    mass = 2000 + rng.exponential(500, 20_000)
    mass = mass[rng.random(len(mass)) < 1 / (1 + np.exp((2500 - mass) / 50))]
    edges = falling_edges(mass, 40)
    assert 2550 < edges[0] < 3200
    assert np.sum(mass >= edges[-1]) == 10


def test_a_spectrum_with_no_smooth_range_is_refused():
    rng = np.random.default_rng(6)
    comb = np.concatenate([rng.normal(center, 20, 2000) for center in range(2500, 6000, 400)])
    with pytest.raises(HepgenError, match=r"set search\.range"):
        falling_edges(comb, 40)


def test_the_fourth_parameter_is_not_taken_to_follow_a_signal(spectrum, monkeypatch):
    edges, dijet = spectrum
    rng = np.random.default_rng(7)
    signal, _ = np.histogram(rng.normal(3650, 100, 60), edges)
    counts = rng.poisson(dijet(150), (20, 40)) + signal
    best = fit_many(counts, edges)
    monkeypatch.setattr("hepgen.search.background.PARAMETERS", (4, 4))
    four = fit_many(counts, edges)
    rises = (np.diff(four.expected, axis=1) >= 0).any(axis=1)
    assert (best.deviance - four.deviance > 3.84)[rises].any()
    assert (best.parameters[rises] == 3).all()
