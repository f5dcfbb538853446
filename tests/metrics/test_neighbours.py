"""Memorisation: copies are found, an honest generator is not accused."""

import numpy as np
import pytest
from scipy.stats import kstest

from hepgen.errors import HepgenError
from hepgen.metrics.neighbours import memorisation


def test_an_honest_generator_has_one_half():
    """Over 200 toys the p-values are uniform, with more generated than true events too; the test is at 1 ‰."""
    rng = np.random.default_rng(1)
    results = [memorisation(*(rng.normal(size=(n, 2)) for n in (300, 60, 100)), seed) for seed in range(200)]
    assert kstest([result.p_value for result in results], "uniform").pvalue > 1e-3
    shares = [result.share.value for result in results]
    assert np.mean(shares) == pytest.approx(0.5, abs=4 * np.std(shares) / np.sqrt(200))
    # The spread of 200 toys is known to 5 %.
    assert np.mean([result.share.error for result in results]) == pytest.approx(np.std(shares), rel=0.15)


@pytest.mark.parametrize("smearing", [0, 1e-3])
def test_copies_are_found(smearing):
    rng = np.random.default_rng(2)
    train, test = rng.normal(size=(2, 500, 3))
    copies = train[rng.integers(0, 500, 400)] + smearing * rng.normal(size=(400, 3))
    share, p_value = memorisation(copies, train, test, 1)
    assert share.value > 0.99
    assert p_value < 1e-9


def test_a_share_of_copies_is_measured():
    """One copy in five: the others are half near training events, so that 0.6 of all are."""
    rng = np.random.default_rng(3)
    train, test, x = rng.normal(size=(3, 3000, 3))
    x[::5] = train[::5]
    share, p_value = memorisation(x, train, test, 1)
    assert share.value == pytest.approx(0.6, abs=3 * share.error)
    assert p_value < 1e-6


def test_missing_events_are_refused():
    x = np.zeros((10, 2))
    with pytest.raises(HepgenError, match="found 10, 10 and 0"):
        memorisation(x, x, x[:0], 1)
