"""Distances: known values, JetNet's values, weights, and p-values that are uniform without a difference."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kstest, wasserstein_distance

from hepgen.errors import HepgenError
from hepgen.metrics import distances
from hepgen.metrics.distances import (
    MEASURES,
    correlations,
    fpd,
    kpd,
    p_value,
    pearson_difference,
    sliced_wasserstein,
    wasserstein,
)

GOLDEN = json.loads((Path(__file__).parent / "jetnet_golden.json").read_text())
SEED = 42


def normal(n, d=3, *, seed, mean=0.0):
    return np.random.default_rng(seed).normal(mean, 1, (n, d))


def compared(size, columns, stretch, shift):
    """The events of benchmarks/jetnet_agreement.py."""
    rng = np.random.default_rng(columns)
    x, y = rng.normal(size=(2, size, columns)) @ rng.normal(size=(columns, columns)) + 2
    x[:, 0], y[:, 0] = rng.exponential(size=(2, size))
    return x * stretch + shift, y


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: "-".join(map(str, case["events"])))
def test_agrees_with_jetnet_within_a_percent(case):
    x, y = compared(*case["events"])
    found = {"fpd": fpd(x, y, SEED).value, "kpd": kpd(x, y, SEED).value}
    found["w1"] = wasserstein(x[:, 0], y[:, 0], SEED, replicas=2).value
    # JetNet fits the line step by step from slope 1 and stops up to 5e-5 short of the best intercept.
    short = {"fpd": 5e-5, "kpd": 0.0, "w1": 0.0}
    for name, expected in case["jetnet"].items():
        assert found[name] == pytest.approx(expected, rel=0.01, abs=short[name]), name


def test_wasserstein_equals_scipy():
    x, y = normal(300, 1, seed=1)[:, 0] * 50 + 120, normal(400, 1, seed=2)[:, 0] * 40 + 100
    expected = wasserstein_distance(x, y) / y.std()
    assert wasserstein(x, y, 1).value == pytest.approx(expected, rel=1e-12)


def test_wasserstein_of_weighted_events_equals_scipy():
    rng = np.random.default_rng(1)
    x, y, u, v = rng.normal(1, 1, 300), rng.normal(0, 1, 400), rng.random(300), rng.random(400)
    spread = math.sqrt(np.cov(y, aweights=v, ddof=0))
    expected = wasserstein_distance(x, y, u, v) / spread
    assert wasserstein(x, y, 1, x_weight=u, y_weight=v).value == pytest.approx(expected, rel=1e-12)


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
    assert pearson_difference(x, x, 1).value == pytest.approx(0, abs=1e-12)


def test_collapsed_column_is_uncorrelated():
    rng = np.random.default_rng(3)
    y = rng.multivariate_normal([1e3, 1e3], [[1, 0.8], [0.8, 1]], 2000)
    x = np.column_stack([np.full(1000, 1.1e3), y[:1000, 1]])
    assert pearson_difference(x, y, 1).value == pytest.approx(abs(np.corrcoef(y, rowvar=False)[0, 1]), rel=1e-6)


def test_sliced_wasserstein_of_a_shift():
    """A shift δ along one of d = 3 axes is δ|u₁| on the direction u, whose mean is δ/2; of 50 known to 8 %."""
    result = sliced_wasserstein(normal(4000, seed=1) + np.array([2, 0, 0]), normal(4000, seed=2), 1)
    assert result.value == pytest.approx(1, rel=3 * 0.08)
    assert 0 < result.error < 0.05


def test_fpd_equals_the_closed_form():
    """Of uncorrelated normals: Σ (Δμ² + Δσ²), here in units of the truth's largest absolute values."""
    y = normal(20_000, 2, seed=1)
    x = normal(20_000, 2, seed=2) * [1, 1.5] + [0.5, 0]
    result = fpd(x, y, 1)
    a, b = 1 / np.abs(y).max(0)
    assert result.value == pytest.approx((0.5 * a) ** 2 + (0.5 * b) ** 2, abs=4 * result.error)
    assert result.error < 0.05 * result.value


@pytest.mark.parametrize("distance", [fpd, kpd])
def test_error_covers_the_spread_of_samples(distance):
    """Over 30 pairs of samples, whose spread is known to 13 %: not too small, and at most two times too large."""
    rng = np.random.default_rng(5)
    pairs = [(rng.uniform(0.1, 1.1, (300, 2)), rng.uniform(0, 1, (300, 2))) for _ in range(30)]
    results = [distance(x, y, seed) for seed, (x, y) in enumerate(pairs)]
    spread = np.std([result.value for result in results], ddof=1)
    assert 0.7 * spread < np.mean([result.error for result in results]) < 2 * spread


@pytest.mark.parametrize("name", MEASURES)
def test_integer_weights_are_repeated_events(name):
    rng = np.random.default_rng(4)
    x, y, times = rng.normal(0.2, 1, (200, 1)), rng.normal(size=(150, 1)), rng.integers(1, 4, 200)
    if name != "wasserstein":
        x, y = np.hstack([x, x**2]), np.hstack([y, rng.normal(size=y.shape)])
    repeated = np.repeat(x, times, axis=0)
    of_weights = np.r_[times / times.sum(), np.zeros(150)], np.r_[np.zeros(200), np.full(150, 1 / 150)]
    of_events = (np.r_[np.full(len(repeated), 1 / len(repeated)), np.zeros(150)],
                 np.r_[np.zeros(len(repeated)), np.full(150, 1 / 150)])  # fmt: skip
    one, other = (
        distances._measure(name, events, y, (y, np.ones(150)), 1)(*weights)
        for events, weights in ((x, of_weights), (repeated, of_events))
    )
    # The kernel's mean leaves out an event with itself, but not with its repetition.
    assert one == pytest.approx(other, rel=0.15 if name == "kpd" else 1e-9)


@pytest.mark.parametrize("distance", [fpd, kpd])
def test_weights_undo_a_selection(distance):
    """Events that were kept with probability x come from the truth again with weights 1/x."""
    rng = np.random.default_rng(6)
    y, drawn = rng.uniform(0.2, 1, (3000, 2)), rng.uniform(0.2, 1, (12_000, 2))
    x = drawn[rng.random(len(drawn)) < drawn[:, 0]][:5000]
    plain, weighted = distance(x, y, 1), distance(x, y, 1, x_weight=1 / x[:, 0])
    assert plain.value > 5 * plain.error
    assert abs(weighted.value) < plain.value / 10


@pytest.mark.parametrize("name", MEASURES)
def test_p_value_is_uniform_without_a_difference(name, monkeypatch):
    """40 pairs, half of the events weighted; Kolmogorov and Smirnov's test at 1 ‰."""
    monkeypatch.setattr(distances, "PROJECTIONS", 5)
    rng = np.random.default_rng(7)
    values = []
    for seed in range(40):
        x, y = rng.normal(size=(2, 80, 1 if name == "wasserstein" else 2))
        values.append(p_value(name, x, y, seed, permutations=39, x_weight=rng.uniform(0.5, 1.5, 80)))
    assert kstest(values, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("name", MEASURES)
def test_p_value_sees_a_difference(name):
    rng = np.random.default_rng(8)
    y = rng.normal(2, 1, (300, 1))
    x = rng.normal(3, 1, (300, 1))
    if name != "wasserstein":
        x, y = np.hstack([x, x]), np.hstack([y, rng.normal(size=(300, 1))])
    assert p_value(name, x, y, 1, permutations=39) == 1 / 40


@pytest.mark.parametrize("name", MEASURES)
def test_permuted_distance_is_the_same_with_the_samples_exchanged(name, monkeypatch):
    """The scale is that of both samples, even where one is much wider."""

    def distance(measure, x_weight, y_weight, *_):
        return measure(np.r_[x_weight, 0 * y_weight] / 100, np.r_[0 * x_weight, y_weight] / 100)

    monkeypatch.setattr(distances, "permutation_p_value", distance)
    x, y = normal(100, 2, seed=1), normal(100, 2, seed=2) * [8, 1]
    assert p_value(name, x, y, 1) == pytest.approx(p_value(name, y, x, 1))


def test_a_constant_column_keeps_its_units():
    x = np.column_stack([normal(300, 1, seed=1), np.full(300, 5.0)])
    assert wasserstein(x[:, 1] + 2, x[:, 1], 1).value == pytest.approx(2)
    np.testing.assert_allclose(correlations(x), np.diag([1, 0]), atol=1e-9)


def test_correlations_of_weighted_events():
    rng = np.random.default_rng(1)
    x, times = rng.normal(size=(200, 2)) @ [[1, 0.5], [0, 1]] + 1e3, rng.integers(1, 4, 200)
    np.testing.assert_allclose(correlations(x, times), np.corrcoef(np.repeat(x, times, 0), rowvar=False), rtol=1e-9)


@pytest.mark.parametrize(
    ("weight", "found"),
    [
        (np.ones(99), "weights of shape \\(99,\\)"),
        (np.r_[-1.0, np.ones(99)], "not negative"),
        (np.zeros(100), "not all zero"),
        (np.r_[np.nan, np.ones(99)], "finite"),
    ],
)
def test_bad_weights_are_refused(weight, found):
    x = normal(100, 1, seed=1)[:, 0]
    with pytest.raises(HepgenError, match=found):
        wasserstein(x, x, 1, x_weight=weight)


def test_bad_events_are_refused():
    x = normal(100, seed=1)
    with pytest.raises(HepgenError, match=r"1 of 100 events .* not finite"):
        pearson_difference(np.where(np.arange(100)[:, None] == 3, np.inf, x), x, 1)
    with pytest.raises(HepgenError, match=r"at least 50 \(effective\) events on each side, found 40"):
        fpd(x[:40], x, 1)
    with pytest.raises(HepgenError, match="empty"):
        wasserstein(x[:0, 0], x[:, 0], 1)
