import json

import h5py
import numpy as np
import pytest

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.events import read_events
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
