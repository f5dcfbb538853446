"""Response, purity, stability, efficiency and fakes of events that can be counted by hand."""

import numpy as np
import pytest

from hepgen.unfolding.dataset import Pairs
from hepgen.unfolding.detector import detector_figure, measure, response_figure
from hepgen.unfolding.spectra import Spectrum

EDGES = np.array([0.0, 1.0, 2.0, 3.0])


def spectrum(reco=EDGES):
    return Spectrum("mass_j1", ("mass_j1",), (0,), (EDGES,), (reco,))


@pytest.fixture
def pairs():
    # Of four events generated in the first bin one is missed, two stay and one moves up; of the second, one stays,
    # one moves above the axis; then a fake in the first bin. The third bin is empty at particle level.
    truth = [0.5, 0.5, 0.5, 0.5, 1.5, 1.5, np.nan]
    reco = [np.nan, 0.5, 0.5, 1.5, 1.5, 9.0, 0.5]
    weights = [1.0, 1.0, 1.0, 2.0, 1.0, 1.0, 2.0]
    columns = (np.array(values)[:, None] for values in (truth, reco))
    return Pairs(*columns, np.array(weights), np.isfinite(truth), np.isfinite(reco))


def test_shares_are_those_counted_by_hand(pairs):
    found = measure(spectrum(), pairs)
    np.testing.assert_allclose(found.response, [[0.5, 0, np.nan], [0.5, 0.5, np.nan], [0, 0, np.nan]])
    np.testing.assert_allclose(found.purity.value, [1, 1 / 3, np.nan])
    np.testing.assert_allclose(found.stability.value, [0.5, 0.5, np.nan])
    np.testing.assert_allclose(found.efficiency.value, [0.8, 1, np.nan])
    np.testing.assert_allclose(found.fakes.value, [0.5, 0, np.nan])
    # ((1 − ε)² Σ_passing w² + ε² Σ_failing w²) / (Σ w)²: 6 = 1 + 1 + 4 pass and 1 fails, of a weight of 5.
    assert found.efficiency.error[0] == pytest.approx(np.sqrt(0.2**2 * 6 + 0.8**2 * 1) / 5)


def test_figures_leave_out_what_is_not_known(pairs):
    found = measure(spectrum(), pairs)
    image = response_figure(spectrum(), found)
    # First index truth, second reco.
    assert image.maps[0].values == [[0.5, 0.5, None], [None, 0.5, None], [None, None, None]]
    lines = {line.label: line.y for line in detector_figure(spectrum(), found).lines}
    assert lines["efficiency (truth bins)"] == [0.8, 0.8, 1.0, 1.0, None, None]


def test_levels_of_different_bins_have_neither_purity_nor_stability(pairs):
    other = spectrum(np.array([0.0, 1.0, 3.0]))
    found = measure(other, pairs)
    assert (found.purity, found.stability) == (None, None)
    assert found.response.shape == (2, 3)
    labels = [line.label for line in detector_figure(other, found).lines]
    assert labels == ["efficiency (truth bins)", "fakes (reco bins)"]
