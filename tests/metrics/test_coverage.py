"""Precision, recall, density and coverage of sets whose values are known."""

import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.metrics.coverage import _compare, prdc


def normal(n, d=2, *, seed):
    return np.random.default_rng(seed).normal(size=(n, d))


def values(x, y, **options):
    return {name: estimate.value for name, estimate in prdc(x, y, 1, **options).items()}


def test_disjoint_sets_have_none():
    x = normal(500, seed=1)
    assert values(x + 100, x) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_equal_parents():
    """The expected coverage is 1 − (m − 1)…(m − k)/((2m − 1)…(2m − k)) (Naeem et al.), near 1 − 2⁻⁵."""
    result = prdc(normal(5000, seed=1), normal(5000, seed=2), 1)
    missed = np.prod([(1000 - i) / (2000 - i) for i in range(1, 6)])
    assert result["coverage"].value == pytest.approx(1 - missed, abs=4 * result["coverage"].error)
    assert result["density"].value == pytest.approx(1, abs=4 * result["density"].error)
    assert min(result["precision"].value, result["recall"].value) > 0.9
    assert result["precision"].value == pytest.approx(result["recall"].value, abs=0.02)


def test_a_lost_mode_costs_recall_and_coverage():
    y = normal(2000, seed=1) + np.where(np.arange(2000) % 2, 50, 0)[:, None]
    found = values(normal(2000, seed=2), y)
    assert found["precision"] > 0.9
    # Half of the truth is out of reach, and half of its balls hold twice as many generated events.
    assert found["recall"] == pytest.approx(0.5, abs=0.06)
    assert found["coverage"] == pytest.approx(0.5, abs=0.06)


def test_too_wide_a_generator_costs_precision_and_density():
    found = values(5 * normal(2000, seed=2), normal(2000, seed=1))
    assert max(found["precision"], found["density"]) < 0.3
    assert found["recall"] > 0.9


def test_weights_are_repeated_events():
    """Of one subset, in which all repetitions are; the weights' mean is two, so that k = 5 reaches 12 events."""
    rng = np.random.default_rng(3)
    x, y, times = rng.normal(0.3, 1, (80, 2)), rng.normal(size=(90, 2)), np.tile([1, 3], 40)
    precision, recall, density, coverage = _compare(
        np.repeat(x, times, 0), np.ones(160), np.repeat(y, 2, 0), np.ones(180), 11
    )
    assert _compare(x, times, y, np.ones(90), 5) == pytest.approx((precision, recall, density * 11 / 10, coverage))


def test_events_without_weight_do_not_count():
    x, y = normal(1000, seed=1), normal(1000, seed=2)
    far = np.concatenate([x, x + 100])
    assert values(far, y, x_weight=np.repeat([1.0, 0.0], 1000)) == values(x, y)


def test_too_few_events_are_refused():
    with pytest.raises(HepgenError, match="more than 25 events of positive weight on each side, found 29 and 100"):
        prdc(normal(29, seed=1), normal(100, seed=2), 1)
