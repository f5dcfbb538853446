"""Exports are whole or absent, take no more memory than a batch does, and mistakes are one clear error."""

import json
import os
import subprocess
import sys
import tracemalloc

import awkward as ak
import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import uproot
from typer.testing import CliRunner

from hepgen.cli import app
from hepgen.errors import HepgenError
from hepgen.events import Events, write_events
from hepgen.export import WRITERS, export, products
from hepgen.storage import create_h5
from hepgen.table import Table, write_table

ENDINGS = list(WRITERS)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_command_writes_into_a_new_folder(store, tmp_path):
    paths = [str(path) for path in store("scores").paths]
    output = tmp_path / "new" / "folder" / "x.root"
    result = CliRunner().invoke(app, ["export", *paths, "--output", str(output), "--rntuple", "--tree", "scores"])
    assert (result.exit_code, result.stdout) == (0, f"{output}: 48 rows\n")
    assert files(output.parent) == ["x.root"]


def test_the_command_says_what_is_wrong(tmp_path):
    command = [sys.executable, "-m", "hepgen.cli", "export", tmp_path / "none.h5", "-o", tmp_path / "x.root"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, f"error: {tmp_path}/none.h5: no such file\n")


def test_files_are_joined_in_the_order_given(store, tmp_path):
    stored = store("scores")
    export(stored.paths[::-1], tmp_path / "x.npz")
    with np.load(tmp_path / "x.npz") as archive:
        assert archive["seed"].tolist() == [6] * 17 + [5] * 31
        np.testing.assert_array_equal(archive["score"], np.roll(stored.arrays["score"], 17))


@pytest.mark.parametrize(
    ("abouts", "expected"), [(['{"a":1}'] * 2, {"a": 1}), (['{"a":1}', '{"a":2}'], [{"a": 1}, {"a": 2}])]
)
def test_provenance_is_one_record_or_a_list_of_those_that_differ(tmp_path, write, abouts, expected):
    paths = [tmp_path / f"{seed}.h5" for seed in range(2)]
    for seed, (path, about) in enumerate(zip(paths, abouts, strict=True)):
        write["events"](path, 5, seed, about)
    export(paths, tmp_path / "x.parquet")
    metadata = pq.read_schema(tmp_path / "x.parquet").metadata
    assert json.loads(metadata[b"provenance"]) == expected


@pytest.mark.parametrize("ending", ENDINGS)
def test_memory_is_that_of_a_batch(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(products, "ROWS", 5000)
    monkeypatch.setattr(products, "PIECE", 5000)
    rng = np.random.default_rng(1)
    batch = Table({f"x{i}": rng.random(20_000, np.float32) for i in range(20)})
    peaks = []
    for number in (1, 1, 10):
        write_table(tmp_path / "table.h5", [batch] * number)
        tracemalloc.start()
        export([tmp_path / "table.h5"], tmp_path / f"x{ending}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The first export also imports; the rows of 200,000 take 16 MB, ten times those of 20,000.
    assert peaks[2] < peaks[1] + 1_000_000


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_fails_leaves_the_old_file(store, tmp_path, ending):
    stored, output = store("jets"), tmp_path / "out" / f"x{ending}"
    export(stored.paths, output)
    before = output.read_bytes()

    # Only the second file turns out to be damaged.
    with h5py.File(stored.paths[1], "r+") as file:
        dataset = file["columns/mass_j1"]
        offset = dataset.id.get_chunk_info(0).byte_offset
    content = bytearray(stored.paths[1].read_bytes())
    content[offset] ^= 0xFF
    stored.paths[1].write_bytes(content)
    with pytest.raises(HepgenError, match=f"{stored.paths[1].name}: (damaged|not a readable) HDF5 file"):
        export(stored.paths, output)
    assert output.read_bytes() == before
    assert files(output.parent) == [output.name]


FULL = """
import resource, signal
from hepgen.errors import HepgenError
from hepgen.events import Events, write_events
from hepgen.export import WRITERS, export
for ending in WRITERS:
    WRITERS.load(ending)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for ending in WRITERS:
    try:
        export(["scores.h5"], f"out/x{ending}")
    except HepgenError as error:
        print(error)
"""


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path, write):
    write["scores"](tmp_path / "scores.h5", 50_000, 1, "{}")
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-W", "error", "-c", FULL]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    for ending, line in zip(ENDINGS, result.stdout.splitlines(), strict=True):
        assert line.startswith(f"cannot write out/x{ending}: ")
    assert files(tmp_path / "out") == []


def ibu(path):
    with create_h5(path, "unfolded") as file:
        file["mass_j1/unfolded"] = np.ones((3, 22))
        file.attrs.update(method="bayes", seed=1, type="ibu")


def longer(path):
    with create_h5(path, "observables") as file:
        file["columns/a"], file["columns/b"] = np.ones(3), np.ones(4)
        file.create_group("truth")


def negative_count(path):
    with create_h5(path, "events") as file:
        file["particles/counts"], file["particles/fields/pt"] = np.array([3, -1]), np.ones(2)
        file.create_group("columns")


def short_reals(path):
    write_table(path, [Table({"mjj": np.ones(3, np.float16)})])


def clash(path):
    write_table(path, [Table({"truth_mjj": np.ones(3)}, {"mjj": np.ones(3)})])


def clash_of_seeds(path):
    with create_h5(path, "generated") as file:
        file["columns/seed"] = np.ones(3)
        file.attrs["generation"] = json.dumps({"model": "flow", "seed": 1})


def clash_of_counts(path):
    particles = ak.unflatten(ak.zip({"pt": np.ones(3)}), [3])
    write_events(path, [Events(particles, {"nparticles": np.ones(1)})])


def strings(path):
    with create_h5(path, "scores") as file:
        file["score/default"] = [b"a", b"b"]
        file.attrs.update(name="pca", seed=1)


def no_attributes(path):
    with create_h5(path, "scores") as file:
        file["score/default"] = np.ones(3)


def other_kind(path):
    with create_h5(path, "dalitz"):
        pass


def bad_json(path):
    with create_h5(path, "generated") as file:
        file["columns/mjj"] = np.ones(3)
        file.attrs["generation"] = "{"


def empty(path):
    with create_h5(path, "observables") as file:
        file.create_group("columns")
        file.create_group("truth")


def dataset_for_a_group(path):
    with create_h5(path, "events") as file:
        file["particles"] = file["columns"] = np.ones(3)


BAD = {
    "no such file": lambda path: None,
    "not a readable HDF5 file": lambda path: path.write_bytes(b"garbage"),
    "is an HDF5 file that hepgen did not write, not a product that can be exported; these are: events, observables": (
        lambda path: h5py.File(path, "w").close()
    ),
    "is dalitz, not a product": other_kind,
    "'bayes' unfolds spectra and gives no event a weight": ibu,
    "damaged: b does not hold a number for each row": longer,
    "damaged: particles_pt does not hold": negative_count,
    "mjj is of type float16; exported are bool, int8": short_reals,
    "truth_mjj would be the name of two columns": clash,
    "seed would be the name of two columns": clash_of_seeds,
    "nparticles would be the name of two columns": clash_of_counts,
    "score is of type object; exported are bool, int8": strings,
    "can't locate attribute: 'name'": no_attributes,
    "Expecting property name": bad_json,
    "holds no row to export": empty,
    "perhaps truncated or damaged": dataset_for_a_group,
}


@pytest.mark.parametrize("message", BAD)
def test_a_bad_file_is_one_clear_error(tmp_path, message):
    path = tmp_path / "bad.h5"
    BAD[message](path)
    with pytest.raises(HepgenError) as error:
        export([path], tmp_path / "out" / "x.npz")
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("settings", [{}, {"rntuple": True}], ids=["TTree", "RNTuple"])
def test_every_format_has_every_type_of_numbers(tmp_path, same_bits, settings):
    columns = {f"of_{dtype}": np.array([0, 1, 1, 0], dtype) for dtype in products.NUMBERS}
    write_table(tmp_path / "table.h5", [Table(columns)])
    for ending in ENDINGS:
        export([tmp_path / "table.h5"], tmp_path / f"x{ending}", **(settings if ending == ".root" else {}))
    frame, table = pd.read_hdf(tmp_path / "x.h5"), pq.read_table(tmp_path / "x.parquet")
    with np.load(tmp_path / "x.npz") as archive, uproot.open(tmp_path / "x.root") as file:
        tree = file["events"].arrays()
        for read in (
            lambda name: frame[name].to_numpy(),
            lambda name: table[name].to_numpy(),
            lambda name: archive[name],
            lambda name: ak.to_numpy(tree[name]),
        ):
            same_bits({name: read(name) for name in columns}, columns)


def test_what_cannot_be_joined_is_one_clear_error(store, tmp_path, write):
    scores, generated = store("scores").paths, store("generated").paths
    for other, message in {
        generated[0]: "generated_0.h5: holds generated, .*scores_0.h5 holds scores; export one kind at a time",
        scores[0]: "is named twice",
        tmp_path / "other.h5": "other.h5: is of 'dense', .*scores_0.h5 of 'pca'; export one model",
        tmp_path / "double.h5": r"double.h5: its columns differ from those of .*scores_0.h5 \(score, score_kl\)",
    }.items():
        write["scores"](tmp_path / "other.h5", 5, 1, "{}", name="dense")
        with create_h5(tmp_path / "double.h5", "scores") as file:
            file["score/default"] = np.ones(3)
            file.attrs.update(name="pca", seed=1)
        with pytest.raises(HepgenError, match=message):
            export([scores[0], other], tmp_path / "x.npz")
    assert not (tmp_path / "x.npz").exists()


def test_settings_are_checked(store, tmp_path):
    paths = store("scores").paths
    for name, settings, message in [
        ("x.csv", {}, "x.csv: '.csv'; known: .h5, .npz, .parquet, .root"),
        ("x", {}, "known: .h5, .npz, .parquet, .root"),
        ("x.hdf5", {}, "did you mean '.h5'?"),
        ("x.npz", {"rntuple": True}, "unknown setting of format '.npz' 'rntuple'; known: none"),
        ("x.h5", {"tree": "a"}, "unknown setting of format '.h5' 'tree'"),
        (paths[0].name, {}, "is one of the files that are read"),
    ]:
        before = files(tmp_path)
        with pytest.raises(HepgenError) as error:
            export(paths, tmp_path / name, **settings)
        assert message in str(error.value)
        assert files(tmp_path) == before
    with pytest.raises(HepgenError, match="no file to export was given"):
        export([], tmp_path / "x.npz")
