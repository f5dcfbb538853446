import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.storage import open_h5
from hepgen.table import read_tables
from hepgen.unfolding.results import combine, measured_by, read_binned, read_weights
from hepgen.unfolding.unfold import unfold
from hepgen.unfolding.variations import variations

from .conftest import selected, toy_table


@pytest.fixture(scope="module", params=["omnifold", "ibu"])
def spectra(request, chain):
    return read_binned(chain.measured[request.param])


def weights_of(chain, name):
    (path,) = (path for path in chain.files if path.stem == name)
    with open_h5(path, "unfolded") as file:
        return file["weights"][:].astype(float)


def test_every_variation_of_every_spectrum_is_there(chain, spectra):
    assert [binned.spectrum.name for binned in spectra] == ["alpha", "mass_j1", "both"]
    method = spectra[0].method
    seeds, iterations = {"omnifold": (2, 2), "ibu": (1, 3)}[method]
    for binned, cells in zip(spectra, (6, 50, 4), strict=True):
        assert binned.values.keys() == {v.name for v in variations(chain.config.unfolding, method)}
        assert binned.nominal.shape == binned.refolded["nominal"].shape == (seeds, iterations, cells)
        assert binned.stack("data").shape == binned.stack("simulation").shape == (2, seeds, iterations, cells)
        assert binned.stack("systematic", "other").shape == (2, seeds, iterations, cells)
        assert binned.stack("toy").shape == (2, 1, iterations, cells)
        assert binned.values["systematic-other"].shape == (seeds, iterations, cells)
        assert binned.targets.keys() == {"closure", "linear", "bump", "alternative-other", "toy-1", "toy-2"}
        assert (binned.variances >= 0).all()
        assert binned.variances.shape == binned.nominal.shape


def test_data_and_simulation_are_those_of_the_tables(chain, spectra):
    data = read_tables(chain.tables["nature"])
    simulation = read_tables(chain.tables["simulation"], unseen=True)
    scale = len(data) / simulation.passed().sum()
    for binned in spectra[:2]:
        (edges,), name = binned.spectrum.truth, binned.spectrum.name
        counts = np.histogram(data.columns[name], edges)[0]
        np.testing.assert_array_equal(binned.measured.values, counts)
        np.testing.assert_array_equal(binned.measured.variances, counts)
        true = simulation.truth[name][simulation.passed("truth")]
        np.testing.assert_allclose(binned.prior.values, scale * np.histogram(true, edges)[0])


def test_weights_are_binned_at_either_level(chain):
    simulation = read_tables(chain.tables["simulation"], unseen=True)
    true, seen = simulation.passed("truth"), simulation.passed()
    weights = weights_of(chain, "omnifold_data-2_2")
    (edges,) = (binned := read_binned(chain.measured["omnifold"])[0]).spectrum.truth
    for k in range(2):
        expected = np.histogram(simulation.truth["alpha"][true], edges, weights=weights[k, true])[0]
        np.testing.assert_allclose(binned.values["data-2"][1, k], expected)
        expected = np.histogram(simulation.columns["alpha"][seen], edges, weights=weights[k, seen])[0]
        np.testing.assert_allclose(binned.refolded["data-2"][1, k], expected)


def test_another_simulation_s_weights_are_its_own_events(chain):
    other = read_tables(chain.tables["other"], unseen=True)
    weights, true = weights_of(chain, "omnifold_systematic-other_1"), other.passed("truth")
    (edges,) = (binned := read_binned(chain.measured["omnifold"])[0]).spectrum.truth
    expected = np.histogram(other.truth["alpha"][true], edges, weights=weights[0, true])[0]
    np.testing.assert_allclose(binned.values["systematic-other"][0, 0], expected)


def test_targets_are_the_truth_of_the_pseudo_data(chain, spectra):
    """In the data's yield at detector level; what is unfolded is nearer to a changed truth than the prior is."""
    alpha = spectra[0]
    data, other = read_tables(chain.tables["nature"]), read_tables(chain.tables["other"], unseen=True)
    true = other.truth["alpha"][other.passed("truth")]
    expected = np.histogram(true, *alpha.spectrum.truth)[0] * len(data) / other.passed().sum()
    np.testing.assert_allclose(alpha.targets["alternative-other"], expected)
    for name, target in alpha.targets.items():
        assert target.sum() == pytest.approx(alpha.prior.values.sum(), rel=0.1), name
    if alpha.method == "ibu":
        found, target = alpha.values["linear"][0, -1], alpha.targets["linear"]
        assert np.abs(found - target).sum() < 0.6 * np.abs(alpha.prior.values - target).sum()


def test_the_spectra_of_one_method_among_several(chain):
    files = list(chain.measured.values())
    assert {binned.method for binned in measured_by("ibu", files)} == {"ibu"}
    with pytest.raises(HepgenError, match="no measured spectra of bayes were given"):
        measured_by("bayes", files)


def test_a_missing_result_is_named(chain, tmp_path):
    files = [path for path in chain.files if "ibu_data-2" not in path.name]
    with pytest.raises(
        HepgenError, match=r"no result of ibu \(data-2, seed 1\) was given; run `hepgen unfolding unfold`"
    ):
        combine(chain.config, "ibu", chain.tables, files, tmp_path / "m.h5")
    assert not (tmp_path / "m.h5").exists()


def test_results_of_other_bins_or_samples_are_refused(chain, make_config, tmp_path):
    block = chain.config.unfolding.model_dump(mode="json")
    edges = np.linspace(-3, 3, 7).tolist()
    turned = dict(reversed(block["planes"]["both"].items()))
    for name, change in (
        ("alpha", {"bins": 7}),
        ("alpha", {"binning": {"alpha": {"edges": edges}}}),
        ("both", {"planes": {"both": turned}}),
    ):
        with pytest.raises(HepgenError, match=f"{name} was unfolded in other bins or not at all; unfold again"):
            combine(make_config(**{**block, **change}), "ibu", chain.tables, chain.files, tmp_path / "m.h5")
    empty = make_config(**{**block, "binning": {"alpha": {"edges": [50, 60]}}})
    with pytest.raises(HepgenError, match=r"unfolding\.binning: the data has no events within the bins of alpha"):
        combine(empty, "ibu", chain.tables, chain.files, tmp_path / "m.h5")
    path = next(path for path in chain.files if path.name.startswith("omnifold"))
    with pytest.raises(HepgenError, match="its weights do not belong to this simulation"):
        read_weights(path, 7)


def test_a_background_is_unfolded_away(make_config, store, tmp_path):
    """Data that are the simulation and a background unfold to the simulation's truth in IBU."""
    simulation, background = selected(toy_table(3000, 1)), toy_table(400, 4)
    seen = simulation[simulation.passed()]
    data = {name: np.concatenate([seen.columns[name], background.columns[name]]) for name in ("alpha", "mass_j1")}
    tables = {
        "simulation": store("simulation", simulation),
        "background": store("background", background),
        "nature": store("nature", type(simulation)(data)),
    }
    config = make_config(background=["background"], tests=False, methods={"ibu": {"type": "ibu", "iterations": 2}})
    unfold(config, "ibu", "nominal", 1, tables, tmp_path / "u.h5")
    combine(config, "ibu", tables, [tmp_path / "u.h5"], tmp_path / "m.h5")
    for binned in read_binned(tmp_path / "m.h5"):
        np.testing.assert_allclose(binned.nominal[0], [binned.prior.values] * 2, rtol=1e-9)
        np.testing.assert_allclose(binned.measured.values, binned.folded.values, rtol=1e-9)
        assert (binned.measured.variances > binned.measured.values).any()
