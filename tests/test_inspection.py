"""What `hepgen inspect` says of files, and that the configurations it proposes work on them."""

import io
import re
from functools import cache
from pathlib import Path
from typing import get_type_hints

import awkward as ak
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
import yaml
from typer.testing import CliRunner

from hepgen import cli, jets, ready_jets
from hepgen.cli import app
from hepgen.config import load, parse
from hepgen.errors import HepgenError
from hepgen.events import Events, read_events, write_events
from hepgen.export import export
from hepgen.expressions import FUNCTIONS
from hepgen.inspection import inspect, report
from hepgen.inspection.findings import Kind
from hepgen.inspection.names import as_name, families, is_label, is_weight, level
from hepgen.samples import SAMPLES
from hepgen.sources.produce import produce
from hepgen.table import Table, read_tables, write_table

DOCS = Path(__file__).parents[1] / "docs" / "samples.md"


def run(found, folder):
    """Write the configuration that was found and run its stages: the configuration, events and table."""
    path = folder / "sample.yaml"
    report.write(found, path)
    config = load(path)
    (name,) = config.samples
    entry = config.samples[name]
    events, table = folder / "events.h5", folder / "table.h5"
    produce(config, name, 0, events)
    if entry.is_table:
        return config, None, read_tables([events], unseen=True)

    def observe(batch, definition):
        return ready_jets.observe(batch, definition, entry.match)

    jets.observe_file(events, table, config.jets_of(name), observe=observe if entry.has_jets else jets.observe)
    return config, read_events(events), read_tables([table], unseen=True)


def entry_of(found):
    content = yaml.safe_load(report.configuration(found))
    return content["samples"][found.name]


def problems_of(found):
    return [what for heading, rows in report.describe(found) if heading == "Problems" for _, what in rows]


def numbers_of(found):
    return dict(row for heading, rows in report.describe(found) if heading.startswith("Numbers") for row in rows)


REAL = {
    "root/delphes.root": ("Delphes", 10, "particles", True),
    "root/nanoaod_dy.root": ("NanoAOD", 40, "jets", True),
    "root/pfnano.root": ("PFNano", 10, "particles", True),
    "root/physlite.root": ("PHYSLITE", 100, "jets", True),
    "root/edm4hep.root": ("EDM4hep", 3, "particles", False),
    "root/nanoaod_rntuple.root": ("NanoAOD in an RNTuple", 10, "jets", True),
    "root/flat_ntuple.root": ("flat tree", 22_344, "observables", False),
    "hepmc/pythia6_simple.hepmc3": ("HepMC3", 1, "particles", False),
    "hepmc/pp_to_jj.lhe.gz": ("LHE", 1000, "particles", False),
    "lhco/events_anomalydetection_tiny.h5": ("LHC Olympics 2020, raw", 1000, "particles", False),
    "lhco/cathode/innerdata_train.npy": ("table (.npy)", 60_000, "observables", False),
    "lhco/cathode/innerdata_val.npy": ("table (.npy)", 60_000, "observables", False),
    "lhco/cathode/innerdata_extrasig_train.npy": ("table (.npy)", 27_263, "observables", False),
}


@pytest.fixture(scope="session")
def real(reference):
    """Each real file is inspected once: opening a tree of 1,500 branches takes half a second."""
    return cache(lambda file: inspect([str(reference / file)]))


@pytest.mark.parametrize("file", REAL)
def test_real_files_are_recognised_and_the_configuration_works(file, real, tmp_path):
    kind, events, read, paired = REAL[file]
    found = real(file)
    assert (found.findings[0].kind, found.findings[0].events) == (kind, events)
    assert found.trials[0].reading.kind == read
    _, store, table = run(found, tmp_path)
    assert bool(table.truth) == paired
    assert len(table if store is None else store) == events
    assert len(table) > 0


def test_a_file_cut_off_is_no_proposal(reference):
    found = inspect([str(reference / "hepmc/truncated.hepmc3")])
    assert not found.trials
    with pytest.raises(HepgenError, match="truncated HepMC file: it does not end with"):
        report.deliver(found)


def test_known_formats_are_read_by_their_own_branches(real):
    delphes = entry_of(real("root/delphes.root"))
    assert [part["pt"] for part in delphes["particles"]] == ["EFlowTrack.PT", "EFlowPhoton.ET", "EFlowNeutralHadron.ET"]
    # One of the file's tracks has no momentum: such objects are left out, and only there is it said.
    assert [part.get("where") for part in delphes["particles"]] == [
        "(EFlowTrack.PT > 0) & (abs(EFlowTrack.Eta) < 100)",
        None,
        None,
    ]
    assert delphes["weight"] == "Event.Weight[0]"
    assert "Particle.Status == 1" in delphes["truth"]["particles"]["where"]
    nano = entry_of(real("root/nanoaod_dy.root"))
    assert nano["match"] == {"index": "Jet_genJetIdx"}
    assert (nano["tree"], nano["weight"]) == ("Events", "genWeight")
    atlas = entry_of(real("root/physlite.root"))
    assert atlas["unit"] == "MeV"
    assert atlas["truth"]["jet_collection"]["pt"] == "AntiKt4TruthDressedWZJetsAux.pt"


def test_what_to_read_can_be_chosen(reference):
    path = str(reference / "root/delphes.root")
    entry = entry_of(inspect([path], "x", "jets"))
    assert entry["jet_collection"]["pt"] == "Jet.PT"
    assert entry["match"] == {"radius": 0.2}
    with pytest.raises(HepgenError, match="cannot be read as observables, only as particles, jets"):
        inspect([path], "x", "observables")


def test_unreadable_branches_and_negative_weights_are_told(real):
    found = real("root/physlite.root")
    assert any(problem.startswith("244 of 1,445 branches") for problem in problems_of(found))
    assert "22.00% of the weights are negative, which trainings and unfolding do not take" in problems_of(found)
    assert found.findings[0].contents == [("CollectionTree", "TTree, 100 entries, 1,445 branches")]


# Flat trees


def lists(rng, events=60, scale=1.0, least=2):
    """Objects of events: (pt, eta, phi, m), pT from 30 up."""
    counts = rng.integers(least, 6, events)
    total = counts.sum()
    values = {
        "pt": (30 + rng.exponential(50, total)) * scale,
        "eta": rng.normal(size=total),
        "phi": rng.uniform(-3, 3, total),
        "m": rng.uniform(1, 9, total) * scale,
    }
    return {name: ak.unflatten(column.astype(np.float32), counts) for name, column in values.items()}


def write_tree(path, trees, rntuple=False):
    with uproot.recreate(path) as file:
        for name, branches in trees.items():
            if rntuple:
                file.mkrntuple(name, branches)
            else:
                types = {key: values.type.content if isinstance(values, ak.Array) else values.dtype
                         for key, values in branches.items()}  # fmt: skip
                file.mktree(name, types).extend(branches)
    return str(path)


def branches(prefix, values):
    return {f"{prefix}_{name}": column for name, column in values.items()}


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize("rntuple", [False, True])
def test_flat_jets_at_two_levels_are_pairs(tmp_path, rng, rntuple):
    truth = lists(rng)
    reco = {**truth, "pt": truth["pt"] * 1.1}
    weight = rng.choice([1.0, -0.5], 60)
    content = {**branches("reco_jet", reco), **branches("truth_jet", truth), "mc_weight": weight}
    found = inspect([write_tree(tmp_path / "flat.root", {"nominal": content}, rntuple)])
    assert found.findings[0].kind == ("flat tree in an RNTuple" if rntuple else "flat tree")
    config, _, table = run(found, tmp_path)
    entry = config.samples["flat"]
    assert entry.jet_collection.mass == "reco_jet_m"
    assert entry.truth.jet_collection.pt == "truth_jet_pt"
    assert (entry.unit, entry.weight, entry.match.radius) == ("GeV", "mc_weight", 0.2)
    both = table.columns["pass_reco"] & table.columns["pass_truth"]
    # Every jet lies on its true one; float32 holds 7 digits.
    np.testing.assert_allclose(table.columns["pt_j1"][both], 1.1 * table.truth["pt_j1"][both], rtol=1e-6)
    # Jets are stored from 30 GeV on, so the proposal begins just above.
    assert both.sum() == int(ak.sum(truth["pt"] >= config.jets["jets"].pt_min))
    share = f"{(weight < 0).mean():.2%}"
    assert f"{share} of the weights are negative, which trainings and unfolding do not take" in problems_of(found)


def test_momenta_in_mev_are_seen(tmp_path, rng):
    content = branches("cand", lists(rng, scale=1000.0))
    found = inspect([write_tree(tmp_path / "atlas.root", {"t": content})])
    assert entry_of(found)["unit"] == "MeV"
    median = np.median(ak.to_list(ak.max(content["cand_pt"], axis=1)))
    assert f"the leading pT is {median:,.4g} in the median" in report.configuration(found)
    assert numbers_of(found)["leading pT of particles"] == f"{median / 1000:.4g} GeV in the median"


def test_objects_without_momentum_are_left_out(tmp_path, rng):
    content = branches("track", lists(rng))
    pt = ak.to_numpy(ak.flatten(content["track_pt"])).copy()
    pt[0] = 0
    content["track_pt"] = ak.unflatten(pt, ak.num(content["track_pt"]))
    found = inspect([write_tree(tmp_path / "zero.root", {"t": content})])
    assert entry_of(found)["particles"]["where"] == "track_pt > 0"
    _, events, _ = run(found, tmp_path)
    assert ak.count(events.particles.pt) == len(pt) - 1


def test_of_several_trees_the_longest_is_read(tmp_path, rng):
    trees = {"short": {"x": np.arange(3.0)}, "long": {"a": rng.normal(size=50), "label": np.arange(50) % 2}}
    found = inspect([write_tree(tmp_path / "two.root", trees)])
    assert entry_of(found) | {"path": ""} == {
        "source": "root", "path": "", "tree": "long", "observables": {"a": "a"}, "label": "label",
    }  # fmt: skip
    assert [name for name, _ in found.findings[0].contents] == ["short", "long"]
    assert numbers_of(found)["label"] == "0.5 of the events are signal"


def test_numbered_jets_are_put_together(tmp_path, rng):
    content = {f"jet{i}_{name}": 20.0 + i + rng.random(40) for i in (1, 2) for name in ("pt", "eta", "phi")}
    content["jet2_pt"][::4] = -999.0
    found = inspect([write_tree(tmp_path / "padded.root", {"t": content})])
    assert entry_of(found)["jet_collection"]["pt"] == ["jet1_pt", "jet2_pt"]
    assert numbers_of(found)["jets an event"] == "2 in the median, at most 2"
    _, events, table = run(found, tmp_path)
    assert ak.sum(ak.num(events.particles)) == 70
    assert len(table) == 30  # those with both jets


def test_observables_at_two_levels_are_pairs(tmp_path, rng):
    names = ("mass", "width")
    content = {f"{level}_{name}": rng.normal(size=30) for level in ("gen", "reco") for name in names}
    content |= {"only_reco": np.ones(30), "pass_gen": np.arange(30) % 3 > 0}
    found = inspect([write_tree(tmp_path / "pairs.root", {"t": content})])
    entry = entry_of(found)
    assert entry["observables"] == {"mass": "reco_mass", "width": "reco_width"}
    assert entry["truth"] == {"observables": {"mass": "gen_mass", "width": "gen_width"}, "passed": "pass_gen"}
    _, _, table = run(found, tmp_path)
    expected = np.where(content["pass_gen"], content["gen_mass"], np.nan).astype(np.float32)
    np.testing.assert_array_equal(table.truth["mass"], expected)


def test_a_branch_called_label_may_hold_other_numbers(tmp_path, rng):
    found = inspect([write_tree(tmp_path / "t.root", {"t": {"label": np.arange(9), "x": rng.random(9)}})])
    assert entry_of(found)["observables"] == {"label_value": "label", "x": "x"}


def test_exported_products_are_read_again(tmp_path, rng):
    columns = {"mjj": rng.random(20), "a": rng.random(20), "pass_reco": np.ones(20, bool)}
    truth = {"mjj": rng.random(20), "a": rng.random(20)}
    write_table(tmp_path / "t.h5", [Table(columns | {"pass_truth": np.ones(20, bool)}, truth)])
    for name in ("t.root", "t.parquet", "t.npz"):
        export([tmp_path / "t.h5"], tmp_path / name)
        folder = tmp_path / name[2:]
        folder.mkdir()
        _, _, table = run(inspect([str(tmp_path / name)]), folder)
        np.testing.assert_array_equal(table.truth["mjj"], truth["mjj"].astype(np.float32))


def test_a_tree_without_events(tmp_path):
    path = write_tree(tmp_path / "empty.root", {"t": {"x": np.zeros(0)}})
    found = inspect([path])
    assert problems_of(found) == ["t holds no event"]
    with pytest.raises(HepgenError, match=r"empty.root: holds nothing that can be read: t holds no event"):
        report.deliver(found)


def test_a_file_without_a_tree(tmp_path):
    with uproot.recreate(tmp_path / "h.root") as file:
        file["h"] = np.histogram([1, 2, 3])
    with pytest.raises(HepgenError, match=r"h.root: holds no tree"):
        inspect([str(tmp_path / "h.root")])


# Tables


def csv(path, columns):
    pd.DataFrame(columns).to_csv(path, index=False)


def parquet(path, columns):
    pq.write_table(pa.table(columns), path)


def npz(path, columns):
    np.savez(path, **columns)


def hdf5(path, columns):
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values


def frame(path, columns):
    pd.DataFrame(columns).to_hdf(path, key="df")


TABLES = [("t.csv", csv), ("t.parquet", parquet), ("t.npz", npz), ("t.h5", hdf5), ("t.hdf5", frame)]


@pytest.mark.parametrize(("name", "write"), TABLES)
def test_tables_of_every_kind(tmp_path, rng, name, write):
    columns = {"m jj": rng.normal(size=40), "tau21": rng.random(40), "y": np.arange(40) % 2, "weight": np.ones(40)}
    write(tmp_path / name, columns)
    found = inspect([str(tmp_path / name)])
    assert found.findings[0].events == 40
    assert entry_of(found)["columns"] == {"m_jj": "m jj", "tau21": "tau21", "label": "y", "weight": "weight"}
    _, _, table = run(found, tmp_path)
    np.testing.assert_array_equal(table.columns["tau21"], columns["tau21"].astype(np.float32))


def test_columns_that_are_not_finite_are_left_out_and_told(tmp_path):
    csv(tmp_path / "nan.csv", {"a": [1.0, 2.5, 3.0], "b": [1.0, np.nan, np.inf]})
    text = (tmp_path / "nan.csv").read_text().replace(",\n", ",nan\n")
    (tmp_path / "nan.csv").write_text(text)
    found = inspect([str(tmp_path / "nan.csv")])
    assert entry_of(found)["columns"] == {"a": "a"}
    assert problems_of(found) == ["column 'b' has 2 numbers that are not finite, and is left out"]


def test_only_the_first_thousand_events_are_looked_at(tmp_path, rng):
    values = rng.random((5000, 4))
    values[1000:] = np.nan
    np.save(tmp_path / "long.npy", values)
    found = inspect([str(tmp_path / "long.npy")])
    assert found.findings[0].events == 5000
    assert found.trials[0].evidence[0] == (
        "x0", f"{values[:1000, 0].min():.4g} to {values[:1000, 0].max():.4g}, "
        f"{np.median(values[:1000, 0].astype(np.float32)):.4g} in the median",
    )  # fmt: skip


def test_a_table_without_rows(tmp_path):
    (tmp_path / "none.csv").write_text("a,b\n")
    found = inspect([str(tmp_path / "none.csv")])
    with pytest.raises(HepgenError, match="the table holds no row"):
        report.deliver(found)


def test_events_that_occur_twice_are_counted(tmp_path, rng):
    values = rng.random((20, 5))
    np.save(tmp_path / "a.npy", values)
    np.save(tmp_path / "b.npy", np.concatenate([values[:3], rng.random((5, 5))]))
    found = inspect([str(tmp_path / "a.npy"), str(tmp_path / "b.npy")])
    assert found.repeated == 3
    assert "3 of those looked at occur more than once" in problems_of(found)
    assert entry_of(found)["path"] == [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]


# Official data sets, in the layout that their papers and packages give


def test_lhc_olympics_features(tmp_path, rng):
    names = [f"{name}j{j}" for j in (1, 2) for name in ("px", "py", "pz", "m", "tau1", "tau2", "tau3")]
    frame(tmp_path / "features.h5", {**{name: rng.random(30) for name in names}, "label": np.arange(30) % 2})
    found = inspect([str(tmp_path / "features.h5")])
    assert found.findings[0].kind == "LHC Olympics 2020, features"
    columns = entry_of(found)["columns"]
    assert (columns["mass_j1"], columns["tau1_j2"], columns["px_j1"]) == ("mj1", "tau1j2", "pxj1")
    run(found, tmp_path)


def momenta(rng, shape):
    """(E, px, py, pz) of massless particles, the last half of them padding."""
    pt, eta, phi = 20 + rng.exponential(20, shape), rng.normal(0, 0.3, shape), rng.normal(0, 0.3, shape)
    values = np.stack([pt * np.cosh(eta), pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)], -1)
    values[:, shape[1] // 2 :] = 0
    return values, np.stack([pt, eta, phi], -1) * (values[..., :1] > 0)


def test_top_tagging(tmp_path, rng):
    values, _ = momenta(rng, (25, 200))
    names = [f"{axis}_{i}" for i in range(200) for axis in ("E", "PX", "PY", "PZ")]
    columns = dict(zip(names, values.reshape(25, -1).astype(np.float32).T, strict=True))
    table = pd.DataFrame(columns | {f"truth{axis}": np.zeros(25, np.float32) for axis in ("E", "PX", "PY", "PZ")})
    table = pd.concat([table, pd.DataFrame({"ttv": np.zeros(25, int), "is_signal_new": np.arange(25) % 2})], axis=1)
    table.to_hdf(tmp_path / "test.h5", key="table", format="table")
    found = inspect([str(tmp_path / "test.h5")])
    assert (found.findings[0].kind, found.findings[0].events) == ("top-tagging reference data", 25)
    _, events, _ = run(found, tmp_path)
    np.testing.assert_array_equal(events.columns["label"], np.arange(25) % 2)
    assert set(ak.num(events.particles).to_list()) == {100}


def test_jetnet(tmp_path, rng):
    particles = np.stack([*rng.normal(0, 0.1, (2, 20, 30)), rng.random((20, 30)) / 15, np.ones((20, 30))], -1)
    with h5py.File(tmp_path / "t.hdf5", "w") as file:
        file["particle_features"] = particles
        file["jet_features"] = np.tile([1234.0, 0.1, 170.0, 30.0], (20, 1))
    found = inspect([str(tmp_path / "t.hdf5")])
    assert found.findings[0].kind == "JetNet"
    assert entry_of(found)["scale"] == 1230.0  # three digits of the median
    config, _, table = run(found, tmp_path)
    assert config.jets["jets"].number == 1
    # Σ pT of the particles, in units of the jet's; a few wide ones are not in the jet.
    assert np.median(table.columns["pt_j1"]) == pytest.approx(1230, rel=0.1)


def test_quark_and_gluon_jets(tmp_path, rng):
    _, values = momenta(rng, (15, 10))
    pdg = np.where(values[..., :1] > 0, 211.0, 0.0)
    np.savez(tmp_path / "QG_jets.npz", X=np.concatenate([values, pdg], -1), y=np.arange(15) % 2)
    found = inspect([str(tmp_path / "QG_jets.npz")])
    assert entry_of(found)["data"] == "qg_jets"
    _, events, _ = run(found, tmp_path)
    np.testing.assert_array_equal(events.columns["label"], np.arange(15) % 2)


def test_z_and_jets(tmp_path, rng):
    arrays = {}
    for at in ("gen", "sim"):
        arrays[f"{at}_jets"] = np.abs(rng.normal(size=(12, 4))) * [200, 1, 1, 20] + [1, 0, 0, 1]
        arrays |= {f"{at}_{name}": rng.random(12) + 0.1 for name in ("widths", "tau2s", "sdms", "zgs", "lhas", "ang2s")}
        arrays[f"{at}_mults"] = rng.integers(5, 50, 12)
    np.savez(tmp_path / "z.npz", **arrays)
    found = inspect([str(tmp_path / "z.npz")])
    assert entry_of(found) == {"source": "energyflow", "path": str(tmp_path / "z.npz"), "data": "zjets_delphes"}
    _, _, table = run(found, tmp_path)
    assert len(table.truth) == 10


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("fields", [["energy", "px", "py", "pz"], ["px", "py", "pz", "energy"], ["pt", "eta", "phi"]])
def test_padded_particles_are_recognised_by_their_numbers(tmp_path, rng, fields, flat):
    energy_first, polar = momenta(rng, (30, 40))
    values = {"energy": energy_first, "px": np.roll(energy_first, -1, -1), "pt": polar}[fields[0]]
    if flat:
        values = np.concatenate([values.reshape(30, -1), (np.arange(30) % 2)[:, None]], 1)
    np.save(tmp_path / "p.npy", values)
    found = inspect([str(tmp_path / "p.npy")])
    entry = entry_of(found)
    assert entry["fields"] == fields
    assert entry.get("particles") == (40 if flat else None)
    _, events, _ = run(found, tmp_path)
    assert ("label" in events.columns) == flat
    np.testing.assert_allclose(ak.to_numpy(ak.flatten(events.particles.pt)), polar[polar[..., 0] > 0][:, 0], rtol=1e-6)


def test_numbers_that_may_be_anything_are_not_guessed(tmp_path, rng):
    np.save(tmp_path / "p.npy", rng.normal(0, 100, (10, 5, 3)))
    found = inspect([str(tmp_path / "p.npy")])
    with pytest.raises(HepgenError, match="what the 3 numbers of a particle are is not clear"):
        report.deliver(found)


def test_products_of_hepgen_are_described(tmp_path):
    particles = ak.zip({name: ak.Array([[1.0, 2.0], [3.0]]) for name in ("pt", "eta", "phi")})
    write_events(tmp_path / "events.h5", [Events(particles, {"label": np.array([0, 1])})])
    write_table(tmp_path / "table.h5", [Table({"mjj": np.array([1.0, 2.0, 3.0])})])
    for name, kind, events in (("events.h5", "hepgen's events", 2), ("table.h5", "hepgen's observables", 3)):
        found = inspect([str(tmp_path / name)])
        assert (found.findings[0].kind, found.findings[0].events) == (kind, events)
        report.deliver(found)
        with pytest.raises(HepgenError, match="which the next stage reads; it needs no configuration"):
            report.deliver(found, tmp_path / "sample.yaml")


def test_generators_texts(tmp_path):
    event = "<event>\n 4 1 1.0 91.0 0.007 0.12\n{}</event>\n"
    lines = " 2 -1 0 0 501 0 0 0 50 50 0 0 9\n 1 -1 0 0 0 501 0 0 -50 50 0 0 9\n"
    lines += " 2 1 1 2 501 0 40 0 30 50 0 0 9\n 1 1 1 2 0 501 -40 0 -30 50 0 0 9\n"
    init = "<init>\n2212 2212 6500 6500 0 0 1 1 3 1\n1 1 1 1\n</init>\n"
    body = event.format(lines) * 1200
    path = tmp_path / "a.lhe"
    path.write_text(f'<LesHouchesEvents version="3.0">\n{init}{body}</LesHouchesEvents>\n')
    found = inspect([str(path)])
    assert found.findings[0].events == 1000
    # The first thousand events take as many bytes each as all.
    assert 1100 < int(found.findings[0].at_least.split()[1].replace(",", "")) < 1300
    assert numbers_of(found)["leading pT of particles"] == "40 GeV in the median"
    _, events, _ = run(found, tmp_path)
    assert len(events) == 1200


# Mistakes


def test_what_is_no_file(tmp_path):
    (tmp_path / "empty.root").touch()
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    cut = tmp_path / "cut.root"
    write_tree(tmp_path / "whole.root", {"t": {"x": np.arange(100.0)}})
    cut.write_bytes((tmp_path / "whole.root").read_bytes()[:300])
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00")
    (tmp_path / "cut.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "cut.lhe.gz").write_bytes(b"\x1f\x8b\x08\x00\x00")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1PAR1")
    (tmp_path / "bad.csv").write_text("a,b\n1,2\nx,y\n")
    for name, message in {
        "missing.root": "no such file",
        ".": "is not a regular file",
        "empty.root": "is empty",
        "photo.jpg": r"begins with b'\\xff\\xd8.*which is no known kind of file; known: ROOT files \(Delphes",
        "cut.root": "not a readable ROOT file",
        "cut.npy": "not a readable .npy file",
        "cut.h5": "not a readable HDF5 file",
        "cut.lhe.gz": "not a readable compressed file",
        "cut.parquet": "not a readable Parquet file",
        "bad.csv": "not a readable .csv file",
    }.items():
        with pytest.raises(HepgenError, match=f"^{tmp_path / name}: {message}"):
            inspect([str(tmp_path / name)])
    with pytest.raises(HepgenError, match="/dev/zero: is not a regular file"):
        inspect(["/dev/zero"])


def test_files_of_different_kinds_are_no_sample(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(1).random((9, 2)))
    csv(tmp_path / "b.csv", {"a": [1.5, 2.0]})
    with pytest.raises(HepgenError, match="the files are of different kinds"):
        inspect([str(tmp_path / "a.npy"), str(tmp_path / "b.csv")])


def test_another_file_is_not_overwritten(tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(1).random((9, 2)))
    found, path = inspect([str(tmp_path / "a.npy")]), tmp_path / "sample.yaml"
    report.write(found, path)
    text = path.read_text()
    report.write(found, path)
    path.write_text("mine: 1\n")
    with pytest.raises(HepgenError, match="is there already and says something else"):
        report.write(found, path)
    assert path.read_text() == "mine: 1\n"
    assert parse(yaml.safe_load(text)).samples["a"].source == "arrays"


def test_the_command_prints_a_configuration_and_writes_it(tmp_path):
    csv(tmp_path / "my table.csv", {"mjj": [1.5, 2.0], "label": [0, 1]})
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "my table.csv")])
    assert result.exit_code == 0
    # What is no configuration is a comment: the whole output is one.
    assert list(parse(yaml.safe_load(result.stdout)).samples) == ["my_table"]
    assert "  table (.csv)\n" in result.stdout
    output = tmp_path / "sample.yaml"
    result = CliRunner().invoke(app, ["inspect", str(tmp_path / "my table.csv"), "-o", str(output), "--name", "mine"])
    assert list(load(output).samples) == ["mine"]
    assert f"{output}: sample mine" in result.stdout


def test_a_terminal_shows_tables(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.random.default_rng(1).random((9, 2)))
    found, stream = inspect([str(tmp_path / "a.npy")]), io.StringIO()
    monkeypatch.setattr(report, "Console", lambda: report_console(stream))
    report.show(found, with_configuration=False)
    assert "table (.npy)" in stream.getvalue()
    assert "│" in stream.getvalue()


def report_console(stream):
    from rich.console import Console

    return Console(file=stream, force_terminal=True, width=200)


# What a file calls itself and its contents must stay text

BREAKS = ("\n", "\r", "\x85", "\u2028", "\u2029")
EVIL = [f"x{end}plugins: [evil]{end}..{end}--- {end}#" for end in BREAKS]


def inspect_printed(path, *options):
    result = CliRunner().invoke(app, ["inspect", str(path), *options])
    assert result.exit_code == 0, result.output
    return result.stdout


def check_printed(text, *keys):
    """The printed configuration holds these blocks, and everything else in it is a comment."""
    content = yaml.safe_load(text)
    assert list(content) == list(keys or ("title", "samples"))
    first = text.index("\ntitle: ")
    assert all(line.startswith("# ") for line in text[:first].splitlines())
    (name, entry), *others = parse(content).samples.items()
    assert others == []
    return content["samples"][name], entry


@pytest.mark.parametrize("evil", EVIL, ids=map(ascii, BREAKS))
def test_names_in_a_file_cannot_write_configuration(tmp_path, rng, evil):
    hdf5(tmp_path / "t.h5", {evil: rng.random(9), "a": rng.random(9)})
    entry, _ = check_printed(inspect_printed(tmp_path / "t.h5"))
    assert evil in entry["columns"].values()
    config, _, table = run(inspect([str(tmp_path / "t.h5")]), tmp_path)
    assert set(table.columns) == set(config.samples["t"].columns)
    hdf5(tmp_path / "nan.h5", {evil: np.full(9, np.nan), "a": rng.random(9)})
    assert check_printed(inspect_printed(tmp_path / "nan.h5"))[0]["columns"] == {"a": "a"}
    np.savez(tmp_path / "t.npz", **{evil: rng.random(9), "a": rng.random(9)})
    check_printed(inspect_printed(tmp_path / "t.npz"))
    parquet(tmp_path / "t.parquet", {evil: rng.random(9), "a": rng.random(9)})
    assert evil in check_printed(inspect_printed(tmp_path / "t.parquet"))[0]["columns"].values()


@pytest.mark.parametrize("evil", EVIL, ids=map(ascii, BREAKS))
def test_the_name_of_a_file_cannot_write_configuration(tmp_path, rng, evil):
    paths = [str(tmp_path / f"{evil}{number}.npy") for number in range(2)]
    for path in paths:
        np.save(path, rng.random((9, 2)))
    assert check_printed(inspect_printed(paths[0]))[0]["path"] == paths[0]
    assert check_printed(inspect_printed(*paths))[0]["path"] == paths


@pytest.mark.parametrize("evil", EVIL, ids=map(ascii, BREAKS))
def test_branches_cannot_write_configuration(tmp_path, rng, evil):
    # Behind "jet_pt" the rest of a name is a number of the jets; alone it is an observable.
    content = {**branches("jet", lists(rng)), evil: rng.random(60)}
    content[f"jet_{evil}"] = content["jet_m"] * 2
    path = write_tree(tmp_path / "t.root", {f"tree {evil}": content, "other": {"x": np.arange(3.0)}})
    entry, _ = check_printed(inspect_printed(path), "title", "jets", "samples")
    assert entry["tree"] == f"tree {evil}"


@pytest.mark.parametrize("evil", EVIL, ids=map(ascii, BREAKS))
def test_weights_of_hepmc_cannot_write_configuration(tmp_path, evil):
    text = "HepMC::Version 3.02.06\nHepMC::Asciiv3-START_EVENT_LISTING\nW {}\n"
    text += "E 0 1 4\nU GEV MM\nW 1.0\nP 1 0 2212 0 0 6500 6500 0 4\nP 2 0 2212 0 0 -6500 6500 0 4\nV -1 0 [1,2]\n"
    text += "P 3 -1 211 60 0 10 61 0 1\nP 4 -1 -211 -60 0 10 61 0 1\nHepMC::Asciiv3-END_EVENT_LISTING\n"
    path = tmp_path / "a.hepmc3"
    path.write_bytes(text.format(evil.replace("\n", "|")).encode())
    check_printed(inspect_printed(path), "title", "jets", "samples")


def test_a_terminal_shows_names_as_they_are(tmp_path, monkeypatch):
    """Brackets are no markup of the terminal's, and no name clears the screen."""
    hdf5(tmp_path / "[red]a[:].h5", {"[/x] \x1b[2J": np.arange(9.0), "a": np.arange(9.0)})
    stream = io.StringIO()
    monkeypatch.setattr(report, "Console", lambda: report_console(stream))
    report.show(inspect([str(tmp_path / "[red]a[:].h5")]), with_configuration=False)
    # A long path is broken into lines.
    assert "[red]a[:].h5" in stream.getvalue().replace("\n", "")
    assert r"[/x] \x1b[2J" in stream.getvalue()


def test_pile_up_is_taken_from_candidates_and_neutrinos_from_their_truth(reference):
    found = inspect([str(reference / "root/pfnano.root")])
    entry = entry_of(found)
    assert entry["particles"]["pt"] == "PFCands_pt * PFCands_puppiWeight"
    assert entry["particles"]["mass"] == "PFCands_mass * PFCands_puppiWeight"
    assert entry["particles"]["where"] == "PFCands_puppiWeight > 0"
    assert "abs(GenCands_pdgId) != 14" in entry["truth"]["particles"]["where"]


def test_good_jets_and_what_remains_to_be_done(reference):
    nano, atlas = (inspect([str(reference / f"root/{name}.root")]) for name in ("nanoaod_dy", "physlite"))
    assert entry_of(nano)["jet_collection"]["where"] == "(Jet_jetId >= 2) & ((Jet_puId > 0) | (Jet_pt > 50))"
    assert "NNJvtPass == 1" in entry_of(atlas)["jet_collection"]["where"]
    assert any("overlap removal is not done" in problem for problem in atlas.findings[0].problems)
    assert any("of the jets have no true partner" in problem for problem in atlas.trials[0].problems)
    assert ("pairs of jets", "62, with 29 fakes and 21 misses above 20 GeV") in nano.trials[0].evidence


def test_padding_is_neither_a_unit_nor_an_observable(tmp_path, rng):
    n = 300
    there = rng.random(n) < 0.4
    path = tmp_path / "pairs.root"
    with uproot.recreate(path) as file:
        tree = file.mktree("events", dict.fromkeys(("reco_mass", "gen_mass", "weight_mc", "weight_pileup"), "float32"))
        tree.extend({
            "reco_mass": np.where(there, rng.exponential(50, n), -999).astype(np.float32),
            "gen_mass": rng.exponential(50, n).astype(np.float32),
            "weight_mc": np.ones(n, np.float32), "weight_pileup": rng.random(n).astype(np.float32),
        })  # fmt: skip
    entry = entry_of(inspect([str(path)]))
    assert entry["observables"] == {"mass": "reco_mass"}
    assert entry["passed"] == "reco_mass != -999"
    assert "passed" not in entry["truth"]
    jets = tmp_path / "jets.root"
    with uproot.recreate(jets) as file:
        names = [f"jet{k}_{x}" for k in (1, 2) for x in ("pt", "eta", "phi")]
        tree = file.mktree("events", dict.fromkeys(names, "float32"))
        tree.extend({name: np.where(there, 40 + rng.random(n), -9999).astype(np.float32) if name.endswith("pt")
                     else rng.normal(0, 1, n).astype(np.float32) for name in names})  # fmt: skip
    assert entry_of(inspect([str(jets)], kind="jets"))["unit"] == "GeV"


def test_leptons_alone_are_not_clustered(tmp_path, rng):
    path = tmp_path / "leptons.root"
    lists = ak.unflatten(rng.exponential(30, 60).astype(np.float32) + 1, np.full(30, 2))
    with uproot.recreate(path) as file:
        tree = file.mktree("events", {f"{x}_{y}": "var * float32" for x in ("el", "mu") for y in ("pt", "eta", "phi")})
        tree.extend({f"{x}_{y}": lists for x in ("el", "mu") for y in ("pt", "eta", "phi")})
    assert all(reading.kind != "particles" for reading in inspect([str(path)]).findings[0].readings)


# HDF5 files of others


def test_tables_in_hdf5_beside_each_other(tmp_path, rng):
    hdf5(tmp_path / "one.h5", {"data": rng.random((50, 3))})
    found = inspect([str(tmp_path / "one.h5")])
    assert entry_of(found)["columns"] == {"x0": 0, "x1": 1, "x2": 2}
    hdf5(tmp_path / "two.h5", {"x": rng.random((50, 3)), "y": rng.random((50, 2))})
    assert "neither columns of equal length" in problems_of(inspect([str(tmp_path / "two.h5")]))[0]


def test_rows_of_a_large_hdf5_file_are_not_gone_through(tmp_path, monkeypatch):
    hdf5(tmp_path / "long.h5", {"x": np.arange(1_000_000.0), "y": np.arange(1_000_000.0)})
    read = []
    original = h5py.Dataset.__getitem__

    def spy(dataset, key):
        rows = original(dataset, key)
        read.append(rows.size)
        return rows

    monkeypatch.setattr(h5py.Dataset, "__getitem__", spy)
    monkeypatch.setattr(h5py.Dataset, "__iter__", lambda dataset: pytest.fail("row by row"))
    found = inspect([str(tmp_path / "long.h5")])
    assert found.findings[0].events == 1_000_000
    assert max(read) <= 1000


def test_exported_products_of_two_seeds(tmp_path, rng):
    for seed in (1, 2):
        columns = {"mjj": rng.random(9), "a": rng.random(9)}
        write_table(tmp_path / f"{seed}.h5", [Table(columns)], provenance=f'{{"card": {{"name": "s{seed}"}}}}')
    export([tmp_path / "1.h5", tmp_path / "2.h5"], tmp_path / "both.h5")
    with h5py.File(tmp_path / "both.h5") as file:
        assert file.attrs["provenance"].startswith("[")
    _, _, table = run(inspect([str(tmp_path / "both.h5")]), tmp_path)
    assert len(table) == 18


# Names of samples, columns and readings


@pytest.mark.parametrize("name", ["my sample", "", "4l", "a\n", "é"])
def test_a_name_that_no_configuration_takes(tmp_path, name):
    csv(tmp_path / "t.csv", {"a": [1.5, 2.0]})
    with pytest.raises(HepgenError) as error:
        inspect([str(tmp_path / "t.csv")], name)
    assert str(error.value) == f"{name!r} cannot be the name of a sample: use letters, digits and _, a letter first"


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ('"m, GeV","e-"\n1.5,2\n2,3\n', {"m_GeV": "m, GeV", "e": "e-"}),
        ("\ufeffe,tau\n1.5,2\n2,3\n", {"e": "e", "tau": "tau"}),
        ("\ufeff1.5,2\n2,3\n", {"x0": 0, "x1": 1}),
        ("1e1,tau\n1.5,2\n2,3\n", {"x_1e1": "1e1", "tau": "tau"}),
    ],
)
def test_headers_are_those_of_the_source(tmp_path, text, columns):
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    found = inspect([str(tmp_path / "t.csv")])
    assert (entry_of(found)["columns"], found.findings[0].events) == (columns, 2)
    _, _, table = run(found, tmp_path)
    assert set(table.columns) == set(columns)


def test_two_columns_of_one_name(tmp_path):
    (tmp_path / "t.csv").write_text("a,a\n1,2\n")
    with pytest.raises(HepgenError, match=r"t\.csv: 2 columns are called 'a'"):
        inspect([str(tmp_path / "t.csv")])


def test_a_jet_at_the_threshold_counts(tmp_path, rng):
    """As in a run, where jets of exactly the smallest pT are kept."""
    content = lists(rng)
    content["pt"] = ak.full_like(content["pt"], 20.0)
    found = inspect([write_tree(tmp_path / "t.root", {"t": branches("jet", content)})])
    assert found.trials[0].jets["pt_min"] == 20.0


def test_the_command_offers_every_kind():
    assert get_type_hints(cli.inspect)["kind"] == Kind | None


# Names


def test_names_tell_what_belongs_together():
    assert families(["jet_pt_NOSYS", "jet_eta", "jet_phi", "jet_e_NOSYS", "jet_width"]) == {
        "jet": {"pt": "jet_pt_NOSYS", "eta": "jet_eta", "phi": "jet_phi", "energy": "jet_e_NOSYS"}
    }
    assert families(["PF.momentum.x", "PF.momentum.y", "PF.momentum.z", "PF.mass"])["PF"]["px"] == "PF.momentum.x"
    assert families(["jetPt", "jetEta", "jetPhi"]) == {"jet": {"pt": "jetPt", "eta": "jetEta", "phi": "jetPhi"}}
    assert families(["pt_lep", "eta_lep", "phi_lep"])["lep"]["pt"] == "pt_lep"
    assert families(["met", "same", "theta", "jet_pt", "jet_eta"]) == {}
    assert [level(name) for name in ("truth_jet", "GenJet", "jet_reco", "jet")] == [
        (True, "jet"), (True, "jet"), (False, "jet"), (None, "jet"),
    ]  # fmt: skip
    assert all(map(is_weight, ("weight", "genWeight", "mc_weight", "EventWeight", "weight_mc_NOSYS", "w")))
    assert not any(map(is_weight, ("pu_weight_up", "width", "ww", "weightless")))
    assert all(map(is_label, ("label", "is_signal_new", "y", "isSignal")))
    assert (as_name("tau21 (lead.)"), as_name("4l_mass")) == ("tau21_lead", "x_4l_mass")


# The documentation


def shown(language):
    return re.findall(rf"^```{language}\n(.*?)^```", DOCS.read_text(), re.MULTILINE | re.DOTALL)


def test_every_configuration_of_the_documentation_is_valid():
    blocks = shown("yaml")
    assert len(blocks) == 4
    sources = {entry.source for block in blocks for entry in parse(yaml.safe_load(block)).samples.values()}
    assert sources == SAMPLES.keys() - {"pythia", "plugin"}


def test_the_documentation_shows_what_is_printed(real, capsys):
    found = real("root/nanoaod_dy.root")
    report.show(found, with_configuration=True)
    printed = capsys.readouterr().out.replace(found.findings[0].path, "my.root").replace("nanoaod_dy", "my")
    shown_first = shown("yaml")[0]
    # Columns are as wide as the longest name in them, which a path is here.
    assert re.sub(r" +", " ", printed) == re.sub(r" +", " ", shown_first)


def test_the_documentation_names_every_function():
    for name in FUNCTIONS:
        assert f"`{name}`" in DOCS.read_text(), name
