"""Raw LHC Olympics files: the official layout in all its variants, and every way of not being one."""

import pickle

import awkward as ak
import h5py
import hdf5plugin
import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.samples import LhcoSample
from hepgen.sources import lhco

EVENTS = 50


def sample(path, **settings):
    return LhcoSample(source="lhco", path=str(path), jets="fat", **settings)


def read(path, chunk=0, **settings):
    batches = list(lhco.stream(sample(path, **settings), chunk, seed=1))
    particles = ak.concatenate([batch.particles for batch in batches])
    names = batches[0].columns
    return particles, {name: np.concatenate([batch.columns[name] for batch in batches]) for name in names}


def table(columns=2101):
    """Rows with 0 to 20 particles, padding in between, φ beyond ±π in places, and the label."""
    rng = np.random.default_rng(1)
    rows = np.zeros((EVENTS, 700, 3))
    rows[:, :20] = rng.normal(size=(EVENTS, 20, 3)) * [1, 2, 3]
    rows[:, :20, 0] = np.where(rng.random((EVENTS, 20)) < 0.3, 0, np.exp(rows[:, :20, 0]))
    flat = np.concatenate([rows.reshape(EVENTS, 2100), rng.integers(0, 2, (EVENTS, 1))], axis=1)
    return flat[:, :columns]


def store(path, rows, **options):
    with h5py.File(path, "w") as file:
        file.create_dataset("df/block0_values", data=rows, **options)
    return path


@pytest.mark.parametrize("columns", [2100, 2101])
@pytest.mark.parametrize("options", [{}, {"chunks": (7, 100), **hdf5plugin.Blosc()}, {"compression": "gzip"}])
def test_reads_every_variant_of_the_layout(tmp_path, columns, options):
    rows = table(columns)
    particles, extra = read(store(tmp_path / "raw.h5", rows, **options))
    assert len(particles) == EVENTS
    for event, row in zip(particles, rows, strict=True):
        expected = row[:2100].reshape(700, 3)
        expected = expected[expected[:, 0] > 0]
        np.testing.assert_allclose(event.pt, expected[:, 0], rtol=1e-6)
        np.testing.assert_allclose(event.eta, expected[:, 1], rtol=1e-6)
        np.testing.assert_allclose(np.exp(1j * event.phi), np.exp(1j * expected[:, 2]), atol=1e-6)
    # float32 has no number between its own π and the real one
    assert np.abs(ak.flatten(particles.phi)).to_numpy().max() <= np.float32(np.pi)
    if columns == 2101:
        np.testing.assert_array_equal(extra["label"], rows[:, 2100])
        assert extra["label"].dtype == np.int8
    else:
        assert extra == {}


def test_label_of_a_file_without_one(tmp_path):
    path = store(tmp_path / "raw.h5", table(2100))
    assert read(path, label=1)[1]["label"].tolist() == [1] * EVENTS


def test_chunks_are_contiguous_blocks_of_the_first_events(tmp_path, monkeypatch):
    monkeypatch.setattr(lhco, "STEP", 4)
    path = store(tmp_path / "raw.h5", table())
    whole, columns = read(path)
    parts = [read(path, chunk, events=31, chunks=3) for chunk in range(3)]
    assert ak.array_equal(ak.concatenate([particles for particles, _ in parts]), whole[:31])
    np.testing.assert_array_equal(np.concatenate([extra["label"] for _, extra in parts]), columns["label"][:31])


def test_batches_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(lhco, "STEP", 4)
    path = store(tmp_path / "raw.h5", table())
    assert max(len(batch) for batch in lhco.stream(sample(path), 0, 1)) == 4


def test_reads_the_official_file(reference):
    particles, columns = read(reference / "lhco" / "events_anomalydetection_tiny.h5")
    assert len(particles) == 1000
    assert columns["label"].sum() == 93
    counts = ak.num(particles)
    assert (ak.min(counts), ak.max(counts)) == (47, 482)


def broken(rows, row, column, value):
    rows = rows.copy()
    rows[row, column] = value
    return rows


BAD = {
    "no such file": lambda path: None,
    "2100 columns": lambda path: store(path, table()[:, :30]),
    "has shape (2101,)": lambda path: store(path, table()[0]),
    "type int64": lambda path: store(path, table().astype(np.int64)),
    "type |S3": lambda path: store(path, np.full((3, 2101), b"abc")),
    "event 7 (counted from 0) has a number that is not finite": lambda path: store(path, broken(table(), 7, 5, np.nan)),
    "event 8 (counted from 0) has a number": lambda path: store(path, broken(table(), 8, 2099, np.inf)),
    "event 9 (counted from 0) has a negative pT": lambda path: store(path, broken(table(), 9, 3, -1.0)),
    "a label other than 0 and 1": lambda path: store(path, broken(table(), 9, 2100, 3.0)),
    "it has no dataset df/block0_values": lambda path: (
        h5py.File(path, "w").create_dataset("x", data=[1.0]).file.close()
    ),
    "not a readable HDF5 file": lambda path: path.write_bytes(pickle.dumps({"df": 1})),
    "perhaps truncated": lambda path: truncate(store(path, table(), **hdf5plugin.Blosc())),
}


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5000])


@pytest.mark.parametrize("message", BAD)
def test_bad_file_is_one_clear_error(tmp_path, message):
    path = tmp_path / "raw.h5"
    BAD[message](path)
    with pytest.raises(HepgenError) as error:
        read(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_pickled_object_in_the_store_is_not_opened(tmp_path):
    path = tmp_path / "raw.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("df/block0_values", (1,), h5py.vlen_dtype(np.uint8))
        data[0] = np.frombuffer(pickle.dumps(print), np.uint8)
    with pytest.raises(HepgenError, match="has shape"):
        read(path)


def test_two_labels_contradict(tmp_path):
    path = store(tmp_path / "raw.h5", table())
    with pytest.raises(HepgenError, match="remove `label: 1`"):
        read(path, label=1)


def test_damaged_block_is_one_clear_error(tmp_path):
    path = store(tmp_path / "raw.h5", table(), chunks=(7, 2101), **hdf5plugin.Blosc())
    with h5py.File(path) as file:
        offset = file["df/block0_values"].id.get_chunk_info(2).byte_offset
    content = bytearray(path.read_bytes())
    content[offset : offset + 16] = bytes(range(200, 216))
    path.write_bytes(content)
    with pytest.raises(HepgenError, match="damaged HDF5 file"):
        read(path)


def test_empty_files_among_others(tmp_path, capsys):
    full, empty = store(tmp_path / "x.h5", table()), store(tmp_path / "y.h5", table()[:0])
    entry = LhcoSample(source="lhco", path=[str(empty), str(full)], jets="fat")
    assert sum(map(len, lhco.stream(entry))) == len(table())
    assert capsys.readouterr().err == f"warning: {empty}: df/block0_values holds no event\n"
