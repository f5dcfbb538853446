import json

import h5py
import numpy as np
import pytest

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.events import read_events
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
