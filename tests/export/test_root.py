"""ROOT files hold every bit of a product, for uproot and for hepgen's own source, as TTree and as RNTuple."""

import time

import awkward as ak
import numpy as np
import pytest
import uproot

from hepgen.errors import HepgenError
from hepgen.export import export
from hepgen.samples import RootSample
from hepgen.sources import root
from hepgen.storage import open_h5


def flat(arrays, names):
    """Branches as flat arrays, under the names that a product has for them."""
    found = {}
    for name in names:
        of, is_count, _ = name.partition("_counts")
        values = ak.num(arrays[f"{of}_pt"]) if is_count else arrays[name]
        values = ak.to_numpy(ak.flatten(values) if values.ndim > 1 else values)
        found[name] = values.astype(np.int32) if is_count else values
    return found


@pytest.mark.parametrize("rntuple", [False, True], ids=["TTree", "RNTuple"])
def test_every_product_comes_back_by_uproot(stored, tmp_path, same_bits, rntuple):
    assert export(stored.paths, tmp_path / "x.root", rntuple=rntuple) == 48
    with uproot.open(tmp_path / "x.root") as file:
        assert file.classnames() == {"provenance;1": "TObjString", "events;1": "ROOT::RNTuple" if rntuple else "TTree"}
        assert str(file["provenance"]) == stored.provenance
        arrays = file["events"].arrays()
    lists = {name.removesuffix("_counts") for name in stored.arrays if name.endswith("_counts")}
    counters = set() if rntuple else {f"n{name}" for name in lists}
    assert set(arrays.fields) == {name for name in stored.arrays if not name.endswith("_counts")} | counters
    same_bits(flat(arrays, stored.arrays), stored.arrays)
    for name in counters:
        assert arrays[name].tolist() == stored.arrays[f"{name[1:]}_counts"].tolist()


@pytest.mark.parametrize("rntuple", [False, True], ids=["TTree", "RNTuple"])
def test_equal_products_are_equal_files_and_others_have_another_identity(store, tmp_path, rntuple):
    """uproot keeps what it has read by a file's identity; each part of a file holds the second that it was written."""
    events, scores = store("simulated events").paths, store("scores").paths
    export(events, tmp_path / "first.root", rntuple=rntuple)
    time.sleep(1.1)
    export(events, tmp_path / "second.root", rntuple=rntuple)
    assert (tmp_path / "first.root").read_bytes() == (tmp_path / "second.root").read_bytes()
    export(events[:1], tmp_path / "part.root", rntuple=rntuple)
    export(scores, tmp_path / "other.root", rntuple=rntuple)
    files = [uproot.open(tmp_path / f"{name}.root") for name in ("first", "part", "other")]
    assert len({file.file.uuid for file in files}) == 3


def sample(path, **settings):
    return RootSample.model_validate({"source": "root", "path": str(path), **settings})


MOMENTA = ("pt", "eta", "phi", "mass")


@pytest.mark.parametrize("rntuple", [False, True], ids=["TTree", "RNTuple"])
def test_events_are_a_sample_again(store, tmp_path, rntuple):
    stored = store("simulated events")
    export(stored.paths, tmp_path / "x.root", rntuple=rntuple)
    levels = {level: {name: f"{level}_{name}" for name in MOMENTA} for level in ("particles", "truth")}
    entry = {"jets": "fat", "weight": "weight", "particles": levels["particles"]}
    batches = list(root.stream(sample(tmp_path / "x.root", **entry, truth={"particles": levels["truth"]}), 0, 1))
    for level, lists in (("particles", [b.particles for b in batches]), ("truth", [b.truth for b in batches])):
        joined = ak.concatenate(lists)
        assert ak.num(joined).tolist() == stored.arrays[f"{level}_counts"].tolist()
        for name in MOMENTA:
            values = ak.to_numpy(ak.flatten(joined[name])).astype(np.float32)
            np.testing.assert_array_equal(values, stored.arrays[f"{level}_{name}"])
    np.testing.assert_array_equal(np.concatenate([b.columns["weight"] for b in batches]), stored.arrays["weight"])


def test_observables_are_a_sample_again(store, tmp_path):
    stored = store("jets")
    export(stored.paths, tmp_path / "x.root", tree="jets")
    entry = sample(tmp_path / "x.root", tree="jets", observables={"mass_j1": "mass_j1"}, label="label")
    tables = list(root.stream(entry, 0, 1))
    for name in ("mass_j1", "label"):
        values = np.concatenate([table.columns[name] for table in tables])
        np.testing.assert_array_equal(values, stored.arrays[name])


def test_provenance_may_be_long(tmp_path, write):
    about = '{"card": "' + "é" * 200_000 + '"}'
    write["scores"](tmp_path / "s.h5", 9, 1, about)
    export([tmp_path / "s.h5"], tmp_path / "x.root")
    with uproot.open(tmp_path / "x.root") as file, open_h5(tmp_path / "s.h5") as product:
        assert str(file["provenance"]) == product.attrs["provenance"] == about


@pytest.mark.parametrize("name", ["", "a/b", "a;1", "provenance", "1st", "größe", "events\n"])
def test_a_name_that_no_tree_can_have(store, tmp_path, name):
    with pytest.raises(HepgenError, match="a tree cannot be named"):
        export(store("scores").paths, tmp_path / "x.root", tree=name)
    assert not (tmp_path / "x.root").exists()
