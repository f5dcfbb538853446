import json

import awkward as ak
import h5py
import hdf5plugin
import numpy as np
import pytest
import uproot

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.events import read_events
from hepgen.jets import observe_file
from hepgen.sources import SOURCES
from hepgen.sources.produce import produce
from hepgen.table import read_tables


def config(**samples):
    return parse({"jets": {"dijet": {}}, "samples": samples})


def test_samples_of_the_same_settings_are_other_events(tmp_path):
    entry = {"source": "pythia", "process": "wprime", "events": 2, "jets": "dijet"}
    run = config(first=entry, second=entry)
    for name in run.samples:
        produce(run, name, 0, tmp_path / f"{name}.h5")
    first, second = (read_events(tmp_path / f"{name}.h5") for name in run.samples)
    assert first.particles[0].tolist() != second.particles[0].tolist()


def test_a_table_enters_as_observables_with_its_provenance(tmp_path):
    np.save(tmp_path / "table.npy", np.arange(6.0).reshape(3, 2))
    run = config(mine={"source": "arrays", "path": str(tmp_path / "table.npy"), "columns": {"mjj": 1}, "label": 1})
    assert produce(run, "mine", 0, tmp_path / "out.h5") == 3
    table = read_tables([tmp_path / "out.h5"])
    assert table.columns["mjj"].tolist() == [1, 3, 5]
    assert table.columns["label"].tolist() == [1, 1, 1]
    with h5py.File(tmp_path / "out.h5") as file:
        assert json.loads(file.attrs["provenance"])["card"]["name"] == "mine"


def test_a_missing_input_leaves_no_product(tmp_path):
    run = config(mine={"source": "lhco", "path": str(tmp_path / "absent.h5"), "jets": "dijet"})
    with pytest.raises(HepgenError, match=r"absent\.h5: no such file"):
        produce(run, "mine", 0, tmp_path / "out.h5")
    assert not list(tmp_path.iterdir())


def table_file(path, rows=4):
    np.save(path, np.arange(2.0 * rows).reshape(rows, 2))
    return {"source": "arrays", "path": str(path), "columns": {"mjj": 1}}


def test_no_product_replaces_its_input(tmp_path):
    run = config(mine=table_file(tmp_path / "table.npy"))
    with pytest.raises(HepgenError, match=r"table\.npy: is one of the files that are read; write to another one"):
        produce(run, "mine", 0, tmp_path / "table.npy")
    assert len(np.load(tmp_path / "table.npy")) == 4


def test_files_that_grew_since_the_run_was_planned(tmp_path):
    entry = table_file(tmp_path / "table.npy")
    run = config(mine=entry)
    size = (tmp_path / "table.npy").stat().st_size
    assert produce(run, "mine", 0, tmp_path / "out.h5", planned_bytes=size) == 4
    table_file(tmp_path / "table.npy", rows=5)
    with pytest.raises(HepgenError, match=f"its files were {size} bytes when the run was planned"):
        produce(run, "mine", 0, tmp_path / "out.h5", planned_bytes=size)


def test_the_provenance_names_the_files_that_were_read(tmp_path):
    run = config(mine=table_file(tmp_path / "table.npy"))
    produce(run, "mine", 0, tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert json.loads(file.attrs["provenance"])["card"]["inputs"] == [str(tmp_path / "table.npy")]


def hdf5(momenta, path, **layout):
    """The layout of the LHC Olympics: pT, η and φ of up to 700 particles, and a label."""
    rows = np.zeros((len(momenta), 2101))
    rows[:, : momenta[0].size] = momenta.reshape(len(momenta), -1)
    rows[:, 2100] = momenta[:, 0, 0] > 100
    with h5py.File(path, "w") as file:
        file.create_dataset("df/block0_values", data=rows, **layout)


def tree(momenta, path, kind="mktree", step=11, **layout):
    """A tree whose baskets hold `step` events."""
    types = dict.fromkeys(("pt", "eta", "phi"), "var * float32") | {"label": "int32"}
    with uproot.recreate(path, **layout) as file:
        target = getattr(file, kind)("events", types)
        for start in range(0, len(momenta), step):
            part = momenta[start : start + step].astype(np.float32)
            lists = {name: ak.from_regular(part[:, :, i]) for i, name in enumerate(("pt", "eta", "phi"))}
            target.extend({**lists, "label": (part[:, 0, 0] > 100).astype(np.int32)})


@pytest.mark.parametrize(
    ("source", "write", "layouts"),
    [
        ("lhco", hdf5, [{}, {"chunks": (4, 100), "compression": "gzip"}, {"chunks": (5, 2101), **hdf5plugin.Blosc()}]),
        ("root", tree, [{}, {"step": 4, "compression": uproot.LZ4(4)}, {"kind": "mkrntuple"}]),
    ],
)  # fmt: skip
def test_no_event_depends_on_how_files_are_cut_packed_or_shared(tmp_path, source, write, layouts):
    """From the input to the observables, bit for bit: other chunks, other pieces of a file, files of unequal length."""
    rng = np.random.default_rng(3)
    momenta = np.stack([rng.exponential(100, (42, 20)) + 20, *rng.uniform(-2.5, 2.5, (2, 42, 20))], axis=-1)
    reading = {"particles": {"pt": "pt", "eta": "eta", "phi": "phi", "mass": "0"}, "label": "label"}
    entry = {"source": source, "jets": "fat", **(reading if source == "root" else {})}

    def observed(files, chunks):
        run = parse({"jets": {"fat": {"number": 2}}, "samples": {"mine": {**entry, "path": files, "chunks": chunks}}})
        tables = [tmp_path / f"{chunk}.table" for chunk in range(chunks)]
        for chunk, table in enumerate(tables):
            produce(run, "mine", chunk, tmp_path / "events")
            observe_file(tmp_path / "events", table, run.jets_of("mine"))
        return {name: values.tobytes() for name, values in read_tables(tables, unseen=True).columns.items()}

    found = []
    for index, layout in enumerate(layouts):
        cuts = [(0, 42), (0, 5), (5, 33), (33, 42)]
        paths = [str(tmp_path / f"{index}_{start}_{stop}.h5") for start, stop in cuts]
        for path, (start, stop) in zip(paths, cuts, strict=True):
            write(momenta[start:stop], path, **layout)
        found += [observed(paths[:1], chunks) for chunks in (1, 5)] + [observed(paths[1:], 2)]
    assert len(found[0]["label"]) == 42
    assert all(other == found[0] for other in found[1:])


PLUGIN = """
import numpy as np
from hepgen.sources import SOURCES
from hepgen.table import Table

@SOURCES.register("{name}")
def {name}(sample, chunk, seed, *, n=3):
    {body}
"""


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("lies", "yield Table({'x': np.arange(n)})", r"source 'lies' does not yield y, as its sample's entry says"),
        ("other_kind", "yield [1, 2]", r"source 'other_kind' does not yield Table"),
        ("fails", "1 / 0", r"source 'fails' fails \(ZeroDivisionError: division by zero\)"),
        ("opens", "open('/no/such/file')", r"source 'opens' fails \(FileNotFoundError: .*/no/such/file"),
        ("nothing", "return None", r"source 'nothing' fails \(TypeError"),
    ],
)
def test_a_source_of_a_plug_in_is_held_to_its_word(tmp_path, monkeypatch, name, body, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"plugin_{name}.py").write_text(PLUGIN.format(name=name, body=body))
    content = {"plugins": [f"plugin_{name}"], "samples": {"mine": {"source": name, "observables": ["x", "y"]}}}
    try:
        with pytest.raises(HepgenError, match=message):
            produce(parse(content), "mine", 0, tmp_path / "out.h5")
        assert not (tmp_path / "out.h5").exists()
    finally:
        SOURCES.targets.pop(name)
