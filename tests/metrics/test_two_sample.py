"""Two-sample tests: null values, known values, errors that cover."""

import numpy as np
import pytest
from scipy.stats import norm, wasserstein_distance
from sklearn.metrics import roc_auc_score

from hepgen.errors import HepgenError
from hepgen.metrics.two_sample import auc, classifier_auc, pearson_difference, wasserstein


def normal(n, d=3, *, seed, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1, (n, d))


def test_classifier_cannot_tell_truth_from_truth():
    result = classifier_auc(normal(3000, seed=1), normal(3000, seed=2), 1)
    assert result.error == pytest.approx(np.sqrt(6001 / 12) / 3000, rel=0.05)
    assert result.value == pytest.approx(0.5, abs=3 * result.error)


def test_classifier_sees_a_shift():
    """The best possible AUC of two normals one standard deviation apart is Φ(1/√2) = 0.760."""
    result = classifier_auc(normal(3000, 1, seed=1), normal(3000, 1, seed=2, mean=1), 1)
    best = norm.cdf(1 / np.sqrt(2))
    assert best - 0.03 < result.value < best + 3 * result.error


def test_classifier_sees_a_correlation():
    """Marginals agree, only the correlation differs."""
    rng = np.random.default_rng(3)
    correlated = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 3000)
    assert classifier_auc(correlated, rng.permuted(correlated, axis=0), 1).value > 0.6


def test_classifier_is_reproducible():
    x, y = normal(500, seed=1), normal(500, seed=2)
    assert classifier_auc(x, y, 4) == classifier_auc(x, y, 4)


def test_classifier_needs_events():
    with pytest.raises(HepgenError, match="at least 5 events on each side, found 4"):
        classifier_auc(normal(4, seed=1), normal(9, seed=1), 1)


def test_auc_equals_sklearn_with_ties():
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, 400)
    scores = np.round(rng.normal(label, 1), 1)
    assert auc(scores, label).value == pytest.approx(roc_auc_score(label, scores), abs=1e-12)


def test_auc_error_is_the_spread_of_toys():
    """The spread of 500 toys is known to 3 %; 10 % allowed."""
    rng = np.random.default_rng(2)
    label = np.repeat([0, 1], 200)
    toys = [auc(rng.normal(label, 1), label) for _ in range(500)]
    spread = np.std([toy.value for toy in toys])
    assert np.mean([toy.error for toy in toys]) == pytest.approx(spread, rel=0.1)


def test_wasserstein_equals_scipy():
    x, y = normal(300, 1, seed=1)[:, 0] * 50 + 120, normal(400, 1, seed=2)[:, 0] * 40 + 100
    expected = wasserstein_distance(x, y) / y.std()
    assert wasserstein(x, y, 1).value == pytest.approx(expected, rel=1e-12)


def test_wasserstein_of_a_shift():
    """Two normals a distance 0.5 apart; value within 3 errors, and the error within 40 % of that of a mean."""
    result = wasserstein(normal(4000, 1, seed=1, mean=0.5)[:, 0], normal(4000, 1, seed=2)[:, 0], 1)
    assert result.value == pytest.approx(0.5, abs=3 * result.error)
    assert result.error == pytest.approx(np.sqrt(2 / 4000), rel=0.4)


def test_pearson_difference():
    rng = np.random.default_rng(3)
    x = rng.multivariate_normal([0, 0], [[1, 0.8], [0.8, 1]], 4000)
    result = pearson_difference(x, normal(4000, 2, seed=2), 1)
    assert result.value == pytest.approx(0.8, abs=4 * result.error)
    # (1 − ρ²)/√n of both sets
    assert result.error == pytest.approx(np.hypot(1 - 0.8**2, 1) / np.sqrt(4000), rel=0.4)
    assert pearson_difference(x, x, 1).value == 0
