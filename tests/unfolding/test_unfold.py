import awkward as ak
import numpy as np
import pytest

from hepgen.config import JetDefinition
from hepgen.errors import HepgenError
from hepgen.events import Events, write_events
from hepgen.jets import observe_file
from hepgen.storage import open_h5
from hepgen.table import Table, read_tables
from hepgen.unfolding.unfold import unfold


def result(path):
    with open_h5(path, "unfolded") as file:
        found = {}
        file.visititems(lambda name, item: found.update({name: item[:]}) if hasattr(item, "dtype") else None)
        return found, dict(file.attrs)


def test_omnifold_leaves_weights_of_every_iteration(make_config, toy, tmp_path):
    unfold(make_config(), "omnifold", 7, *toy, tmp_path / "u.h5", "cpu")
    found, attributes = result(tmp_path / "u.h5")
    assert found["weights"].shape == (2, 3000)
    assert found["clamped"].shape == (2, 2)
    assert (attributes["method"], attributes["seed"], attributes["normalisation"]) == ("omnifold", 7, 1.0)


def test_ibu_leaves_spectra_of_every_observable(make_config, toy, tmp_path):
    unfold(make_config(), "ibu", 7, *toy, tmp_path / "u.h5")
    found, _ = result(tmp_path / "u.h5")
    assert found["mass_j1/edges"].shape == (51,)
    assert found["alpha/unfolded"].shape == (3, 22)
    assert found["alpha/covariance"].shape == (3, 22, 22)
    # Under- and overflow are bins of their own, so that nothing is lost.
    np.testing.assert_allclose(found["alpha/unfolded"].sum(1), 3000, rtol=1e-9)
    np.testing.assert_allclose(found["alpha/refolded"].sum(1), 3000, rtol=1e-9)


@pytest.mark.parametrize("method", ["omnifold", "ibu"])
def test_the_truth_of_the_data_has_no_influence(make_config, store, toy, tmp_path, method):
    simulation, data = toy
    measured = read_tables(data)
    poison = {name: np.full(3000, np.nan) for name in measured.truth}
    variants = {"true": data, "poisoned": store("poisoned", Table(measured.columns, poison))}
    variants["none"] = store("none", Table(measured.columns))
    for name, paths in variants.items():
        unfold(make_config(), method, 1, simulation, paths, tmp_path / f"{name}.h5", "cpu")
    contents = [(tmp_path / f"{name}.h5").read_bytes() for name in variants]
    assert contents[0] == contents[1] == contents[2]


def sprays(n, seed):
    """One jet of eight particles an event, at truth level and with its energies smeared."""
    rng = np.random.default_rng(seed)
    pt = rng.gamma(4.0, 2.0, (n, 1)) * rng.dirichlet(np.ones(8), n) + 1e-3
    eta, phi = rng.normal(0, 0.1, (2, n, 8))
    smeared = pt * np.exp(rng.normal(0, 0.6, (n, 8)))
    return [ak.from_regular(ak.zip({"pt": x, "eta": eta, "phi": phi})) for x in (pt, smeared)]


@pytest.mark.parametrize("method", ["omnifold", "ibu"])
def test_the_truth_of_the_data_does_not_even_select_events(make_config, tmp_path, method):
    """From the events on: many lack their jet at one level, and the data's truth is garbage, or none."""
    jets = JetDefinition(radius=0.4, number=1, pt_min=7)

    def table(name, particles, truth):
        write_events(tmp_path / "events.h5", [Events(particles, truth=truth)])
        observe_file(tmp_path / "events.h5", tmp_path / f"{name}.h5", jets)
        return [tmp_path / f"{name}.h5"]

    simulated, measured = sprays(1200, 1), sprays(1200, 2)
    simulation = table("simulation", simulated[1], simulated[0])
    variants = {"true": measured[0], "poisoned": measured[0][::-1], "empty": measured[0][:, :0], "none": None}
    contents = []
    for name, truth in variants.items():
        data = table(name, measured[1], truth)
        unfold(make_config(observables=["mass_j1"]), method, 1, simulation, data, tmp_path / f"u_{name}.h5", "cpu")
        contents.append((tmp_path / f"u_{name}.h5").read_bytes())
    found = read_tables(simulation, unseen=True)
    for here, there in (("columns", "truth"), ("truth", "columns")):
        assert (found.passed(here) & ~found.passed(there)).sum() > 50
    assert len(set(contents)) == 1


@pytest.mark.parametrize("method", ["omnifold", "ibu"])
def test_only_the_seed_makes_a_difference(make_config, toy, tmp_path, method):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        unfold(make_config(), method, seed, *toy, tmp_path / f"{name}.h5", "cpu")
    first, second, other = ((tmp_path / f"{name}.h5").read_bytes() for name in "abc")
    assert first == second
    assert first != other


def test_the_order_of_a_table_s_columns_does_not_matter(make_config, store, toy, tmp_path):
    simulation, data = toy
    measured = read_tables(data)
    turned = store("turned", Table(dict(reversed(measured.columns.items())), measured.truth))
    for name, paths in (("a", data), ("b", turned)):
        unfold(make_config(), "omnifold", 1, simulation, paths, tmp_path / f"{name}.h5", "cpu")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_unknown_method(make_config, toy, tmp_path):
    with pytest.raises(HepgenError, match=r"unknown unfolding method 'omnifould' \(did you mean 'omnifold'"):
        unfold(make_config(), "omnifould", 1, *toy, tmp_path / "u.h5")


def test_data_beyond_the_simulation_are_warned_about(make_config, store, toy, tmp_path, capsys):
    simulation, data = toy
    columns = dict(read_tables(data).columns)
    columns["alpha"] = np.where(np.arange(3000) < 40, 25.0, columns["alpha"])
    for method in ("omnifold", "ibu"):
        unfold(make_config(), method, 1, simulation, store("far", Table(columns)), tmp_path / "u.h5", "cpu")
        assert "warning: alpha: 40 data events between 25 and 25 lie where" in capsys.readouterr().err


def test_nothing_is_left_after_a_failure(make_config, store, toy, tmp_path):
    with pytest.raises(HepgenError):
        unfold(make_config(observables=["mass_j2"]), "ibu", 1, *toy, tmp_path / "u.h5")
    assert not (tmp_path / "u.h5").exists()
