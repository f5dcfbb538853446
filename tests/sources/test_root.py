"""ROOT files: every layout gives the numbers that plain uproot and numpy give, and bad input one clear error."""

import awkward as ak
import numpy as np
import pytest
import uproot

from hepgen.errors import HepgenError
from hepgen.events import read_events, write_events
from hepgen.samples import RootSample
from hepgen.sources import root, trees
from hepgen.sources.formulas import Batch
from hepgen.table import write_table

EVENTS = 60
JET = {"pt": "pt", "eta": "eta", "phi": "phi", "mass": "mass"}
# float32 has a relative precision of 6e-8; numbers that were computed in float64 and rounded once agree to 1e-6.
SINGLE = 1e-6


def sample(path, **settings):
    if "particles" in settings or "jet_collection" in settings:
        settings = {"jets": "fat", **settings}
    return RootSample(source="root", path=str(path) if not isinstance(path, list) else path, **settings)


def batches(path, chunk=0, **settings):
    return list(root.stream(sample(path, **settings), chunk, 1))


def read(path, chunk=0, **settings):
    """All events of a chunk: particles, columns and truth."""
    found = batches(path, chunk, **settings)
    columns = {name: np.concatenate([batch.columns[name] for batch in found]) for name in found[0].columns}
    truth = None if found[0].truth is None else ak.concatenate([batch.truth for batch in found])
    return ak.concatenate([batch.particles for batch in found]), columns, truth


def table(path, chunk=0, **settings):
    found = batches(path, chunk, **settings)
    columns = {name: np.concatenate([batch.columns[name] for batch in found]) for name in found[0].columns}
    return columns, {name: np.concatenate([batch.truth[name] for batch in found]) for name in found[0].truth}


def same(found, expected, rtol=SINGLE):
    """Equal lists of numbers."""
    expected = ak.Array(expected)
    assert ak.num(found).tolist() == ak.num(expected).tolist()
    np.testing.assert_allclose(ak.to_numpy(ak.flatten(found)), ak.to_numpy(ak.flatten(expected)), rtol=rtol, atol=1e-6)


def content(seed=1):
    """Events with 0 to 5 objects, their true counterparts and numbers of the event."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, EVENTS)
    lists = {
        "pt": rng.exponential(50, counts.sum()) + 1,
        "eta": rng.normal(0, 1.5, counts.sum()),
        "phi": rng.uniform(-3.14, 3.14, counts.sum()),
        "mass": rng.exponential(5, counts.sum()),
        "tag": rng.random(counts.sum()),
    }
    values = {name: ak.unflatten(flat.astype(np.float32), counts) for name, flat in lists.items()}
    values["weight"] = rng.normal(1, 1, EVENTS)
    values["label"] = rng.integers(0, 2, EVENTS).astype(np.int32)
    values["met"] = rng.exponential(30, EVENTS).astype(np.float32)
    values["number"] = np.arange(EVENTS)
    return values


def write(path, values=None, kind="tree", name="events", step=17):
    """A file whose branches are compressed in pieces of `step` events."""
    values = content() if values is None else values
    types = {key: str(ak.type(ak.Array(value)).content) for key, value in values.items()}
    with uproot.recreate(path) as file:
        make = file.mktree if kind == "tree" else file.mkrntuple
        tree = make(name, types)
        for start in range(0, EVENTS, step):
            tree.extend({key: value[start : start + step] for key, value in values.items()})
    return path


@pytest.fixture
def values():
    return content()


@pytest.mark.parametrize("kind", ["tree", "rntuple"])
def test_jagged_branches(tmp_path, values, kind):
    path = write(tmp_path / "x.root", values, kind)
    settings = {"weight": "weight", "label": "label", "observables": {"MET": "met", "n": "count(pt)"}}
    particles, columns, truth = read(path, particles=JET, **settings)
    assert truth is None
    for name in JET:
        assert particles[name].type.content.content.primitive == "float32"
        np.testing.assert_array_equal(ak.flatten(particles[name]), ak.flatten(values[name]))
    assert ak.num(particles).tolist() == ak.num(values["pt"]).tolist()
    np.testing.assert_array_equal(columns["weight"], values["weight"])
    assert (columns["weight"] < 0).any()
    np.testing.assert_array_equal(columns["label"], values["label"])
    np.testing.assert_array_equal(columns["MET"], values["met"])
    np.testing.assert_array_equal(columns["n"], ak.num(values["pt"]))
    assert [columns[name].dtype for name in ("weight", "label", "MET")] == [np.float64, np.int8, np.float32]


@pytest.mark.parametrize("kind", ["tree", "rntuple"])
@pytest.mark.parametrize("size", [1, 900, 10_000])
def test_events_do_not_depend_on_chunks_or_batches(tmp_path, monkeypatch, values, kind, size):
    paths = [str(write(tmp_path / f"{seed}.root", content(seed), kind, step=9 + 4 * seed)) for seed in range(3)]
    settings = {"particles": JET, "observables": {"number": "number"}}
    whole, columns, _ = read(paths, **settings)
    monkeypatch.setattr(root, "BATCH", size)
    parts = [read(paths, chunk, chunks=4, **settings) for chunk in range(4)]
    assert ak.array_equal(ak.concatenate([part for part, _, _ in parts]), whole)
    numbers = np.concatenate([extra["number"] for _, extra, _ in parts])
    np.testing.assert_array_equal(numbers, columns["number"])
    np.testing.assert_array_equal(numbers, np.tile(np.arange(EVENTS), 3))


def test_batches_are_bounded_and_end_with_the_files_pieces(tmp_path):
    path = write(tmp_path / "x.root", step=10)
    with trees.open_tree(str(path)) as tree:
        sizes = [len(batch["pt"]) for batch in tree.iterate(["pt", "met"], 3, 55, 24)]
        small = [len(batch["pt"]) for batch in tree.iterate(["pt"], 0, 60, 4)]
    assert sizes == [17, 20, 15]
    assert sum(small) == 60
    assert max(small) <= 4


def test_nothing_is_decompressed_twice(tmp_path, monkeypatch):
    path = write(tmp_path / "x.root", step=10)
    done = []
    decompress = uproot.models.TBasket.Model_TBasket.read.__func__
    monkeypatch.setattr(
        uproot.models.TBasket.Model_TBasket,
        "read",
        classmethod(lambda cls, *arguments, **options: done.append(1) or decompress(cls, *arguments, **options)),
    )
    with trees.open_tree(str(path)) as tree:
        assert sum(len(batch["pt"]) for batch in tree.iterate(["pt", "eta"], 0, 60, 7)) == 60
    assert len(done) == 12


def test_cut_comes_first(tmp_path, values):
    """Where the cut fails, other branches may hold anything."""
    values["met"] = np.where(values["label"] == 1, values["met"], np.nan)
    path = write(tmp_path / "x.root", values)
    particles, columns, _ = read(path, particles=JET, cut="label == 1", observables={"MET": "met"})
    chosen = values["label"] == 1
    same(particles.pt, values["pt"][chosen])
    np.testing.assert_allclose(columns["MET"], values["met"][chosen], rtol=SINGLE)


def test_missing_values_fail_the_cut(tmp_path, values):
    particles, _, _ = read(write(tmp_path / "x.root", values), particles=JET, cut="pt[0] > 30")
    first = ak.fill_none(ak.firsts(values["pt"]), 0)
    same(particles.pt, values["pt"][first > 30])


def test_where(tmp_path, values):
    path = write(tmp_path / "x.root", values)
    particles, _, _ = read(path, particles={**JET, "where": "(abs(eta) < 1) & (tag > 0.3)"})
    same(particles.pt, values["pt"][(abs(values["eta"]) < 1) & (values["tag"] > 0.3)])
    particles, _, _ = read(path, particles={**JET, "where": "label == 1"})
    assert ak.num(particles).tolist() == (ak.num(values["pt"]) * values["label"]).tolist()


def cartesian(values):
    pt, eta, phi, mass = (values[name].layout.content.data.astype(np.float64) for name in JET)
    parts = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(eta)}
    parts["energy"] = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    return {name: ak.unflatten(part, ak.num(values["pt"])) for name, part in parts.items()}


@pytest.mark.parametrize("last", ["energy", "mass", None])
def test_cartesian_momenta(tmp_path, values, last):
    momenta = cartesian(values)
    momenta["m"] = values["mass"]
    keys = {"px": "px", "py": "py", "pz": "pz"} | ({last: {"mass": "m"}.get(last, last)} if last else {})
    particles, _, _ = read(write(tmp_path / "x.root", momenta), particles=keys)
    for name in ("pt", "eta", "phi"):
        same(particles[name], values[name], 1e-5)
    if last is None:
        assert ak.fields(particles) == ["pt", "eta", "phi"]
    else:
        # E² − p² loses as many digits as E²/m² has: at most six of float64's sixteen here
        same(particles.mass, values["mass"], 1e-5)


def test_energy_below_momentum_is_no_mass(tmp_path, values):
    values["energy"] = 0.9 * cartesian(values)["energy"] * (values["mass"] < 0)
    path = write(tmp_path / "x.root", values)
    particles, _, _ = read(path, particles={"pt": "pt", "eta": "eta", "phi": "phi", "energy": "energy"})
    assert ak.sum(particles.mass) == 0
    particles, _, _ = read(path, particles={**JET, "mass": "-1e-4 * mass"})
    assert ak.sum(particles.mass) == 0


def test_azimuths_are_wrapped(tmp_path, values):
    particles, _, _ = read(write(tmp_path / "x.root", values), particles={**JET, "phi": "phi + 6.283185307179586"})
    same(particles.phi, values["phi"], 1e-5)


def padded(values, empty, size=4):
    return {
        name: ak.to_numpy(ak.fill_none(ak.pad_none(values[name], size, clip=True), empty)).astype(np.float32)
        for name in JET
    }


@pytest.mark.parametrize("empty", [0.0, -999.0])
def test_fixed_size_arrays_are_padded(tmp_path, values, empty):
    particles, _, _ = read(write(tmp_path / "x.root", padded(values, empty)), particles=JET)
    for name in JET:
        same(particles[name], values[name][:, :4])


@pytest.mark.parametrize("empty", [0.0, -999.0])
def test_one_branch_for_each_object(tmp_path, values, empty):
    columns = {f"{name}{i}": array[:, i] for name, array in padded(values, empty).items() for i in range(4)}
    path = write(tmp_path / "x.root", columns)
    several = {name: [f"{name}{i}" for i in range(4)] for name in JET}
    particles, _, _ = read(path, particles=several)
    same(particles.pt, values["pt"][:, :4])
    single, _, _ = read(path, particles={name: f"{name}0" for name in JET})
    same(single.pt, values["pt"][:, :1])


@pytest.mark.parametrize("empty", [0.0, -999.0])
def test_padded_cartesian_momenta(tmp_path, values, empty):
    momenta = {name: ak.to_numpy(ak.fill_none(ak.pad_none(part, 5), empty)) for name, part in cartesian(values).items()}
    particles, _, _ = read(write(tmp_path / "x.root", momenta), particles={n: n for n in ("px", "py", "pz", "energy")})
    same(particles.pt, values["pt"], 1e-5)


def test_collections_are_put_together(tmp_path, values):
    path = write(tmp_path / "x.root", values)
    light = {name: name for name in ("pt", "eta", "phi")}
    particles, _, _ = read(path, particles=[{**JET, "where": "tag > 0.5"}, {**light, "where": "tag <= 0.5"}])
    hard = values["tag"] > 0.5
    same(particles.pt, ak.concatenate([values["pt"][hard], values["pt"][~hard]], axis=1))
    same(particles.mass, ak.concatenate([values["mass"][hard], 0 * values["mass"][~hard]], axis=1))


def test_constant_mass(tmp_path, values):
    particles, _, _ = read(write(tmp_path / "x.root", values), particles={**JET, "mass": 0.13957})
    assert ak.all(particles.mass == np.float32(0.13957))


def test_unit(tmp_path, values, capsys):
    path = write(tmp_path / "x.root", values | {"pt": 1000 * values["pt"], "mass": 1000 * values["mass"]})
    particles, columns, _ = read(path, particles=JET, unit="MeV", observables={"sum": "sum(pt)"})
    same(particles.pt, values["pt"])
    same(particles.mass, values["mass"])
    np.testing.assert_allclose(columns["sum"], 1000 * ak.to_numpy(ak.sum(values["pt"], axis=1)), rtol=1e-5)
    assert capsys.readouterr().err == ""
    batches([str(path), str(write(tmp_path / "y.root", values | {"pt": 1000 * values["pt"]}))], particles=JET)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "median ΣpT" in lines[0]
    assert "set unit: MeV" in lines[0]
    batches(write(tmp_path / "z.root", values), particles=JET, unit="MeV")
    assert "set unit: GeV" in capsys.readouterr().err


def test_observables_in_mev(tmp_path, values):
    """Those that hepgen knows to be in GeV are converted with the momenta; others are as they are."""
    path = write(tmp_path / "x.root", values)
    jets = {**JET, "observables": {"msd": "mass", "tau1": "tag", "mine": "mass"}}
    particles, _, _ = read(path, jet_collection=jets, unit="MeV")
    same(particles.msd, values["mass"] / 1000)
    same(particles.tau1, values["tag"])
    same(particles.mine, values["mass"])
    columns, truth = table(
        path,
        observables={"mjj": "met", "mine": "met"},
        unit="MeV",
        truth={"observables": {"mjj": "met", "mine": "met"}},
    )
    for level in (columns, truth):
        np.testing.assert_allclose(level["mjj"], values["met"] / 1000, rtol=1e-6)
        np.testing.assert_array_equal(level["mine"], values["met"])


def test_levels(tmp_path, values):
    path = write(tmp_path / "x.root", values)
    truth = {"particles": {**JET, "where": "tag > 0.5"}, "passed": "met > 20"}
    particles, _, true = read(path, particles=JET, passed="label == 1", truth=truth)
    assert ak.num(particles).tolist() == (ak.num(values["pt"]) * values["label"]).tolist()
    chosen = values["pt"][(values["tag"] > 0.5) & (values["met"] > 20)]
    same(true.pt, chosen)


def test_jets_keep_their_observables(tmp_path, values):
    path = write(tmp_path / "x.root", values)
    particles, _, _ = read(path, jet_collection={**JET, "observables": {"b": "tag", "half": "tag / 2"}})
    assert ak.fields(particles) == ["pt", "eta", "phi", "mass", "b", "half"]
    same(particles.half, values["tag"] / 2)
    write_events(tmp_path / "x.h5", batches(path, jet_collection={**JET, "observables": {"b": "tag"}}))
    same(read_events(tmp_path / "x.h5").particles.b, values["tag"])


def test_index_of_the_true_jet_follows_the_selection(tmp_path, values):
    """Each jet's true jet is the one at the same place in the reversed list."""
    true = {f"true_{name}": values[name][:, ::-1] for name in JET}
    counts = ak.num(values["pt"])
    index = counts - 1 - ak.local_index(values["pt"])
    index = ak.where(values["tag"] < 0.2, -1, ak.where(values["tag"] > 0.9, 100, index))
    path = write(tmp_path / "x.root", values | true | {"index": ak.values_astype(index, np.int32)})
    truth = {"jet_collection": {name: f"true_{name}" for name in JET} | {"where": "true_pt > 30"}}
    jets = {**JET, "where": "abs(eta) < 2"}
    reco, _, truth_jets = read(path, jet_collection=jets, truth=truth, match={"index": "index"})
    found = ak.values_astype(reco.truth_index, np.int64)
    central = abs(values["eta"]) < 2
    expected = central & (values["pt"] > 30) & (values["tag"] >= 0.2) & (values["tag"] <= 0.9)
    assert (found >= 0).tolist() == expected[central].tolist()
    same(truth_jets.pt[found[found >= 0]], reco.pt[found >= 0], 0)


def test_table(tmp_path, values):
    path = write(tmp_path / "x.root", values)
    columns, truth = table(path, observables={"met": "met", "sum": "sum(pt)"}, label=1)
    np.testing.assert_array_equal(columns["met"], values["met"])
    np.testing.assert_allclose(columns["sum"], ak.to_numpy(ak.sum(values["pt"], axis=1)), rtol=1e-5)
    assert columns["label"].tolist() == [1] * EVENTS
    assert truth == {}


def test_table_of_both_levels(tmp_path, values):
    values["met"] = np.where(values["label"] == 1, values["met"], np.nan).astype(np.float32)
    path = write(tmp_path / "x.root", values)
    true = {"observables": {"met": "weight", "first": "pt[0]"}, "passed": "count(pt) > 3"}
    observables = {"met": "met", "first": "weight"}
    columns, truth = table(path, observables=observables, passed="label == 1", truth=true, weight="weight")
    seen, exists = values["label"] == 1, ak.to_numpy(ak.num(values["pt"]) > 3)
    kept = seen | exists
    np.testing.assert_array_equal(columns["pass_reco"], seen[kept])
    np.testing.assert_array_equal(columns["pass_truth"], exists[kept])
    assert columns["pass_reco"].dtype == bool
    np.testing.assert_array_equal(columns["met"], np.where(seen, values["met"], np.nan)[kept])
    first = ak.to_numpy(ak.fill_none(ak.firsts(values["pt"]), np.nan))
    np.testing.assert_array_equal(truth["first"], np.where(exists, first, np.nan)[kept])
    np.testing.assert_array_equal(columns["weight"], values["weight"][kept])


def test_all_events_exist_unless_said_otherwise(tmp_path, values):
    true = {"observables": {"met": "weight"}}
    columns, _ = table(write(tmp_path / "x.root", values), observables={"met": "met"}, truth=true)
    assert columns["pass_reco"].all()
    assert columns["pass_truth"].all()


def test_trees_of_a_file(tmp_path, values):
    """Folders, cycles and the choice of a tree."""
    path = tmp_path / "x.root"
    with uproot.recreate(path) as file:
        file["a/b/first"] = {"met": values["met"][:5]}
        file["a/b/first"] = {"met": values["met"][:9]}
        file["other"] = {"met": values["met"][:3]}
        file["histogram"] = np.histogram(values["met"])
    assert trees.list_trees(str(path)) == {"a/b/first": 9, "other": 3}
    lengths = {"a/b/first": 9, "a/b/first;1": 5, "a/b/first;2": 9, "/other": 3, "other;1": 3}
    for name, length in lengths.items():
        assert len(table(path, tree=name, observables={"met": "met"})[0]["met"]) == length
    with pytest.raises(HepgenError, match=r"several trees; say which by `tree`: a/b/first \(9 .*, other \(3 entries\)"):
        batches(path, observables={"met": "met"})
    with pytest.raises(HepgenError, match=r"unknown tree 'a/b/frist' .* did you mean 'a/b/first'"):
        batches(path, tree="a/b/frist", observables={"met": "met"})
    with pytest.raises(HepgenError, match="unknown tree 'other;7'"):
        batches(path, tree="other;7", observables={"met": "met"})


@pytest.mark.parametrize("name", trees.MAIN_TREES)
def test_main_trees_need_no_name(tmp_path, values, name):
    path = tmp_path / "x.root"
    with uproot.recreate(path) as file:
        file["Another"] = {"met": values["met"]}
        file[name] = {"met": values["met"][:7]}
    assert len(table(path, observables={"met": "met"})[0]["met"]) == 7


def changed(values, name, event, value):
    """A value in place of the first number of an event."""
    counts = ak.num(values[name]) if values[name].ndim > 1 else 1
    flat = np.array(ak.flatten(values[name], axis=None), np.float64)
    flat[int(np.sum(counts[:event])) if values[name].ndim > 1 else event] = value
    return values | {name: ak.unflatten(flat, counts) if values[name].ndim > 1 else flat}


BUSY = int(np.argmax(ak.to_numpy(ak.num(content()["pt"])) > 1))
SOLID = {"particles": JET}
BAD = {
    "unknown branch 'ptt' of": ({"particles": {**JET, "pt": "ptt"}}, None),
    "did you mean 'pt', 'npt'?": ({"particles": {**JET, "pt": "ptt"}}, None),
    "unknown branch 'weigth'": ({**SOLID, "weight": "weigth"}, None),
    "'pt' has 2 numbers, but 'pt[pt > 30]' has": ({"particles": {**JET, "eta": "pt[pt > 30]"}}, None),
    f"event {BUSY} (counted from 0): pt = nan from 'pt' is unphysical": (SOLID, ("pt", np.nan)),
    f"event {BUSY} (counted from 0): pt = 0.0 from 'pt' is unphysical; leave such": (SOLID, ("pt", 0)),
    "pt = -999.0 from 'pt'": (SOLID, ("pt", -999)),
    "eta = inf from 'eta'": (SOLID, ("eta", np.inf)),
    "eta = 1000.0 from 'eta'": (SOLID, ("eta", 1000)),
    "phi = -inf from 'phi'": (SOLID, ("phi", -np.inf)),
    "mass = nan from 'mass'": (SOLID, ("mass", np.nan)),
    "mass = inf from 'mass'": (SOLID, ("mass", 1e300)),
    "b = nan from 'tag'": ({"jet_collection": {**JET, "observables": {"b": "tag"}}}, ("tag", np.nan)),
    f"event {BUSY} (counted from 0): 'met' is nan": ({**SOLID, "observables": {"m": "met"}}, ("met", np.nan)),
    "'weight' is inf": ({**SOLID, "weight": "weight"}, ("weight", np.inf)),
    "'met' is inf": ({"observables": {"m": "met"}}, ("met", 1e300)),
    "label 'label' is 2.0, neither 0 nor 1": ({**SOLID, "label": "label"}, ("label", 2)),
    "'pt' gives a list of numbers for each event, not one number; take one by [0]": (
        {**SOLID, "observables": {"m": "pt"}},
        None,
    ),
    "'pt[0]' has no value": ({**SOLID, "observables": {"m": "pt[0]"}}, None),
    "condition 'pt > 3' gives a list": ({**SOLID, "cut": "pt > 3"}, None),
    "'met' has 1 numbers": ({"particles": {**JET, "pt": "met"}}, None),
    "in a list of formulas, each gives one number": ({"particles": {**JET, "pt": ["pt", "pt"]}}, None),
    "expression 'pt[tag]'": ({**SOLID, "observables": {"m": "pt[tag]"}}, None),
    "reads no branch": ({"observables": {"m": "1"}}, None),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_one_clear_error(tmp_path, values, message):
    settings, change = BAD[message]
    path = write(tmp_path / "x.root", values if change is None else changed(values, change[0], BUSY, change[1]))
    with pytest.raises(HepgenError) as error:
        batches(path, **settings)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_lists_of_lists(tmp_path, values):
    nested = ak.unflatten(np.arange(2.0 * EVENTS), np.full(EVENTS, 2))[:, np.newaxis]
    path = tmp_path / "x.root"
    with uproot.recreate(path) as file:
        tree = file.mkrntuple("events", {"pt": "var * var * float64", "met": "float32"})
        tree.extend({"pt": ak.from_regular(nested, axis=None), "met": values["met"]})
    with pytest.raises(HepgenError, match="'pt' gives lists of lists"):
        batches(path, particles={"pt": "pt", "eta": "met", "phi": "met"})
    with pytest.raises(HepgenError, match="'pt' gives lists of lists for each event"):
        batches(path, observables={"x": "pt"})


def test_files_without_events(tmp_path, values):
    path = tmp_path / "x.root"
    with uproot.recreate(path) as file:
        file["histogram"] = np.histogram(values["met"])
    with pytest.raises(HepgenError, match="holds no tree"):
        batches(path, observables={"m": "met"})
    with uproot.recreate(path) as file:
        file.mktree("events", {"met": "float32"})
    with pytest.raises(HepgenError, match="no such file"):
        batches(tmp_path / "y.root", observables={"m": "met"})


def test_empty_files_among_others(tmp_path, values, capsys):
    """Skims that nothing passed are left out; a sample of nothing else is refused where it is written."""
    full, empty = write(tmp_path / "x.root", values), tmp_path / "y.root"
    with uproot.recreate(empty) as file:
        file.mktree("events", {"met": "float32"})
    columns, _ = table([str(full), str(empty)], observables={"m": "met"})
    np.testing.assert_array_equal(columns["m"], values["met"])
    warning = f"warning: {empty}: events holds no event\n"
    assert capsys.readouterr().err == warning
    with pytest.raises(HepgenError, match="no event was left to write; is the input empty"):
        write_table(tmp_path / "out.h5", batches(empty, observables={"m": "met"}))
    assert capsys.readouterr().err == warning


def test_mass_of_light_particles(tmp_path):
    """E² − p² of these is off by 3e-5."""
    energy = np.full(EVENTS, 500_000 + 2.0**-20)
    x, y, z = (np.full(EVENTS, value) for value in (300_000.0, 400_000.0, 0.0))
    momenta = {"px": x, "py": y, "pz": z, "energy": energy, "pt": np.hypot(x, y), "eta": z, "phi": z}
    path = write(tmp_path / "x.root", {name: ak.unflatten(v, np.ones(EVENTS, int)) for name, v in momenta.items()})
    for names in (("px", "py", "pz", "energy"), ("pt", "eta", "phi", "energy")):
        particles, _, _ = read(path, particles={name: name for name in names})
        np.testing.assert_allclose(ak.flatten(particles.mass), np.sqrt(2.0**-20 * (1e6 + 2.0**-20)), rtol=SINGLE)


def test_formulas_that_give_something_else_than_a_number_of_each_event(tmp_path, values):
    class Formula:
        def __init__(self, value, *names):
            self.value, self.names = value, names

        def __call__(self, branches):
            return self.value

    formulas = {"few": Formula(np.ones(3), "met"), "one": Formula(2.0, "met"), "constant": Formula(2.0)}
    with trees.open_tree(str(write(tmp_path / "x.root", values))) as tree:
        batch = Batch(tree, {"met": ak.Array(values["met"])}, np.arange(EVENTS), formulas)
        assert batch.value("constant") == 2.0
        with pytest.raises(HepgenError, match=f"'few' gives 3 values for {EVENTS} events"):
            batch.value("few")
        with pytest.raises(HepgenError, match="'one' gives one number for all events"):
            batch.value("one")


@pytest.mark.parametrize(
    ("text", "message"),
    [("~label", "write branch == 0"), ("met[-1] > 3", "use cut for events"), ("any(pt[label] > 3)", "use cut for")],
)
def test_cuts_that_would_mean_something_else(tmp_path, values, text, message):
    with pytest.raises(HepgenError, match=message):
        batches(write(tmp_path / "x.root", values), observables={"m": "met"}, cut=text)


def test_batches_that_the_cut_empties_are_left_out(tmp_path, values):
    assert batches(write(tmp_path / "x.root", values), particles=JET, cut="met < 0") == []


def test_missing_package_for_other_hosts(monkeypatch):
    def refuse(*arguments, **options):
        raise ModuleNotFoundError("Install fsspec-xrootd")

    monkeypatch.setattr(uproot, "open", refuse)
    with pytest.raises(HepgenError, match=r"pip install 'hepgen\[xrootd\]'"):
        batches("root://host//file.root", observables={"m": "met"})


def refusal(path):
    """The error that a damaged file ends in; none if it was damaged where nobody reads or notices."""
    try:
        batches(path, particles=JET, weight="weight", observables={"met": "met"})
    except HepgenError as error:
        return str(error)
    return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["tree", "rntuple"])
def test_damaged_files(tmp_path, values, kind):
    whole = write(tmp_path / "x.root", values, kind).read_bytes()
    path = tmp_path / "bad.root"
    for length in np.linspace(0, 0.8 * len(whole), 12).astype(int):
        path.write_bytes(whole[:length])
        assert "not a readable ROOT file, perhaps truncated or damaged" in refusal(path)
    path.write_bytes(b"garbage" * 100)
    assert "not a readable ROOT file" in refusal(path)
    rng, refusals = np.random.default_rng(1), []
    for _ in range(40):
        broken = bytearray(whole)
        for place in rng.integers(0, len(whole), 20):
            broken[place] ^= 1 << rng.integers(8)
        path.write_bytes(broken)
        refusals += [message for message in [refusal(path)] if message]
    assert len(refusals) > 20
    assert all(str(path) in message and "\n" not in message for message in refusals)


# Files of the experiments and of other generators, against plain uproot and numpy.


@pytest.fixture
def real(reference):
    return lambda name: str(reference / "root" / name)


def arrays(path, tree, *names):
    with uproot.open(path) as file:
        return [file[tree][name].array() for name in names]


def test_delphes_particles(real):
    path = real("delphes.root")
    towers = {"EFlowTrack": "PT", "EFlowPhoton": "ET", "EFlowNeutralHadron": "ET"}
    particles, columns, _ = read(
        path,
        particles=[
            # some tracks of this file have no momentum
            {"pt": f"{kind}.{pt}", "eta": f"{kind}.Eta", "phi": f"{kind}.Phi", "where": f"{kind}.{pt} > 0"}
            for kind, pt in towers.items()
        ],
        weight="Event.Weight[0]",
        observables={"scale": "Event.Scale[0]"},
    )
    with uproot.open(path) as file:
        momenta = [file["Delphes"][f"{kind}/{kind}.{pt}"].array() for kind, pt in towers.items()]
        etas, phis = ([file["Delphes"][f"{kind}/{kind}.{key}"].array() for kind in towers] for key in ("Eta", "Phi"))
    for name, lists in (("pt", momenta), ("eta", etas), ("phi", phis)):
        used = [values[pt > 0] for values, pt in zip(lists, momenta, strict=True)]
        same(particles[name], ak.concatenate(used, axis=1), 0)
    (weight,) = arrays(path, "Delphes", "Event/Event.Weight")
    np.testing.assert_array_equal(columns["weight"], ak.flatten(weight))
    with pytest.raises(HepgenError, match=r"event 0 \(counted from 0\): pt = 0.0 from 'EFlowTrack.PT'"):
        batches(path, particles={"pt": "EFlowTrack.PT", "eta": "EFlowTrack.Eta", "phi": "EFlowTrack.Phi"})


def test_nanoaod_jets_with_their_index(real):
    path = real("nanoaod_dy.root")
    jets, true = ({key: f"{kind}_{key}" for key in JET} for kind in ("Jet", "GenJet"))
    settings = {"truth": {"jet_collection": true | {"where": "GenJet_pt > 15"}}, "match": {"index": "Jet_genJetIdx"}}
    reco, columns, truth = read(path, jet_collection=jets, weight="genWeight", **settings)
    pt, index, true_pt = arrays(path, "Events", "Jet_pt", "Jet_genJetIdx", "GenJet_pt")
    same(reco.pt, pt, 0)
    same(truth.pt, true_pt[true_pt > 15], 0)
    for event in range(len(reco)):
        for jet, old in enumerate(index[event]):
            known = 0 <= old < len(true_pt[event]) and true_pt[event][old] > 15
            new = int(reco.truth_index[event][jet])
            assert truth.pt[event][new] == true_pt[event][old] if known else new == -1
    assert columns["weight"].dtype == np.float64


def test_pfnano_candidates(real):
    path = real("pfnano.root")
    particles, _, _ = read(path, particles={key: f"PFCands_{key}" for key in JET})
    pt, eta, mass = arrays(path, "Events", "PFCands_pt", "PFCands_eta", "PFCands_mass")
    same(particles.pt, pt, 0)
    same(particles.eta, eta, 0)
    same(particles.mass, np.maximum(mass, 0), 0)


def test_physlite_is_in_mev(real, capsys):
    path = real("physlite.root")
    keys = {"pt": "pt", "eta": "eta", "phi": "phi", "mass": "m"}
    jets, true = (
        {name: f"{collection}.{key}" for name, key in keys.items()}
        for collection in ("AnalysisJetsAuxDyn", "AntiKt4TruthDressedWZJetsAux")
    )
    reco, _, truth = read(path, jet_collection=jets, truth={"jet_collection": true})
    names = [level[name] for level in (jets, true) for name in ("pt", "eta", "mass")]
    pt, eta, mass, true_pt, true_eta, true_mass = arrays(path, "CollectionTree", *names)
    for found, expected in ((reco, (pt, eta, mass)), (truth, (true_pt, true_eta, true_mass))):
        same(found.pt, expected[0] * 1e-3)
        same(found.eta, expected[1])
        same(found.mass, np.maximum(expected[2], 0) * 1e-3)
    assert capsys.readouterr().err == ""
    batches(path, jet_collection=jets, unit="GeV")
    assert "set unit: MeV" in capsys.readouterr().err


def test_branch_that_cannot_be_read(real):
    name = "xTrigDecisionAux.xAOD::AuxInfoBase"
    with pytest.raises(HepgenError, match=f"branch '{name}' of .* cannot be read: uproot cannot turn unknown into"):
        batches(real("physlite.root"), observables={"x": f"`{name}`"})


def test_edm4hep_momenta(real):
    path = real("edm4hep.root")
    true, reco = (
        {f"p{axis}": f"{collection}.momentum.{axis}" for axis in "xyz"}
        for collection in ("MCParticleCollection", "ReconstructedParticleCollection")
    )
    true |= {"mass": "MCParticleCollection.mass", "where": "MCParticleCollection.generatorStatus == 1"}
    reco |= {"energy": "ReconstructedParticleCollection.energy"}
    particles, _, truth = read(path, particles=reco, truth={"particles": true})
    px, py, pz, mass, status = (
        ak.values_astype(array, np.float64)
        for array in arrays(path, "events", *(f"MCParticleCollection/{key}" for key in list(true.values())[:4]),
                            "MCParticleCollection/MCParticleCollection.generatorStatus")
    )  # fmt: skip
    final = status == 1
    same(truth.pt, np.hypot(px, py)[final])
    same(truth.eta, np.arctanh(pz / np.sqrt(px**2 + py**2 + pz**2))[final], 1e-5)
    same(truth.phi, np.arctan2(py, px)[final])
    same(truth.mass, mass[final])
    px, py = arrays(path, "events", *(f"ReconstructedParticleCollection/{reco[key]}" for key in ("px", "py")))
    same(particles.pt, np.hypot(px, py))


def test_rntuple_of_nanoaod(real):
    path = real("nanoaod_rntuple.root")
    particles, columns, _ = read(path, jet_collection={k: f"Jet_{k}" for k in JET}, observables={"met": "MET_pt"})
    same(particles.pt, arrays(path, "Events", "Jet_pt")[0], 0)
    same(particles.mass, arrays(path, "Events", "Jet_mass")[0], 0)
    np.testing.assert_array_equal(columns["met"], arrays(path, "Events", "MET_pt")[0])


def test_flat_ntuple(real):
    path = real("flat_ntuple.root")
    keys = {"pt": "pt", "eta": "eta", "phi": "phi", "energy": "e"}
    jets = {name: [f"f_jet{i}_{key}" for i in (1, 2)] for name, key in keys.items()}
    settings = {"jet_collection": jets, "weight": "f_weight", "chunks": 3}
    found = [read(path, chunk, **settings) for chunk in range(3)]
    particles = ak.concatenate([part for part, _, _ in found])
    weights = np.concatenate([columns["weight"] for _, columns, _ in found])
    tree = "HZZ4LeptonsAnalysisReduced"
    raw = {key: np.stack([np.asarray(a) for a in arrays(path, tree, *names)], 1) for key, names in jets.items()}
    present = raw["pt"] > 0
    assert len(particles) == 22_344
    assert ak.num(particles).tolist() == present.sum(1).tolist()
    np.testing.assert_array_equal(ak.flatten(particles.pt), raw["pt"][present])
    pt, eta, energy = (raw[key][present].astype(np.float64) for key in ("pt", "eta", "energy"))
    mass = np.sqrt(np.maximum(energy**2 - (pt * np.cosh(eta)) ** 2, 0))
    np.testing.assert_allclose(ak.flatten(particles.mass), mass, rtol=SINGLE, atol=1e-6)
    np.testing.assert_array_equal(weights, arrays(path, tree, "f_weight")[0])
    for cycle in (1, 2):
        assert len(read(path, tree=f"{tree};{cycle}", jet_collection=jets)[0]) == 22_344


def test_delphes_has_a_branch_twice(real):
    with trees.open_tree(real("delphes.root")) as tree:
        assert tree.typename("Jet.Tau") == "float[][5]"
        assert sum(name == "Particle.PT" for name in tree.branches) == 1
        assert ak.num(next(tree.iterate(["Particle.PT"], 0, 10, 10))["Particle.PT"]).tolist()[0] > 0
