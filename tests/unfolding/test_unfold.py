import subprocess
import sys

import awkward as ak
import numpy as np
import pytest

from hepgen.checkpoints import STOPPED, Checkpoint
from hepgen.config import JetDefinition
from hepgen.errors import HepgenError
from hepgen.events import Events, write_events
from hepgen.jets import observe_file
from hepgen.storage import open_h5
from hepgen.table import Table, read_tables
from hepgen.unfolding.unfold import unfold

from .conftest import NAMES, selected, toy_table

QUICK = {"iterations": 1, "settings": {"hidden": [8]}, "training": {"epochs": 2, "batch_size": 500}}


@pytest.fixture(scope="session")
def quick(make_config):
    """A configuration whose networks learn next to nothing."""

    def make(omnifold=None, **changes):
        methods = {
            "omnifold": {"type": "omnifold", **QUICK, **(omnifold or {})},
            "ibu": {"type": "ibu", "iterations": 3},
        }
        return make_config(methods=methods, **changes)

    return make


def result(path):
    with open_h5(path, "unfolded") as file:
        found = {}
        file.visititems(lambda name, item: found.update({name: item[:]}) if hasattr(item, "dtype") else None)
        return found, dict(file.attrs)


def contents(config, method, tables, path, variation="nominal", seed=1):
    unfold(config, method, variation, seed, tables, path, "cpu")
    return result(path)[0]


def equal(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", ["omnifold", "conditional_flow", "neural_bayes"])
def test_unbinned_methods_leave_weights_of_every_iteration_in_the_signal_s_yield(make_config, store, tmp_path, method):
    simulation, data = selected(toy_table(1000, 1)), selected(toy_table(500, 2, nature=True))
    background = selected(toy_table(100, 3))
    tables = {"simulation": store("simulation", simulation, chunks=2), "nature": store("nature", data)}
    tables["background"] = store("background", background)
    network = {"hidden": [8]} if method == "omnifold" else {"hidden": 8, "layers": 1, "blocks": 1, "bins": 4}
    settings = {"type": method, **QUICK, "iterations": 2, "settings": network}
    config = make_config(methods={method: settings}, background=["background"])
    found = contents(config, method, tables, tmp_path / "u.h5")
    attributes, weights = result(tmp_path / "u.h5")[1], found["weights"]
    assert weights.shape == (2, len(simulation))
    assert len(found["clamped"]) == 2
    assert attributes.items() >= {"method": method, "variation": "nominal", "seed": 1, "type": method}.items()
    signal = data.passed().sum() - background.passed().sum()
    np.testing.assert_allclose(weights[:, simulation.passed()].sum(1), signal, rtol=1e-5)
    assert "target" not in found


FLOW = {"settings": {"hidden": 8, "layers": 1, "blocks": 1, "bins": 4}, "training": QUICK["training"]}


@pytest.mark.parametrize(
    "method",
    [
        {"type": "omnifold", **QUICK},
        {"type": "omnifold", "model": "gradient_boosting", "settings": {"rounds": 5}},
        {"type": "conditional_flow", **FLOW},
        {"type": "neural_bayes", **FLOW},
    ],
    ids=["networks", "trees", "conditional_flow", "neural_bayes"],
)
def test_an_unfolding_goes_on_where_it_was_stopped(make_config, store, tmp_path, monkeypatch, method):
    """It ends before its third training; the next attempt does not repeat the first two."""
    tables = {"simulation": store("simulation", selected(toy_table(600, 1)))}
    tables["nature"] = store("nature", selected(toy_table(300, 2, nature=True)))
    config = make_config(methods={"method": {**method, "iterations": 2}})
    begin, found = Checkpoint.begin, []

    def begun(self):
        if len(found) == stop:
            sys.exit(STOPPED)
        found.append(begin(self) is not None)
        return self.states[self.step] if found[-1] else None

    monkeypatch.setattr(Checkpoint, "begin", begun)
    stop = -1
    contents(config, "method", tables, tmp_path / "whole.h5")
    steps, stop = len(found), 2
    found.clear()
    with pytest.raises(SystemExit):
        contents(config, "method", tables, tmp_path / "product.h5")
    assert [path.name for path in tmp_path.glob("product*")] == ["product.h5.checkpoint"]
    found.clear()
    stop = -1
    contents(config, "method", tables, tmp_path / "product.h5")
    assert found == [True, True] + (steps - 2) * [False]
    assert (tmp_path / "product.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert not list(tmp_path.glob("*.checkpoint"))


def test_ibu_leaves_spectra_of_every_observable_and_plane(quick, toy, tmp_path):
    edges = {"edges": [-1, 0, 1], "reco": [-1, -0.5, 0.5, 1]}
    config = quick(planes={"both": {"alpha": edges, "mass_j1": {"edges": [0, 20, 40]}}})
    found = contents(config, "ibu", toy, tmp_path / "u.h5")
    for name, causes, effects in (("mass_j1", 52, 52), ("alpha", 22, 22), ("both", 16, 20)):
        assert found[f"spectra/{name}/unfolded"].shape == (3, causes)
        assert found[f"spectra/{name}/covariance"].shape == (3, causes, causes)
        # Under- and overflow are bins of their own: nothing is lost but four events in a tail without simulation.
        for part in ("unfolded", "refolded"):
            total = 2996 if name == "mass_j1" else 3000
            np.testing.assert_allclose(found[f"spectra/{name}/{part}"].sum(1), total, rtol=1e-9)
        assert found[f"spectra/{name}/refolded"].shape == (3, effects)


@pytest.mark.parametrize("method", ["omnifold", "ibu"])
def test_what_is_known_of_pseudo_data_stands_beside_the_result(quick, toy, tmp_path, method):
    found = contents(quick(), method, toy, tmp_path / "u.h5", "closure")
    assert found["target"].sum() == pytest.approx(3000, rel=1e-5)
    if method == "ibu":
        assert not any(name.endswith("covariance") for name in found)
    else:
        # What is unfolded and what it is unfolded with are apart.
        assert not (found["weights"][0] * found["target"]).any()
        assert (found["weights"][0] + found["target"] > 0).all()


@pytest.mark.parametrize("method", ["omnifold", "ibu"])
def test_the_truth_of_the_data_has_no_influence(quick, store, toy, tmp_path, method):
    measured = read_tables(toy["nature"])
    poison = {name: np.full(3000, np.nan) for name in measured.truth}
    variants = {"poisoned": Table(measured.columns, poison), "none": Table(measured.columns)}
    config = quick()
    expected = contents(config, method, toy, tmp_path / "u.h5")
    for name, table in variants.items():
        assert equal(contents(config, method, {**toy, "nature": store(name, table)}, tmp_path / "v.h5"), expected)
    # The poison of the leakage test, too.
    unpoisoned = expected if method == "omnifold" else {n: v for n, v in expected.items() if "covariance" not in n}
    assert equal(contents(config, method, toy, tmp_path / "w.h5", "leakage"), unpoisoned)


def test_the_leakage_test_poisons_the_truth(quick, toy, monkeypatch, tmp_path):
    read = []

    def spy(paths, **settings):
        read.append(read_tables(paths, **settings))
        return read[-1]

    monkeypatch.setattr("hepgen.unfolding.dataset.read_tables", spy)
    unfold(quick(), "ibu", "leakage", 1, toy, tmp_path / "u.h5")
    poisoned, measured = read[0], read_tables(toy["nature"])
    assert all(np.array_equal(poisoned.columns[name], measured.columns[name]) for name in NAMES)
    assert not any(np.isin(poisoned.truth[name], measured.truth[name]).any() for name in NAMES)


def sprays(n, seed):
    """One jet of eight particles an event, at truth level and with its energies smeared."""
    rng = np.random.default_rng(seed)
    pt = rng.gamma(4.0, 2.0, (n, 1)) * rng.dirichlet(np.ones(8), n) + 1e-3
    eta, phi = rng.normal(0, 0.1, (2, n, 8))
    smeared = pt * np.exp(rng.normal(0, 0.6, (n, 8)))
    return [ak.from_regular(ak.zip({"pt": x, "eta": eta, "phi": phi})) for x in (pt, smeared)]


def test_the_truth_of_the_data_does_not_even_select_events(quick, tmp_path):
    """From the events on: many lack their jet at one level, and the data's truth is garbage, or none."""
    jets = JetDefinition(radius=0.4, number=1, pt_min=7)

    def table(name, particles, truth):
        write_events(tmp_path / "events.h5", [Events(particles, truth=truth)])
        observe_file(tmp_path / "events.h5", tmp_path / f"{name}.h5", jets)
        return [tmp_path / f"{name}.h5"]

    simulated, measured = sprays(1200, 1), sprays(1200, 2)
    simulation = table("simulation", simulated[1], simulated[0])
    variants = {"true": measured[0], "poisoned": measured[0][::-1], "empty": measured[0][:, :0], "none": None}
    tables = {
        name: {"simulation": simulation, "nature": table(name, measured[1], truth)} for name, truth in variants.items()
    }
    for method in ("omnifold", "ibu"):
        found = [contents(quick(observables=["mass_j1"]), method, t, tmp_path / "u.h5") for t in tables.values()]
        assert all(equal(other, found[0]) for other in found[1:])
    both = read_tables(simulation, unseen=True)
    for here, there in (("columns", "truth"), ("truth", "columns")):
        assert (both.passed(here) & ~both.passed(there)).sum() > 50


@pytest.mark.parametrize("method", ["omnifold", "ibu"])
def test_only_the_seed_makes_a_difference(quick, toy, tmp_path, method):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        unfold(quick(), method, "nominal", seed, toy, tmp_path / f"{name}.h5", "cpu")
    first, second, other = ((tmp_path / f"{name}.h5").read_bytes() for name in "abc")
    assert first == second
    assert first != other


def test_the_order_of_a_table_s_columns_does_not_matter(quick, store, toy, tmp_path):
    measured = read_tables(toy["nature"])
    turned = store("turned", Table(dict(reversed(measured.columns.items())), measured.truth))
    for method in ("omnifold", "ibu"):
        first = contents(quick(), method, toy, tmp_path / "a.h5")
        assert equal(first, contents(quick(), method, {**toy, "nature": turned}, tmp_path / "b.h5"))


@pytest.mark.parametrize("method", ["omnifold", "ibu"])
def test_events_of_zero_weight_do_not_matter(quick, store, toy, tmp_path, method):
    """Zero weights are fine; those of bootstrap replicas are. Their events get no weight."""
    without, zero, kept = {}, {}, np.arange(3000) < 2500
    for name in ("simulation", "nature"):
        table = read_tables(toy[name])
        without[name] = store(f"{name}_without", table[kept])
        zero[name] = store(f"{name}_zero", Table({**table.columns, "weight": kept * 1.0}, table.truth))
    config = quick(
        binning={name: {"edges": edges} for name, edges in (("alpha", [-1, 0, 1]), ("mass_j1", [0, 20, 40]))}
    )
    first, second = (contents(config, method, t, tmp_path / "u.h5") for t in (without, zero))
    if method == "ibu":
        for name in NAMES:
            np.testing.assert_allclose(second[f"spectra/{name}/unfolded"], first[f"spectra/{name}/unfolded"], rtol=1e-9)
    else:
        assert not second["weights"][:, ~kept].any()
        assert second["weights"][:, kept].sum() == pytest.approx(2500, rel=1e-5)


def test_constant_observables_are_no_obstacle(quick, store, tmp_path):
    """Neither standardisation, nor bins, nor the stress of their truth divide by their width."""
    table = toy_table(400, 1)
    constant = Table({**table.columns, "alpha": np.full(400, 2.0)}, {**table.truth, "alpha": np.full(400, 2.0)})
    tables = {"simulation": store("simulation", constant), "nature": store("nature", constant)}
    for method in ("omnifold", "ibu"):
        for variation in ("nominal", "linear", "toy-1"):
            found = contents(quick(toys=2), method, tables, tmp_path / "u.h5", variation)
            assert all(np.isfinite(values).all() for values in found.values())
    assert found["spectra/alpha/unfolded"][-1].max() == pytest.approx(found["spectra/alpha/unfolded"][-1].sum())


def test_empty_truth_bins_stay_empty_and_are_named(quick, store, toy, tmp_path, capsys):
    """The data have events where the simulation has none; what no event can reach stays at zero, and this is said."""
    table = read_tables(toy["simulation"])
    alpha = table.truth["alpha"]
    kept = (alpha < -0.5) | (alpha > 0.5)
    gap = Table({**table.columns, "alpha": alpha}, table.truth)[kept]
    tables = {**toy, "simulation": store("gap", gap)}
    edges = [-2, -0.5, 0, 0.5, 2]
    config = quick(observables=["alpha"], binning={"alpha": {"edges": edges}})
    found = contents(config, "ibu", tables, tmp_path / "u.h5")
    warnings = capsys.readouterr().err
    assert "warning: alpha: 982 data events between -0.4987 and 0.4996 lie where the simulation has none" in warnings
    empty = "2 of 4 bins hold no simulated truth and stay empty (alpha -0.5 to 0; alpha 0 to 0.5)"
    assert f"warning: alpha: {empty}" in warnings
    assert found["spectra/alpha/unfolded"][-1][2:4].tolist() == [0, 0]
    assert found["spectra/alpha/unfolded"][-1][[1, 4]].min() > 100
    assert all(np.isfinite(values).all() for values in found.values())


def test_unknown_method_and_variation(quick, toy, tmp_path):
    with pytest.raises(HepgenError, match=r"unknown unfolding method 'omnifould' \(did you mean 'omnifold'"):
        unfold(quick(), "omnifould", "nominal", 1, toy, tmp_path / "u.h5")
    with pytest.raises(HepgenError, match=r"unfolding\.methods\.ibu: unknown variation 'toy-1'"):
        unfold(quick(), "ibu", "toy-1", 1, toy, tmp_path / "u.h5")


def test_data_beyond_the_simulation_are_warned_about(quick, store, toy, tmp_path, capsys):
    columns = dict(read_tables(toy["nature"]).columns)
    columns["alpha"] = np.where(np.arange(3000) < 40, 25.0, columns["alpha"])
    for method in ("omnifold", "ibu"):
        unfold(quick(), method, "nominal", 1, {**toy, "nature": store("far", Table(columns))}, tmp_path / "u.h5", "cpu")
        assert "warning: alpha: 40 data events between 25 and 25 lie where" in capsys.readouterr().err


def test_nothing_is_left_after_a_failure(quick, toy, tmp_path):
    with pytest.raises(HepgenError, match="unknown observable 'mass_j2'"):
        unfold(quick(observables=["mass_j2"]), "ibu", "nominal", 1, toy, tmp_path / "u.h5")
    assert not (tmp_path / "u.h5").exists()


def test_binned_unfolding_needs_no_torch():
    """Hundreds of its jobs start in a run; torch would be most of what they cost."""
    heavy = ("torch", "scipy.stats", "sklearn")
    code = f"import sys, hepgen.unfolding.unfold; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
