"""Counts keep every event and its weight; χ² has the mean that it should."""

import numpy as np
import pytest

from hepgen.metrics.histograms import Chi2, chi2, count

EDGES = np.linspace(0, 1, 11)


def test_counts_equal_numpy():
    values = np.random.default_rng(1).uniform(0, 1, 500)
    expected, _ = np.histogram(values, EDGES)
    counts = count(values, EDGES)
    np.testing.assert_array_equal(counts.values[1:-1], expected)
    np.testing.assert_array_equal(counts.variances, counts.values)


def test_underflow_and_overflow_are_kept():
    counts = count(np.array([-1.0, 0.05, 2.0, 3.0]), EDGES)
    assert (counts.values[0], counts.values[1], counts.values[-1]) == (1, 1, 2)
    assert counts.values.sum() == 4


def test_weights_enter_squared_into_the_variance():
    counts = count(np.array([0.05, 0.05]), EDGES, np.array([2.0, 3.0]))
    assert (counts.values[1], counts.variances[1]) == (5, 13)


@pytest.mark.parametrize("events", [100, 2000])
def test_chi2_of_toys_has_mean_one(events):
    """Mean of χ²/ndf over 1000 pairs of equal parents; its error is √(2/11/1000) = 0.0135, three of it allowed.

    Holds with 100 events in 12 bins too, where bins are far from Gaussian.
    """
    rng = np.random.default_rng(1)
    probability = np.exp(-np.arange(12) / 4)
    probability /= probability.sum()
    tests = []
    for _ in range(1000):
        pair = [rng.choice(12, events, p=probability) / 10 - 0.05 for _ in range(2)]
        tests.append(chi2(*(count(x, EDGES) for x in pair)))
    assert np.mean([test.per_ndf for test in tests]) == pytest.approx(1, abs=3 * np.sqrt(2 / 11 / 1000))
    # The p-value is uniform: its mean over 1000 is known to 0.0091.
    assert np.mean([test.p_value for test in tests]) == pytest.approx(0.5, abs=3 * 0.0091)


def test_chi2_error_is_the_spread_of_toys():
    """With different parents as well; the spread of 1000 toys is known to 2.2 %, 10 % allowed."""
    rng = np.random.default_rng(2)
    toys = [chi2(count(rng.uniform(0, 1, 1000), EDGES), count(rng.beta(1.2, 1, 1000), EDGES)) for _ in range(1000)]
    spread = np.std([toy.per_ndf for toy in toys])
    assert np.sqrt(np.mean([toy.error**2 for toy in toys])) == pytest.approx(spread, rel=0.1)


def test_chi2_by_hand():
    result = chi2(count(np.array([0.05, 0.15, 0.15]), EDGES), count(np.array([0.05, 0.05, 0.15]), EDGES))
    assert result == Chi2(pytest.approx(1 / 3 + 1 / 3), 1)


def test_equal_histograms_have_no_chi2():
    counts = count(np.linspace(0, 1, 50), EDGES)
    assert chi2(counts, counts).value == 0
