import numpy as np
import pytest

from hepgen.unfolding.spectra import Spectrum, bin_edges, make_spectra


@pytest.mark.parametrize(
    ("name", "scale", "bins", "low", "high"),
    [
        ("mass_j1", 20, 50, 0, 75),
        ("multiplicity_j2", 20, 80, 0, 80),
        ("zg_j1", 0.2, 50, 0, 0.5),
        ("pt_j1", 300, 30, 0, 600),
    ],
)
def test_binning(name, scale, bins, low, high):
    values = scale * np.random.default_rng(1).uniform(0.5, 1.5, 1000)
    np.testing.assert_allclose(bin_edges(name, 30, values), np.linspace(low, high, bins + 1))


def test_wide_jets_are_not_binned_as_narrow_ones():
    values = np.random.default_rng(1).uniform(50, 500, 1000)
    np.testing.assert_allclose(bin_edges("mass_j1", 30, values), np.linspace(0, 800, 31))


def test_unknown_observables_are_binned_over_their_own_range():
    edges = bin_edges("alpha", 10, np.linspace(-3, 3, 1001))
    assert len(edges) == 11
    assert edges[0] == pytest.approx(-2.97)
    assert edges[-1] == pytest.approx(2.97)


def test_a_constant_has_bins_around_it():
    edges = bin_edges("alpha", 4, np.full(100, 7.0))
    assert (np.diff(edges) > 0).all()
    assert edges[0] < 7 < edges[-1]


@pytest.fixture
def plane():
    """Two observables, the second and the first of three, with other bins at detector level."""
    truth = (np.array([0.0, 1, 2]), np.array([0.0, 10, 20, 30]))
    reco = (np.array([0.0, 0.5, 1, 2, 3]), np.array([0.0, 15, 30]))
    return Spectrum("plane", ("b", "a"), (1, 0), truth, reco)


def test_cells_of_a_plane_follow_the_order_of_an_array(plane):
    assert (plane.shape("truth"), plane.shape("reco")) == ((2, 3), (4, 2))
    assert (plane.size("truth"), plane.size("reco")) == (4 * 5, 6 * 4)
    # The columns are a, b, and one that the plane does not look at.
    values = np.array([[5.0, 0.5, 9], [25, 1.5, 9], [-1, 0.5, 9], [5, 2.5, 9], [40, -1, 9], [10, 1, 9]])
    cells = plane.cells(values, "truth")
    rows, columns = np.unravel_index(cells, (4, 5))
    assert rows.tolist() == [1, 2, 1, 3, 0, 2]
    assert columns.tolist() == [1, 3, 0, 1, 4, 2]
    assert np.isin(cells, plane.inner("truth")).tolist() == [True, True, False, False, False, True]
    expected, _, _ = np.histogram2d(values[:, 1], values[:, 0], plane.truth, weights=values[:, 0])
    counted = plane.count(values, values[:, 0], "truth")
    np.testing.assert_array_equal(counted.values, expected.ravel())
    np.testing.assert_array_equal(counted.variances.sum(), 25 + 25**2 + 10**2)


def test_all_observables_and_planes_have_a_spectrum(make_config):
    binning = {"alpha": {"edges": [-1, 0, 2], "reco": [-2, 0, 1, 3]}}
    edges = {"edges": [0, 20, 50], "reco": [0, 10, 20, 50]}
    block = make_config(
        bins=7, binning=binning, planes={"both": {"mass_j1": edges, "alpha": binning["alpha"]}}
    ).unfolding
    alpha, mass, both = make_spectra(block, np.random.default_rng(1).uniform(20, 400, (100, 2)))
    assert (alpha.name, alpha.columns, alpha.shape("truth"), alpha.shape("reco")) == ("alpha", (0,), (2,), (3,))
    assert (mass.name, mass.columns, mass.shape("truth"), mass.shape("reco")) == ("mass_j1", (1,), (7,), (7,))
    assert (both.name, both.observables, both.columns) == ("both", ("mass_j1", "alpha"), (1, 0))
    assert (both.shape("truth"), both.shape("reco")) == ((2, 2), (3, 3))
    np.testing.assert_array_equal(both.edges("reco")[1], [-2, 0, 1, 3])
