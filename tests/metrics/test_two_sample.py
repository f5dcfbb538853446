"""Two-sample tests: null values, known values, errors that cover."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import kstest, norm
from sklearn.metrics import roc_auc_score

from hepgen.errors import HepgenError
from hepgen.metrics.two_sample import CLASSIFIERS, SATURATION, auc, classifier_test, tails


def normal(n, d=3, *, seed, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1, (n, d))


class UnitNormals:
    """The likelihood ratio of normals of unit deviation: a classifier that is quickly trained."""

    def fit(self, x, y, sample_weight):
        self.means = [x[y == label].mean(0) for label in (0, 1)]
        return self

    def predict_proba(self, x):
        return softmax([-((x - mean) ** 2).sum(1) / 2 for mean in self.means], axis=0).T


@pytest.mark.parametrize("kind", ["trees", "mlp"])
def test_classifier_cannot_tell_truth_from_truth(kind):
    result = classifier_test(normal(1500, seed=1), normal(1500, seed=2), 1, kind=kind)
    # √2 times the error of Mann and Whitney's statistic, as the folds' classifiers depend on each other.
    assert result.auc.error == pytest.approx(np.sqrt(2 * 3001 / 12) / 1500, rel=0.05)
    assert result.auc.value == pytest.approx(0.5, abs=2 * result.auc.error)
    assert 0.02 < result.p_value < 0.98


def test_classifier_p_values_are_uniform_without_a_difference(monkeypatch):
    """Kolmogorov and Smirnov's test of 200 pairs at 5 %; without the factor √2 of the error it fails."""
    monkeypatch.setitem(CLASSIFIERS, "trees", lambda seed: UnitNormals())
    values = [
        classifier_test(normal(100, seed=seed), normal(100, seed=1000 + seed), seed).p_value for seed in range(200)
    ]
    assert kstest(values, "uniform").pvalue > 0.05


def test_classifier_scores_are_log_likelihood_ratios():
    """Of normals at 0 and 1 log y/x is u − ½ at u; scores of 2000 events scatter by less than 0.3 around it.

    The best possible AUC is Φ(1/√2) = 0.760.
    """
    best = norm.cdf(1 / np.sqrt(2))
    x, y = normal(2000, 1, seed=1), normal(2000, 1, seed=2, mean=1)
    for kind in ("trees", "mlp"):
        result = classifier_test(x, y, 1, kind=kind)
        assert np.median(np.abs(result.x_scores - (x[:, 0] - 0.5))) < 0.3
        assert np.median(np.abs(result.y_scores - (y[:, 0] - 0.5))) < 0.3
        assert result.p_value < 1e-10
        assert best - 0.03 < result.auc.value < best + 3 * result.auc.error


@pytest.mark.parametrize("kind", ["trees", "mlp"])
def test_classifier_takes_weights(kind):
    """Weights exp(u − ½) move a normal from 0 to 1, where the truth is; the effective events are 1/e of all."""
    x, y = normal(3000, 1, seed=1), normal(1500, 1, seed=2, mean=1)
    result = classifier_test(x, y, 1, kind=kind, x_weight=np.exp(x[:, 0] - 0.5))
    assert result.auc.value == pytest.approx(0.5, abs=3 * result.auc.error)
    assert result.auc.error > np.sqrt(2 / 12 * (1 / 1500 + 1 / 3000))


def test_classifier_scores_are_cut_where_they_saturate(monkeypatch):
    monkeypatch.setitem(CLASSIFIERS, "trees", lambda seed: UnitNormals())
    result = classifier_test(normal(100, 1, seed=1), normal(100, 1, seed=2, mean=300), 1)
    assert result.auc.value == 1
    np.testing.assert_array_equal(result.x_scores, -SATURATION)
    np.testing.assert_array_equal(result.y_scores, SATURATION)


def test_classifier_sees_a_correlation():
    """Marginals agree, only the correlation differs."""
    rng = np.random.default_rng(3)
    correlated = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 1000)
    assert classifier_test(correlated, rng.permuted(correlated, axis=0), 1).auc.value > 0.6


def test_classifier_is_reproducible():
    x, y = normal(200, seed=1), normal(200, seed=2)
    first, again, other = (classifier_test(x, y, seed, kind="mlp").x_scores for seed in (4, 4, 5))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_classifier_needs_events():
    with pytest.raises(HepgenError, match="at least 5 events on each side, found 4"):
        classifier_test(normal(4, seed=1), normal(9, seed=1), 1)


def test_auc_equals_sklearn_with_ties():
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, 400)
    scores = np.round(rng.normal(label, 1), 1)
    assert auc(scores, label).value == pytest.approx(roc_auc_score(label, scores), abs=1e-12)


def test_auc_of_weighted_events_is_that_of_repeated_ones():
    rng = np.random.default_rng(1)
    label, times = rng.integers(0, 2, 300), rng.integers(1, 4, 300)
    scores = np.round(rng.normal(label, 1), 1)
    expected = auc(np.repeat(scores, times), np.repeat(label, times)).value
    assert auc(scores, label, times.astype(float)).value == pytest.approx(expected, abs=1e-12)
    assert auc(scores, label, np.full(300, 0.1)) == pytest.approx(auc(scores, label), rel=1e-9)


def test_auc_error_is_the_spread_of_toys():
    """The spread of 500 toys is known to 3 %; 10 % allowed."""
    rng = np.random.default_rng(2)
    label = np.repeat([0, 1], 200)
    toys = [auc(rng.normal(label, 1), label) for _ in range(500)]
    spread = np.std([toy.value for toy in toys])
    assert np.mean([toy.error for toy in toys]) == pytest.approx(spread, rel=0.1)


def test_tails_of_a_shift():
    """Φ(δ − z) beyond the quantile z of a normal; two 68 % errors cover it in 84 to 100 % of 100 toys."""
    rng = np.random.default_rng(4)
    inside = 0
    for seed in range(100):
        x, y = rng.normal(0.2, 1, 4000), rng.normal(0, 1, 4000)
        ((ratio, _),) = tails(x, y, seed, quantiles=(0.95,))
        inside += abs(ratio.value - norm.sf(norm.ppf(0.95) - 0.2) / 0.05) < 2 * ratio.error
    assert inside >= 86


def test_tails_of_weighted_events_are_those_of_repeated_ones():
    rng = np.random.default_rng(5)
    x, y, times = rng.exponential(size=500), rng.exponential(size=500), rng.integers(1, 4, 500)
    expected = tails(np.repeat(x, times), np.repeat(y, times), 1)
    for found, other in zip(tails(x, y, 1, x_weight=times, y_weight=times), expected, strict=True):
        assert found.ratio.value == pytest.approx(other.ratio.value, rel=1e-12)
        assert found.ratio.error >= other.ratio.error
        assert found.p_value >= 0.9 * other.p_value


@pytest.mark.parametrize("weighted", [False, True])
def test_p_values_of_tails_are_valid_at_small_counts(weighted):
    """Ten true events beyond the quantile: of 2000 toys at most 5 % and 0.3 % have a smaller p, to 3 deviations."""
    rng = np.random.default_rng(6)
    found = []
    for seed in range(2000):
        weight = rng.uniform(0.5, 1.5, 1000) if weighted else None
        found.append(tails(rng.random(1000), rng.random(1000), seed, quantiles=(0.9905,), x_weight=weight)[0].p_value)
    for level in (0.05, 0.003):
        assert np.mean(np.array(found) < level) < level + 3 * np.sqrt(level / 2000)
    assert np.mean(np.array(found) < 0.2) > 0.08


def test_no_events_in_the_tail_have_the_error_of_one():
    y = np.arange(1000.0)
    ((ratio, p_value),) = tails(np.zeros(1000), y, 1, quantiles=(0.989,))
    # 12 true events lie at or beyond the quantile: that none of 12 is generated has a probability of 2⁻¹².
    assert ratio == (0, pytest.approx(1 / 12))
    assert p_value == pytest.approx(2 * 0.5**12)
