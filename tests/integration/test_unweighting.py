import numpy as np

from hepgen.integration.unweighting import POOL, bootstrap_maximum, unweight


def test_the_maximum_is_the_median_of_the_replicas_largest_weights():
    """Against replicas drawn one by one: the rank of the median of 1,000 has a standard error of 1.6 %."""
    rng = np.random.default_rng(1)
    weight = rng.exponential(size=100 * POOL)
    largest = rng.choice(weight, (1000, 100)).max(1)
    low, high = np.quantile(largest, [0.46, 0.54])
    assert low <= bootstrap_maximum(weight) <= high


def test_one_outlier_does_not_make_the_maximum():
    weight = np.ones(1000)
    weight[0] = 1e6
    assert bootstrap_maximum(weight) == 1


def test_unweighted_events_keep_every_distribution():
    """Four standard errors, from the variance of hit or miss: Σ w (max - w) below the maximum, none above."""
    rng = np.random.default_rng(2)
    x = rng.random(50_000)
    weight, maximum = np.exp(2 * x), 6.0
    kept = unweight(weight, maximum, rng)
    over = weight > maximum
    assert set(np.unique(kept[~over])) == {0.0, 1.0}
    np.testing.assert_array_equal(kept[over], weight[over] / maximum)
    edges = np.linspace(0, 1, 6)
    found, expected = (np.histogram(x, edges, weights=w)[0] for w in (kept * maximum, weight))
    errors = np.sqrt(np.histogram(x, edges, weights=weight * np.maximum(maximum - weight, 0))[0])
    assert (abs(found - expected) < 4 * errors).all()
