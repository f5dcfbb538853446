import numpy as np
import pytest
from scipy.stats import kstest

from hepgen.errors import HepgenError
from hepgen.search.hunt import hunt


def test_global_p_values_without_signal_are_uniform(spectrum):
    """50 spectra, each with 50 toys of its own fit; Kolmogorov and Smirnov refuse 1 % of uniform samples."""
    edges, dijet = spectrum
    counts = np.random.default_rng(1).poisson(dijet(1000), (50, 40))
    found = [hunt(spectrum, edges, 50, seed).overall.value for seed, spectrum in enumerate(counts)]
    assert kstest(found, "uniform").pvalue > 0.01
    assert min(found) >= 1 / 51


def test_an_injected_bump_is_found_where_it_is(spectrum):
    edges, dijet = spectrum
    rng = np.random.default_rng(2)
    signal, _ = np.histogram(rng.normal(3650, 60, 80), edges)
    counts = rng.poisson(dijet(1500)) + signal
    bump = hunt(counts, edges, 100, 3)
    assert bump.window[0] <= 3650 <= bump.window[1]
    assert sum(bump.window) / 2 == pytest.approx(3650, abs=edges[1] - edges[0])
    # The excess has the background's fluctuation below it, about 13 events.
    assert bump.excess == pytest.approx(80, abs=40)
    assert bump.overall.value == pytest.approx(1 / 101)
    assert bump.overall.low < bump.overall.value <= bump.overall.high
    center = np.searchsorted(edges, 3650) - 1
    assert bump.by_bin[center] == bump.by_bin.min() == pytest.approx(bump.local)


def test_the_same_seed_gives_the_same_result_and_nothing_is_printed(spectrum, capsys):
    edges, dijet = spectrum
    counts = np.random.default_rng(3).poisson(dijet(300))
    first, second = (hunt(counts, edges, 30, 5) for _ in range(2))
    assert (first.overall, first.fit, first.window) == (second.overall, second.fit, second.window)
    assert not capsys.readouterr().out


def test_a_spectrum_of_a_few_bins_is_refused(spectrum):
    edges, _ = spectrum
    with pytest.raises(HepgenError, match="too few to fit"):
        hunt(np.bincount([0, 0, 1, 2], minlength=40), edges, 10, 1)
