"""Streaming: any number of events, the same after a kill, of one model, seed and condition only."""

import json
import os
import shutil
import subprocess
import sys
import time

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import uproot
from typer.testing import CliRunner

from hepgen.cli import app
from hepgen.config import Generation, Generator
from hepgen.errors import HepgenError
from hepgen.export import stream as module
from hepgen.export.stream import stream
from hepgen.generation import generators
from hepgen.generation.generators import Pool, Trained, build, load_generator, save
from hepgen.generation.sample import tabulate
from hepgen.generation.scaling import make_scaler
from hepgen.preprocessing import Standard
from hepgen.storage import checksum

COLUMNS = ["condition_mjj", "mass_j1", "pt_j1", "seed"]
# What a process of its own runs with small parts: as the command, but for their size.
SCRIPT = """
import sys
from pathlib import Path
from hepgen.export import stream
from hepgen.generation import generators
generators.BLOCK, stream.PART = 100, 200
stream.stream(Path(sys.argv[1]), "1M", Path(sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(generators, "BLOCK", 100)
    monkeypatch.setattr(module, "PART", 200)


@pytest.fixture
def model(tmp_path):
    """A generator's file: untrained, told mjj between 1000 and 5000."""
    x = torch.from_numpy(np.random.default_rng(1).uniform(1000, 5000, (300, 3)))
    entry = Generator(type="dijet_gan", conditions=["mjj"])
    block = Generation(samples=["qcd"], features=["pt_j1", "mass_j1"], models={"m": entry})
    torch.manual_seed(1)
    network = build("m", entry, block).eval()
    scaler, told = make_scaler(network, entry, block).fit(x[:, :2]), Standard(1).fit(x[:, 2:])
    card = {"name": "m", "seed": 7, "history": {"train": [1.0], "validation": []}}
    pool = Pool(x[:, 2:], torch.stack(x[:, 2:].aminmax(dim=0)))
    save(tmp_path / "m.safetensors", Trained(entry, block, network, scaler, told, pool, None, card), "{}")
    return tmp_path / "m.safetensors"


def read(path):
    frame = pd.read_hdf(path)
    return {name: frame[name].to_numpy() for name in frame}


def expected(model, events, **options):
    trained = load_generator(model, torch.device("cpu"))
    tables = [tabulate(model, trained, drawn).columns for drawn in trained.blocks(events, **options)]
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def assert_equal(found, wanted):
    assert sorted(found) == COLUMNS
    assert (found.pop("seed") == 7).all()
    for name, values in found.items():
        np.testing.assert_array_equal(values, wanted[name])


def test_events_of_all_parts_in_order_with_their_provenance(model, tmp_path):
    assert stream(model, "0.55k", tmp_path / "x.h5", seed=3) == 550
    assert_equal(read(tmp_path / "x.h5"), expected(model, 550, seed=3))
    with h5py.File(tmp_path / "x.h5") as file:
        card = json.loads(file.attrs["provenance"])["card"]
    found = tuple(card[name] for name in ("stage", "name", "seed", "conditions", "device", "model"))
    assert found == ("generation_sample", "m", 3, [], "cpu", checksum([model]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.safetensors", "x.h5"]


@pytest.mark.parametrize("suffix", [".h5", ".parquet", ".npz"])
def test_a_run_taken_up_gives_the_same_bytes(model, tmp_path, monkeypatch, suffix):
    """Stopped in its third part, with a second one damaged and the rubbish of a kill beside them."""
    stream(model, "1k", tmp_path / f"whole{suffix}")
    write, written = module.write_generated, []

    def stop(output, *arguments):
        written.append(output.name)
        if len(written) == 3:
            raise KeyboardInterrupt
        return write(output, *arguments)

    monkeypatch.setattr(module, "write_generated", stop)
    output = tmp_path / f"cut{suffix}"
    with pytest.raises(KeyboardInterrupt):
        stream(model, "1k", output)
    folder = tmp_path / f"cut{suffix}.parts"
    assert sorted(path.name for path in folder.iterdir()) == ["000000.h5", "000001.h5"]
    assert not output.exists()
    (folder / "000001.h5").write_bytes((folder / "000001.h5").read_bytes()[:3000])
    (folder / ".000002.h5.host-1.partial").touch()
    shutil.copy(folder / "000000.h5", folder / "000009.h5")
    written += ["not", "again"]
    stream(model, "1k", output)
    assert written[5:] == [f"00000{number}.h5" for number in (1, 2, 3, 4)]
    assert output.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert not folder.exists()


def test_parts_of_another_run_are_replaced(model, tmp_path, monkeypatch):
    with monkeypatch.context() as context:
        context.setattr(module, "export", lambda *_: sys.exit(1))
        for options in ({"seed": 1}, {"fixed": ["mjj=2000"]}):
            with pytest.raises(SystemExit):
                stream(model, "400", tmp_path / "x.h5", **options)
    own = tmp_path / "x.h5.parts" / "2024.h5"
    own.touch()
    stream(model, "350", tmp_path / "x.h5")
    assert_equal(read(tmp_path / "x.h5"), expected(model, 350))
    assert [*own.parent.iterdir()] == [own]


def test_a_killed_process_leaves_whole_parts_only(model, tmp_path):
    output = tmp_path / "x.h5"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(model), str(output)], env=os.environ, stderr=subprocess.DEVNULL
    )
    folder = tmp_path / "x.h5.parts"
    deadline = time.monotonic() + 120
    while not (folder / "000003.h5").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    kept = sum(module._is_there(folder / f"00000{part}.h5", _about(folder), 200) for part in range(4))
    assert kept == 4
    assert not output.exists()
    stream(model, "1k", output)
    assert_equal(read(output), expected(model, 1000))


def _about(folder):
    with h5py.File(folder / "000000.h5") as file:
        return file.attrs["provenance"]


def test_conditions_are_given_for_all_events_and_named_when_unknown(model, tmp_path, capsys):
    stream(model, "250", tmp_path / "x.h5", fixed=["mjj=3500"])
    assert_equal(read(tmp_path / "x.h5"), expected(model, 250, conditions=np.full((250, 1), 3500.0)))
    assert "warning" not in capsys.readouterr().err
    stream(model, "250", tmp_path / "x.h5", fixed=["mjj=9000"])
    assert "250 of 250 events have conditions that m was not trained with (mjj 10" in capsys.readouterr().err
    assert (read(tmp_path / "x.h5")["condition_mjj"] == 9000).all()


@pytest.mark.parametrize(
    ("number", "name", "fixed", "message"),
    [
        ("10Q", "x.root", [], "'10Q' is no number of events; give one like 1000, 50k or 10M"),
        ("0", "x.root", [], "'0' is no number"),
        ("1.5", "x.root", [], "'1.5' is no number"),
        ("10", "x.csv", [], "unknown ending of .*x.csv: '.csv'; known: .h5, .npz, .parquet, .root"),
        ("10", "x.root", ["mj=1"], "unknown condition of 'm' 'mj' .did you mean 'mjj'..; known: mjj"),
        ("10", "x.root", ["mjj=high"], "condition 'mjj=high': 'high' is not a finite number"),
        ("10", "m.safetensors", [], "unknown ending"),
    ],
)
def test_what_cannot_be_drawn_is_an_error(model, tmp_path, number, name, fixed, message):
    with pytest.raises(HepgenError, match=message):
        stream(model, number, tmp_path / name, fixed=fixed)
    assert list(tmp_path.iterdir()) == [model]


def test_a_part_of_the_conditions_is_an_error(model):
    trained = load_generator(model, torch.device("cpu"))
    trained.entry.conditions.append("label")
    with pytest.raises(HepgenError, match="conditions label are not given; give all of mjj, label, or none"):
        module._conditions(trained, ["mjj=1"])


def test_numbers_of_events_are_exact():
    assert module._count("1.001k") == 1001


def test_the_command(model, tmp_path):
    output = tmp_path / "x.root"
    arguments = ["sample", str(model), "-n", "300", "-o", str(output), "--condition", "mjj=2000", "--seed", "2"]
    result = CliRunner().invoke(app, arguments)
    assert result.stdout == f"{output}: 300 events\n"
    found = uproot.open(output)["events"].arrays(library="np")
    assert_equal(dict(found), expected(model, 300, conditions=np.full((300, 1), 2000.0), seed=2))
    result = CliRunner().invoke(app, ["sample", str(tmp_path / "none.safetensors"), "-n", "1", "-o", str(output)])
    assert "was the model trained?" in str(result.exception)
