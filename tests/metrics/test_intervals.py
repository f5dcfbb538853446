import numpy as np
import pytest
from scipy.stats import binom

from hepgen.errors import HepgenError
from hepgen.metrics.intervals import LEVEL, Interval, bootstrap, interval, inverse


def test_a_bootstrap_draws_within_strata():
    strata = np.repeat([0, 1], [50, 5])
    totals = bootstrap(lambda counts: [counts[:50].sum(), counts[50:].sum()], strata, replicas=20, seed=1)
    assert totals.shape == (20, 2)
    np.testing.assert_array_equal(totals, [[50, 5]] * 20)


def test_the_bootstrap_error_of_a_mean_is_the_analytic_one():
    x = np.random.default_rng(1).exponential(1, 500)
    means = bootstrap(lambda c: np.average(x, weights=c), np.zeros(500), replicas=2000, seed=2)
    # The standard deviation of 2,000 draws is known to 1/√4000 = 1.6 %; three of these.
    assert means.std() == pytest.approx(x.std() / np.sqrt(500), rel=0.05)


def test_results_depend_on_the_seed_only():
    x = np.random.default_rng(1).normal(size=100)
    draws = [bootstrap(lambda c: np.average(x, weights=c), np.zeros(100), seed=seed) for seed in (1, 1, 2)]
    assert interval(0, draws[0], seed=1) == interval(0, draws[1], seed=1)
    assert not np.array_equal(draws[0], draws[2])


@pytest.mark.parametrize(
    ("trainings", "spread", "events_error", "excess"), [(1, 0, 1, 0), (3, 1, 0, 0), (3, 1, 0.6, 0.07), (10, 1, 0.3, 0)]
)
def test_coverage(trainings, spread, events_error, excess):
    """The interval covers the true mean in 68 % of experiments, however few the trainings.

    1,000 experiments know the coverage to 1.5 %, of which three are allowed, plus 1 % for the 300 replicas. Where
    few trainings and the events contribute alike it is known to be too wide (Behrens and Fisher's problem).
    """
    rng = np.random.default_rng(5)
    covered = 0
    for experiment in range(1000):
        nominal = rng.normal(0, events_error) + rng.normal(0, spread, trainings)
        replicas = nominal + rng.normal(0, events_error, (300, 1))
        result = interval(nominal, replicas, seed=experiment)
        covered += result.low <= 0 <= result.high
    assert LEVEL - 0.055 < covered / 1000 < LEVEL + 0.055 + excess


def test_a_single_training_has_the_error_of_the_events_alone():
    replicas = np.random.default_rng(1).normal(3, 1, (4000, 1))
    result = interval(np.array([2.0]), replicas, seed=1)
    assert result.value == 2.0
    assert result.high - result.low == pytest.approx(2, rel=0.06)  # ±1σ; three times the error of a quantile of 4,000


def test_an_interval_ends_where_no_value_is_possible():
    replicas = np.random.default_rng(1).normal(0.9, 0.5, (1000, 1))
    result = interval(np.array([0.9]), replicas, seed=1, support=(0.6, 1))
    assert result == (0.9, 0.6, 1)


def test_one_passing_event_or_none_is_known_to_a_factor():
    """Jeffreys' interval of one event, [0.417, 2.593] for a Poisson mean; the bootstrap knows of no spread."""
    value, low, high = inverse(Interval(1e-4, 1e-4, 1e-4), 10_000)
    assert value == pytest.approx(10_000)
    assert low == pytest.approx(10_000 / 2.593, rel=1e-3)
    assert high == pytest.approx(10_000 / 0.417, rel=1e-3)


def test_an_inverse_stays_between_no_rejection_and_what_one_event_can_tell():
    value, low, high = inverse(Interval(0.5, -0.2, 1.3), 100)
    assert (value, low) == (2, 1)
    assert high == pytest.approx(100 / 0.417, rel=0.02)
    assert inverse(Interval(1.0, 1.0, 1.0), 100)[:2] == (1, 1)


def test_coverage_of_a_rejection():
    """However few background events pass, the interval covers the true rejection in 68 % of experiments or more.

    The coverage is exact, from all counts and their probabilities. Counts being whole, that of any interval swings
    about its level; so it is held for the mean over 1 to 100 expected events, and within 8 % for each.
    """
    events, expected = 2000, np.geomspace(1, 100, 100)
    covered = np.zeros(100)
    for count in range(200):
        efficiency = max(count, 1) / events
        error = np.sqrt(efficiency * (1 - efficiency) / events) if count else 0.0
        result = inverse(Interval(efficiency, efficiency - error, efficiency + error), events)
        inside = (result.low <= events / expected) & (events / expected <= result.high)
        covered += inside * binom.pmf(count, events, expected / events)
    assert covered.mean() > LEVEL
    assert covered.min() > LEVEL - 0.08
    assert covered[expected > 10].mean() == pytest.approx(LEVEL, abs=0.04)


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(HepgenError, match="not finite"):
        interval(np.array([np.nan]), np.zeros((10, 1)), seed=1)
