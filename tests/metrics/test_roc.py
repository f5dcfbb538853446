import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from hepgen.errors import HepgenError
from hepgen.metrics.roc import FLOOR_EVENTS, FLOOR_PUBLISHED, FLOOR_PUBLISHED_EVENTS, Ranking


@pytest.fixture
def sample():
    """Scores with ties, labels and weights of 2,000 events."""
    rng = np.random.default_rng(1)
    label = (rng.random(2000) < 0.2).astype(int)
    return rng.normal(label, 1).round(1), label, rng.exponential(1, 2000)


def test_auc_equals_scikit_learn(sample):
    score, label, weight = sample
    assert Ranking(score, label).roc().auc == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    expected = roc_auc_score(label, score, sample_weight=weight)
    assert Ranking(score, label, weight).roc().auc == pytest.approx(expected, abs=1e-12)


def test_curve_equals_scikit_learn(sample):
    score, label, weight = sample
    roc = Ranking(score, label, weight).roc()
    background, signal, _ = roc_curve(label, score, sample_weight=weight, drop_intermediate=False)
    np.testing.assert_allclose(roc.background, background, atol=1e-12)
    np.testing.assert_allclose(roc.signal, signal, atol=1e-12)


def test_replicas_are_repeated_events(sample):
    """Merged thresholds move no efficiency by more than 1 % (background) or 0.001 (signal)."""
    score, label, weight = sample
    counts = np.random.default_rng(2).integers(0, 3, (len(score), 2)).astype(np.float32)
    replicas = Ranking(score, label, weight).replicas(counts)
    for number, drawn in enumerate(counts.T.astype(int)):
        again = Ranking(*(np.repeat(values, drawn) for values in sample)).roc()
        assert replicas.auc[number] == pytest.approx(again.auc, abs=1e-4)
        assert replicas.rejection(0.3)[number] == pytest.approx(again.rejection(0.3), rel=0.02)
        best = again.max_sic(events=FLOOR_EVENTS)
        assert replicas.max_sic(events=FLOOR_EVENTS)[number] == pytest.approx(best, rel=0.01)


def test_weights_that_are_equal_change_nothing(sample):
    score, label, _ = sample
    once, scaled = (Ranking(score, label, np.full(len(score), w)).roc() for w in (1.0, 0.3))
    np.testing.assert_allclose(once.passing, scaled.passing)


def test_signal_at_is_the_loosest_cut_that_keeps_an_efficiency():
    label = np.array([1, 0, 1, 1, 0, 1])
    roc = Ranking(-np.arange(6.0), label).roc()
    np.testing.assert_array_equal(roc.signal_at(np.array([0, 0.4, 0.5, 0.9, 1])), [0.25, 0.25, 0.75, 0.75, 1])


def test_figures_of_merit_of_a_known_curve():
    """Scores whose densities make εB = εS² exactly: AUC 2/3, 1/εB = 1/εS², SIC = 1 everywhere."""
    n = 2000
    signal = 1 - (np.arange(n) + 0.5) / n
    background = 1 - np.sqrt((np.arange(n) + 0.5) / n)
    roc = Ranking(np.concatenate([signal, background]), np.repeat([1, 0], n)).roc()
    # Tolerances: a step of the empirical curve, 1/n, relative to εB.
    assert roc.auc == pytest.approx(2 / 3, abs=1 / n)
    assert roc.rejection(0.5) == pytest.approx(4, rel=4 / n * 2)
    assert roc.max_sic(events=FLOOR_EVENTS) == pytest.approx(1, rel=0.02)


def test_sic_of_random_scores_is_near_one():
    """With at least 25 background events left the best of all thresholds exceeds 1 by about one 20 % error."""
    rng = np.random.default_rng(3)
    label = np.repeat([0, 1], [20_000, 2_000])
    best = [Ranking(rng.random(len(label)), label).roc().max_sic(events=FLOOR_EVENTS) for _ in range(50)]
    assert 1.0 <= np.median(best) < 1.3


def test_a_floor_is_needed():
    """Without a floor, one signal event above all background makes SIC as large as one likes."""
    score = np.concatenate([np.linspace(0, 1, 100_000), [1 - 1.5e-5, *np.linspace(0, 1, 99)]])
    label = np.repeat([0, 1], [100_000, 100])
    roc = Ranking(score, label).roc()
    assert roc.max_sic(efficiency=FLOOR_PUBLISHED) > 2
    assert roc.max_sic(events=FLOOR_EVENTS) < 1.3


def test_the_published_floor_holds_on_small_samples():
    """One background event of 1,000 passes the published efficiency, but is too few; six are enough."""
    for passing, best in ((1, 1.0), (5, 1.0), (6, np.sqrt(1000 / 6))):
        label = np.repeat([0, 1, 0], [passing, 50, 1000 - passing])
        score = np.repeat([2.0, 2.0, 0.0], [passing, 50, 1000 - passing])
        roc = Ranking(score, label).roc()
        assert roc.max_sic(efficiency=FLOOR_PUBLISHED, events=FLOOR_PUBLISHED_EVENTS) == pytest.approx(best)


def test_the_tightest_cut_that_reaches_an_efficiency_is_taken():
    """Background between the second and the third signal event costs nothing at εS = 2/4, but all at 3/4."""
    label = np.array([1, 1, 0, 0, 1, 1, 0, 0])
    roc = Ranking(-np.arange(8.0), label).roc()
    np.testing.assert_array_equal(roc.background_at(np.array([0.25, 0.5, 0.51, 0.75, 1])), [0, 0, 0.5, 0.5, 0.5])


def test_rejection_is_bounded_by_the_events_there_are():
    score, label = np.array([3.0, 2.0, 1.0, 0.0]), np.array([1, 1, 0, 0])
    assert Ranking(score, label).roc().rejection(0.5) == 2


@pytest.mark.parametrize(
    ("score", "label", "message"),
    [
        ([0.0, np.nan], [0, 1], "1 of 2 scores are not finite"),
        ([1.0, 2.0], [0, 0], "no signal events"),
        ([1.0, 2.0], [1, 1], "no background events"),
        ([1.0, 1.0], [0, 1], "all 2 scores equal 1.0"),
    ],
)
def test_useless_scores_are_refused(score, label, message):
    with pytest.raises(HepgenError, match=message):
        Ranking(np.array(score), np.array(label))
