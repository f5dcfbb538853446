"""Amplification: generators whose worth in true events is known."""

import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.metrics.amplification import amplification


def test_repeating_the_training_is_worth_the_training():
    """Drawing from n training events knows the cells' probabilities as well as these do.

    1/n fluctuates by √(2/K) with the luck of the training, K = 64 cells, and less with the measurement.
    """
    rng = np.random.default_rng(1)
    found = []
    for seed in range(30):
        training = rng.normal(size=(400, 1))
        x = training[rng.integers(0, 400, 8000)]
        result = amplification(x, rng.normal(size=(8000, 1)), 400, seed)
        assert not result.bound
        found.append(1 / result.equivalent.value)
    assert np.mean(found) == pytest.approx(1 / 400, rel=4 * np.sqrt(2 / 64 / 30))
    assert result.factor == pytest.approx(tuple(number / 400 for number in result.equivalent))


def test_the_exact_density_is_only_bounded():
    """Without a difference 84 % of samples are within a standard deviation of the distance, s = √(2K)(1/N + 1/M).

    The bound is then K/2s or more, K = 64 cells, less a fifth as s is known no better; 17 ± 1.6 of 20 expected.
    """
    rng = np.random.default_rng(2)
    results = [amplification(*rng.normal(size=(2, 8000, 1)), 1000, seed) for seed in range(20)]
    bounded = [result for result in results if result.bound]
    least = 64 / 2 / np.sqrt(2 * 64) / (1 / 8000 + 1 / 4000)
    assert len(bounded) >= 13
    assert all(result.equivalent.high == np.inf for result in bounded)
    assert min(result.equivalent.low for result in bounded) > 0.8 * least


def test_a_wrong_density_is_worth_few_events():
    """A shift of 0.3 in three columns has ∫(q − p)²/p = e^0.27 − 1, of which the 64 cells see the larger part."""
    rng = np.random.default_rng(3)
    result = amplification(rng.normal(0.3, 1, (8000, 3)), rng.normal(size=(8000, 3)), 1000, 1)
    assert not result.bound
    assert 1 < result.equivalent.value / (63 / (np.exp(0.27) - 1)) < 1.25


def test_a_wrong_column_that_the_joint_cells_never_cut_is_seen():
    """64 cells of eight columns, of which the last two are not cut; the joint cells would give a bound."""
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(2, 8000, 8))
    x[:, 7] += 0.3
    result = amplification(x, y, 1000, 1)
    assert not result.bound
    assert result.equivalent.value / (63 / (np.exp(0.09) - 1)) == pytest.approx(1, abs=0.4)


def test_weights_undo_a_selection():
    rng = np.random.default_rng(4)
    y, drawn = rng.uniform(0.2, 1, (8000, 2)), rng.uniform(0.2, 1, (16_000, 2))
    x = drawn[rng.random(len(drawn)) < drawn[:, 0]]
    plain = amplification(x, y, 1000, 1)
    weighted = amplification(x, y, 1000, 1, x_weight=1 / x[:, 0])
    assert plain.equivalent.high < 1000 < weighted.equivalent.low


def test_atoms_are_no_obstacle():
    rng = np.random.default_rng(5)
    x, y = (np.column_stack([rng.normal(size=4000).clip(0), rng.normal(size=4000)]) for _ in range(2))
    assert amplification(x, y, 1000, 1).equivalent.low > 1000


def test_too_small_a_truth_is_refused():
    with pytest.raises(HepgenError, match="at least 200 held-out true events, found 199"):
        amplification(np.zeros((10, 2)), np.zeros((199, 2)), 10, 1)
