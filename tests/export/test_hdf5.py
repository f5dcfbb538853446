"""HDF5 files are read by pandas and by hepgen's own sources with every bit of the product, or are refused."""

import awkward as ak
import h5py
import numpy as np
import pandas as pd
import pytest

from hepgen.errors import HepgenError
from hepgen.events import Events, write_events
from hepgen.export import export
from hepgen.samples import ArraysSample, LhcoSample, PaddedSample
from hepgen.sources import arrays, lhco, padded

FIELDS = ["pt", "eta", "phi"]
TABLES = ["observables", "jets", "generated", "scores", "unfolded"]


def is_flat(name):
    return not name.startswith("constituents")


@pytest.mark.parametrize("kind", TABLES)
def test_tables_come_back_by_pandas(store, tmp_path, same_bits, kind):
    stored = store(kind)
    assert export(stored.paths, tmp_path / "x.h5") == 48
    frame = pd.read_hdf(tmp_path / "x.h5")
    columns = {name: values for name, values in stored.arrays.items() if is_flat(name)}
    assert list(frame.columns) == list(columns)
    assert frame.index.tolist() == list(range(48))
    same_bits({name: frame[name].to_numpy() for name in columns}, columns)
    pd.testing.assert_frame_equal(pd.read_hdf(tmp_path / "x.h5", "df", start=5, stop=20), frame[5:20])


def test_pandas_writes_the_same_layout(store, tmp_path):
    export(store("observables").paths, tmp_path / "x.h5")
    pd.read_hdf(tmp_path / "x.h5").to_hdf(tmp_path / "pandas.h5", key="df")
    with h5py.File(tmp_path / "x.h5") as ours, h5py.File(tmp_path / "pandas.h5") as theirs:
        assert ours["df"].keys() == theirs["df"].keys()
        blocks = {}
        for file in (ours, theirs):
            for index in range(file["df"].attrs["nblocks"]):
                names, values = (file[f"df/block{index}_{part}"] for part in ("items", "values"))
                for name, column in zip(names[:], values[:].T, strict=True):
                    blocks.setdefault(name, []).append((values.id.get_type(), column.tobytes()))
        assert all(first == second for first, second in blocks.values())


def test_constituents_follow_beside_the_frame(store, tmp_path, same_bits):
    stored = store("jets")
    export(stored.paths, tmp_path / "x.h5")
    with h5py.File(tmp_path / "x.h5") as file:
        assert set(file) == {"df", "constituents_j1", "constituents_j2"}
        found = {f"{list_}_{name}": file[list_][name][:] for list_ in set(file) - {"df"} for name in file[list_]}
        assert file.attrs["provenance"] == stored.provenance
    same_bits(found, {name: values for name, values in stored.arrays.items() if not is_flat(name)})


@pytest.mark.parametrize("kind", TABLES)
def test_tables_are_a_sample_again(store, tmp_path, kind):
    stored = store(kind)
    export(stored.paths, tmp_path / "x.h5")
    # Without a particle level, whose observables are NaN where an event has no jets there.
    columns = {name: name for name in stored.arrays if is_flat(name) and not name.startswith(("truth", "pass"))}
    entry = ArraysSample(source="arrays", path=str(tmp_path / "x.h5"), columns=columns)
    tables = list(arrays.stream(entry, 0, 1))
    for name in columns:
        found = np.concatenate([table.columns[name] for table in tables])
        np.testing.assert_array_equal(found, stored.arrays[name].astype(found.dtype))


def check_particles(batches, expected):
    joined = ak.concatenate([batch.particles for batch in batches])
    assert ak.num(joined).tolist() == expected["particles_counts"].tolist()
    for name in FIELDS:
        np.testing.assert_array_equal(ak.to_numpy(ak.flatten(joined[name])), expected[f"particles_{name}"])
    np.testing.assert_array_equal(np.concatenate([batch.columns["label"] for batch in batches]), expected["label"])


def test_events_come_back_in_the_layout_of_the_olympics(store, tmp_path):
    stored = store("events")
    export(stored.paths, tmp_path / "x.h5")
    entry = LhcoSample(source="lhco", path=str(tmp_path / "x.h5"), jets="fat")
    check_particles(list(lhco.stream(entry, 0, 1)), stored.arrays)
    entry = PaddedSample(
        source="padded",
        path=str(tmp_path / "x.h5"),
        array="df/block0_values",
        fields=FIELDS,
        particles=700,
        label=2100,
        jets="fat",
    )
    check_particles(list(padded.stream(entry, 0, 1)), stored.arrays)


def test_events_come_back_by_pandas(store, tmp_path):
    stored = store("events")
    export(stored.paths, tmp_path / "x.h5")
    frame = pd.read_hdf(tmp_path / "x.h5")
    assert frame.shape == (48, 2101)
    assert set(frame.dtypes) == {np.dtype(np.float64)}
    assert frame.columns.tolist() == list(range(2101))
    np.testing.assert_array_equal(frame[2100], stored.arrays["label"])
    padded = frame.to_numpy()[:, :2100].reshape(48, 700, 3)
    present = padded[..., 0] > 0
    assert present.sum(1).tolist() == stored.arrays["particles_counts"].tolist()
    assert not padded[~present].any()
    for index, name in enumerate(FIELDS):
        np.testing.assert_array_equal(padded[present][:, index], stored.arrays[f"particles_{name}"])


def test_the_official_events_come_back_whole(reference, tmp_path):
    official = reference / "lhco" / "events_anomalydetection_tiny.h5"
    first = LhcoSample(source="lhco", path=str(official), jets="fat", events=200)
    write_events(tmp_path / "events.h5", lhco.stream(first, 0, 1))
    export([tmp_path / "events.h5"], tmp_path / "x.h5")
    with h5py.File(official) as ours, h5py.File(tmp_path / "x.h5") as again:
        expected, found = (file["df/block0_values"][:200] for file in (ours, again))
    # What hepgen reads is float32, with φ below π rather than up to it.
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    assert (found == expected.astype(np.float32)).mean() > 0.9999


def events(counts, mass=None, **columns):
    flat = {name: np.ones(sum(counts), np.float32) for name in FIELDS}
    if mass is not None:
        flat["mass"] = np.full(sum(counts), mass, np.float32)
    return Events(ak.unflatten(ak.zip(flat), counts), columns)


def test_events_without_a_label_and_with_masses_of_zero(tmp_path):
    write_events(tmp_path / "events.h5", [events([2, 700, 0], mass=0)])
    export([tmp_path / "events.h5"], tmp_path / "x.h5")
    assert pd.read_hdf(tmp_path / "x.h5").shape == (3, 2100)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (events([1, 701, 800, 0]), "more than 700 particles in 2 of 4 events (up to 800)"),
        (events([3, 2], mass=0.14), "the masses of 5 particles"),
        (events([3, 2], weight=np.ones(2)), "no place for weight;"),
        (Events(events([1]).particles, {}, events([2]).particles), "the particle level"),
    ],
)
def test_what_the_layout_of_the_olympics_cannot_hold_is_an_error(tmp_path, content, message):
    write_events(tmp_path / "events.h5", [content])
    with pytest.raises(HepgenError) as error:
        export([tmp_path / "events.h5"], tmp_path / "new" / "x.h5")
    assert message in str(error.value)
    assert str(tmp_path / "events.h5") in str(error.value)
    assert "export to .root, .parquet or .npz" in str(error.value)
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [(("pt", "eta"), "its particles have eta, pt, not pt, eta, phi"), ((*FIELDS, "charge"), "charge of the particles")],
)
def test_particles_of_other_fields_are_an_error(tmp_path, fields, message):
    particles = ak.unflatten(ak.zip(dict.fromkeys(fields, np.ones(3, np.float32))), [1, 2])
    write_events(tmp_path / "events.h5", [Events(particles)])
    with pytest.raises(HepgenError, match=message):
        export([tmp_path / "events.h5"], tmp_path / "x.h5")
