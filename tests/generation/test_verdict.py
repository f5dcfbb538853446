"""The verdict: truth passes, and each fault shows where it should."""

import numpy as np
import pytest

from hepgen.generation import verdict
from hepgen.generation.results import Value, View
from hepgen.generation.verdict import Events, Truth, average, combined_p, mean

VIEW = View("features", [], ["mass_j1", "eta_j1"])
SIZE = 2000


def events(n, seed, correlation=0.7):
    x = np.random.default_rng(seed).multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], n)
    return np.stack([100 * np.exp(0.4 * x[:, 0]), x[:, 1]], axis=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Networks and distances of all observables are tested with the metrics, and in the whole evaluation."""
    monkeypatch.setattr(verdict, "DISTANCES", {"max_delta_pearson": verdict.DISTANCES["max_delta_pearson"]})
    monkeypatch.setattr(verdict, "TESTED", 800)
    monkeypatch.setattr(verdict, "NEIGHBOURS", 200)
    monkeypatch.setattr(verdict, "CLASSIFIERS", {"c2st_auc": "trees"})


def compare(x, weight=None, conditions=None, told=None):
    ones = np.ones(SIZE)
    truth = Truth(VIEW, Events(events(SIZE, 1), told or {}, ones), events(SIZE, 3), SIZE)
    return truth.compare(Events(x, conditions or {}, ones if weight is None else weight), 1)


def test_truth_against_truth():
    """Every figure of merit at its null value, within 3 standard deviations."""
    scores = compare(events(SIZE, 2)).values
    for name in VIEW.names:
        assert scores[f"chi2_ndf/{name}"].value == pytest.approx(1, abs=3 * np.sqrt(2 / 40))
        # W1 of two samples of n of a normal is about 1.1/√n
        assert scores[f"w1/{name}"].value < 3.5 / np.sqrt(SIZE)
        assert scores[f"tail_99/{name}"].p_value > 0.003
    assert scores["c2st_auc"].value == pytest.approx(0.5, abs=3 * scores["c2st_auc"].up)
    assert scores["max_delta_pearson"].value < 3 * (1 - 0.7**2) * np.sqrt(2 / SIZE)
    assert "tail_99.9/mass_j1" not in scores, "2 true events lie beyond the 99.9 % quantile"


def test_lost_correlations_show_where_they_should():
    """Shuffled columns pass the one-dimensional tests and fail the other two."""
    scores = compare(np.random.default_rng(1).permuted(events(SIZE, 2), axis=0)).values
    assert all(scores[f"chi2_ndf/{n}"].value == pytest.approx(1, abs=3 * np.sqrt(2 / 40)) for n in VIEW.names)
    assert scores["c2st_auc"].value > 0.6
    assert scores["max_delta_pearson"].value > 0.6
    assert scores["max_delta_pearson"].p_value < 0.02


def test_a_shift_shows_in_its_observable_and_so_do_the_weights():
    shifted = events(SIZE, 2) + np.array([0, 0.5])
    scores = compare(shifted)
    w1 = scores.values["w1/eta_j1"]
    assert w1.value == pytest.approx(0.5, abs=4 * w1.up)
    assert scores.values["chi2_ndf/eta_j1"].p_value < 1e-3 < scores.values["chi2_ndf/mass_j1"].p_value
    # The generated events lack small η: large weights there, and the truth's most telling events too.
    assert scores.where[1, 0] > 0 > scores.where[1, -1]
    assert scores.missing[1, 0] > 1 > scores.missing[1, -1]


def test_weights_repair_a_wrong_mixture():
    """Events thinned out above the mean, with weights that make up for it, are like truth again."""
    x = events(2 * SIZE, 2)
    kept = (x[:, 1] < 0) | (np.random.default_rng(1).uniform(size=len(x)) < 0.4)
    x = x[kept][:SIZE]
    weight = np.where(x[:, 1] < 0, 1.0, 1 / 0.4)
    plain, weighted = compare(x).values, compare(x, weight / weight.mean()).values
    assert plain["chi2_ndf/eta_j1"].p_value < 1e-3 < weighted["chi2_ndf/eta_j1"].p_value
    assert plain["w1/eta_j1"].p_value < 0.02 < weighted["w1/eta_j1"].p_value
    assert plain["c2st_auc"].value > weighted["c2st_auc"].value


def test_conditions_that_are_ignored_show_in_the_joint_test():
    """Every observable is right, but does not follow what the generator was told."""
    truth, x = events(SIZE, 1), events(SIZE, 2)
    told = {"condition_eta": truth[:, 1]}
    obeyed = compare(x, conditions={"condition_eta": x[:, 1]}, told=told).values
    ignored = compare(x, conditions={"condition_eta": events(SIZE, 4)[:, 1]}, told=told).values
    assert ignored["c2st_auc"].value > 0.8 > 0.6 > obeyed["c2st_auc"].value
    assert ignored["w1/eta_j1"] == obeyed["w1/eta_j1"]


def test_whole_numbers_lie_in_the_middle_of_bins():
    counts = np.random.default_rng(1).poisson(30, SIZE).astype(float)
    x = np.stack([counts, counts], axis=1)
    names = ["multiplicity_j1", "eta_j1"]
    truth = Truth(View("features", [], names), Events(x, {}, np.ones(SIZE)), x, SIZE)
    width = np.diff(truth.edges[0])
    assert (width == np.round(width)).all()
    assert (truth.edges[0] % 1 == 0.5).all()
    assert truth.counts[0].values[0] + truth.counts[0].values[-1] < 0.002 * SIZE


def test_seeds_are_averaged_with_their_spread():
    """Student's t for three values with a standard deviation of 1: 1.32/√3, beside the common error."""
    value = mean([Value(v, 0.3, 0.4, p, 9) for v, p in ((1, 0.5), (2, 0.01), (3, 0.04))])
    spread = 1.321 / np.sqrt(3)
    assert value.value == 2
    assert (value.down, value.up) == pytest.approx((np.hypot(0.3, spread), np.hypot(0.4, spread)), rel=1e-3)
    assert value.p_value == pytest.approx(0.04 * 3 / 2)


def test_histograms_are_averaged_and_odds_are_joined():
    """Two equal seeds: the same histogram without a further spread, and every event's odds twice."""
    scores = compare(events(SIZE, 2))
    both = average([scores, scores])
    assert len(both.generated.log) == 2 * verdict.TESTED
    np.testing.assert_allclose(both.counts[0], scores.counts[0])


def test_combined_p_values_are_valid_whatever_their_dependence():
    """Under the hypothesis at most 5 % are below 0.05 (3 standard deviations), be they independent or all the same."""
    rng = np.random.default_rng(1)
    for values in (rng.uniform(size=(4000, 5)), rng.uniform(size=(4000, 1)).repeat(5, 1)):
        rate = np.mean([combined_p(row) < 0.05 for row in values])
        assert rate < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 4000)
    assert combined_p([0.2]) == 0.2
    assert combined_p([0.9, 0.9]) == 1.0
