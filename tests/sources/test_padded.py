"""Padded arrays: every layout and set of fields gives the same particles, and bad ones a clear error."""

import awkward as ak
import h5py
import numpy as np
import pandas as pd
import pytest
import vector

from hepgen.errors import HepgenError
from hepgen.samples import PaddedSample
from hepgen.sources import padded

EVENTS, PARTICLES = 20, 6
POLAR = ["pt", "eta", "phi", "mass"]


@pytest.fixture(scope="module")
def truth():
    """Particles by all their numbers, shape (events, particles), and labels; padding is 0 throughout."""
    rng = np.random.default_rng(1)
    shape = (EVENTS, PARTICLES)
    polar = {
        "pt": rng.exponential(20, shape),
        "eta": rng.normal(0, 2, shape),
        "phi": rng.uniform(-3.1, 3.1, shape),
        "mass": rng.exponential(1, shape),
    }
    four = vector.array(polar)
    values = polar | {"px": four.px, "py": four.py, "pz": four.pz, "energy": four.E, "other": rng.random(shape)}
    absent = rng.random(shape) < 0.3
    return {name: np.where(absent, 0, array) for name, array in values.items()} | {"label": rng.integers(0, 2, EVENTS)}


def cube(truth, fields):
    return np.stack([truth[name] for name in fields], axis=-1)


def stream(path, fields, chunk=0, **settings):
    entry = PaddedSample(source="padded", path=str(path), fields=fields, jets="fat", **settings)
    return padded.stream(entry, chunk)


def read(path, fields, chunk=0, **settings):
    batches = list(stream(path, fields, chunk, **settings))
    columns = {name: np.concatenate([batch.columns[name] for batch in batches]) for name in batches[0].columns}
    return ak.concatenate([batch.particles for batch in batches]), columns


def check(particles, truth, names=POLAR, atol=1e-5):
    """float32 holds 7 digits; a mass from an energy of about 100 GeV loses most of the 16 of float64, not all."""
    present = truth["pt"] > 0
    assert ak.num(particles).tolist() == present.sum(1).tolist()
    assert ak.fields(particles) == names
    for name in names:
        np.testing.assert_allclose(ak.flatten(particles[name]), truth[name][present], rtol=1e-5, atol=atol)


@pytest.mark.parametrize(
    "fields",
    [
        ["pt", "eta", "phi", "mass"],
        ["eta", "phi", "pt", "other"],
        ["other", "energy", "px", "py", "pz"],
        ["px", "py", "pz", "mass"],
        ["px", "py", "pz"],
        ["pt", "eta", "phi", "energy"],
    ],
)
def test_every_order_of_fields(tmp_path, truth, fields):
    np.save(tmp_path / "x.npy", cube(truth, fields))
    massive = {"mass", "energy"} & set(fields)
    check(read(tmp_path / "x.npy", fields)[0], truth, POLAR if massive else POLAR[:3])


def test_scale_is_of_momenta_and_masses(tmp_path, truth):
    np.save(tmp_path / "x.npy", cube(truth, POLAR) * [1000, 1, 1, 1000])
    check(read(tmp_path / "x.npy", POLAR, scale=0.001)[0], truth)


def npz(path, truth):
    np.savez_compressed(path, particles=cube(truth, POLAR), labels=truth["label"])
    return {"label": "labels"}


def hdf5(path, truth):
    """The layout of JetNet: arrays side by side, of which `array` says which."""
    with h5py.File(path, "w") as file:
        file["jets/particle_features"] = cube(truth, POLAR)
        file["jets/jet_features"] = np.column_stack([np.zeros(EVENTS), truth["label"]])
    return {"array": "jets/particle_features", "label": "jets/jet_features:1"}


def flat(path, truth):
    """A flat table with a number before the particles and the label after them."""
    rows = np.column_stack([np.full(EVENTS, -9.0), cube(truth, POLAR).reshape(EVENTS, -1), truth["label"]])
    np.save(path, rows)
    return {"first": 1, "particles": PARTICLES, "label": 1 + 4 * PARTICLES}


def flat_from_the_end(path, truth):
    return flat(path, truth) | {"label": -1}


def column_of_labels(path, truth):
    np.savez(path, particles=cube(truth, POLAR), labels=truth["label"][:, None])
    return {"label": "labels", "array": "particles"}


def pandas_table(path, truth):
    """The layout of the top tagging reference: a pandas "table" store, numbers of each type in a block of their own."""
    numbers = cube(truth, POLAR).reshape(EVENTS, -1).astype(np.float32)
    frame = pd.DataFrame(numbers, columns=[f"x{index}" for index in range(numbers.shape[1])])
    frame["ttv"], frame["is_signal_new"] = 7, truth["label"]
    frame.to_hdf(path, key="table", format="table", complib="blosc", complevel=5)
    return {"array": "table/table:values_block_0", "particles": PARTICLES, "label": "table/table:values_block_1:1"}


LAYOUTS = [
    ("x.npz", npz),
    ("x.npz", column_of_labels),
    ("x.h5", hdf5),
    ("x.npy", flat),
    ("x.npy", flat_from_the_end),
    ("x.h5", pandas_table),
]


@pytest.mark.parametrize(("name", "write"), LAYOUTS)
def test_every_layout_in_chunks_of_the_first_events(tmp_path, monkeypatch, truth, name, write):
    settings = write(tmp_path / name, truth)
    particles, columns = read(tmp_path / name, POLAR, **settings)
    check(particles, truth)
    assert columns["label"].tolist() == truth["label"].tolist()
    assert columns["label"].dtype == np.int8
    monkeypatch.setattr(padded, "STEP", 4)
    parts = [read(tmp_path / name, POLAR, chunk, chunks=3, events=17, **settings) for chunk in range(3)]
    assert ak.array_equal(ak.concatenate([part for part, _ in parts]), particles[:17])
    np.testing.assert_array_equal(np.concatenate([extra["label"] for _, extra in parts]), columns["label"][:17])
    assert max(len(batch) for batch in stream(tmp_path / name, POLAR, **settings)) == 4


def test_label_of_all_events_or_none(tmp_path, truth):
    np.save(tmp_path / "x.npy", cube(truth, POLAR))
    assert read(tmp_path / "x.npy", POLAR, label=1)[1]["label"].tolist() == [1] * EVENTS
    assert read(tmp_path / "x.npy", POLAR)[1] == {}


def change(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def store(path, array):
    np.save(path, array)


def several(path, array):
    np.savez(path, a=array, b=array)


def hdf5_text(path, array):
    with h5py.File(path, "w") as file:
        file["a"] = np.full((3, 4, 4), b"x")


def outside(path, array):
    with h5py.File(path, "w") as file:
        file["a"] = h5py.ExternalLink("other.h5", "a")


FLAT = {"particles": PARTICLES}
BAD = [
    (lambda path, a: None, "x.npy", {}, "no such file"),
    (lambda path, a: path.write_bytes(b"x"), "x.root", {}, "cannot read arrays from .root; known: .npy, .npz, .h5"),
    (lambda path, a: path.write_bytes(b"garbage"), "x.npy", {}, "not a readable .npy file"),
    (lambda path, a: path.write_bytes(b"garbage"), "x.npz", {}, "not a readable .npz file"),
    (lambda path, a: path.write_bytes(b"garbage"), "x.h5", {}, "not a readable HDF5 file"),
    (outside, "x.h5", {}, "'a' leads to another file, which is never followed"),
    (hdf5_text, "x.h5", {}, "array 'a' holds |S1, not numbers"),
    (several, "x.npz", {}, "name the array of particles with `array`; it has a, b"),
    (several, "x.npz", {"array": "aa"}, "'aa' (did you mean 'a'?); known: a, b"),
    (lambda path, a: np.savez(path, a=a[:, 0, 0]), "x.npz", {}, "it has none of more than one dimension"),
    (lambda path, a: np.save(path, np.array([[print]])), "x.npy", {}, "pickled objects, which are never read"),
    (lambda path, a: store(path, a[..., :3]), "x.npy", {}, "has shape (20, 6, 3); expected (events, particles, 4)"),
    (store, "x.npy", {"first": 1}, "`first` and `particles` are for flat tables"),
    (lambda path, a: store(path, a.reshape(20, -1)), "x.npy", {}, "for each of the `particles`, which a flat table"),
    (lambda path, a: store(path, a.reshape(20, -1)[:, 1:]), "x.npy", FLAT, "has shape (20, 23); expected 24 columns"),
    (lambda path, a: store(path, a.reshape(20, -1)), "x.npy", {**FLAT, "label": 24}, "label 24 is no column"),
    (store, "x.npy", {"label": 5}, "label 5 is no column"),
    (lambda path, a: np.savez(path, a=a, y=a[:-1, 0, 0]), "x.npz", {"label": "y"}, "no number for each of 20 events"),
    (lambda path, a: np.savez(path, a=a, y=a[:, 0, :2]), "x.npz", {"array": "a", "label": "y"}, "its array is (20, 2)"),
    (lambda path, a: np.savez(path, a=a, y=a[:, 0, 0]), "x.npz", {"label": "y"}, "a label other than 0 and 1"),
    (lambda path, a: np.savez(path, a=a, y=a[:, 0, 0]), "x.npz", {"label": "z"}, "unknown array"),
    (lambda path, a: store(path, change(a, (3, 5, 1), np.nan)), "x.npy", {}, "event 3 (counted from 0) has a number"),
    (lambda path, a: store(path, change(a, (4, 0, 0), -1)), "x.npy", {}, "event 4 (counted from 0) has a negative pT"),
    (lambda path, a: store(path, change(a, (5, 0, 0), 1e99)), "x.npy", {}, "event 5 (counted from 0) has too large"),
]


@pytest.mark.parametrize(("write", "name", "settings", "message"), BAD)
def test_bad_file_is_one_clear_error(tmp_path, truth, write, name, settings, message):
    path = tmp_path / name
    write(path, cube(truth, POLAR))
    with pytest.raises(HepgenError) as error:
        read(path, POLAR, **settings)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_an_event_larger_than_any(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (2, 10**12, 4), "f4", chunks=(1, 10, 4))
    with pytest.raises(HepgenError, match="takes 16000000000000 bytes an event, more than any event should"):
        read(tmp_path / "x.h5", POLAR)


def test_empty_files_among_others(tmp_path, truth, capsys):
    whole = cube(truth, POLAR)
    full, empty = tmp_path / "x.npy", tmp_path / "y.npy"
    np.save(full, whole)
    np.save(empty, whole[:0])
    entry = PaddedSample(source="padded", path=[str(empty), str(full)], fields=POLAR, jets="fat")
    assert sum(map(len, padded.stream(entry))) == EVENTS
    assert capsys.readouterr().err == f"warning: {empty} holds no event\n"
