"""The event store: what is written is read, in any slices, and unphysical input is refused."""

import awkward as ak
import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.events import (
    Events,
    check_particles,
    count_events,
    iterate_events,
    mass_of,
    polar,
    read_events,
    wrap_phi,
    write_events,
)


def particles(n, seed=1, **extra):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 6, n)
    total = counts.sum()
    columns = {"pt": rng.random(total) + 1, "eta": rng.normal(size=total), "phi": rng.uniform(-3, 3, total)}
    columns = {name: values.astype(np.float32) for name, values in (columns | extra).items()}
    return ak.unflatten(ak.zip(columns), counts)


def events(n=20):
    columns = {"label": (np.arange(n) % 2).astype(np.int8), "weight": np.linspace(0, 1, n)}
    return Events(particles(n), columns, particles(n, seed=2))


def same(first, second):
    assert ak.array_equal(first.particles, second.particles)
    assert (first.truth is None) == (second.truth is None)
    assert first.truth is None or ak.array_equal(first.truth, second.truth)
    assert first.columns.keys() == second.columns.keys()
    for name, values in first.columns.items():
        np.testing.assert_array_equal(values, second.columns[name])
        assert values.dtype == second.columns[name].dtype
    return True


@pytest.mark.parametrize("parts", [[slice(None)], [slice(0, 7), slice(7, 7), slice(7, 20)]])
def test_round_trip(tmp_path, parts):
    path, content = tmp_path / "events.h5", events()
    assert write_events(path, (content[part] for part in parts)) == count_events(path) == 20
    assert same(read_events(path), content)
    assert same(read_events(path, 3, 9), content[3:9])
    batches = list(iterate_events(path, 6))
    assert [len(batch) for batch in batches] == [6, 6, 6, 2]
    assert same(batches[3], content[18:])


def test_events_without_truth_or_columns(tmp_path):
    write_events(tmp_path / "events.h5", [Events(particles(5))])
    assert same(read_events(tmp_path / "events.h5"), Events(particles(5)))


def test_selections():
    content = events()
    mask = content.columns["label"] == 1
    assert same(content[mask], content[np.flatnonzero(mask)])
    assert len(content[mask]) == 10


@pytest.mark.parametrize("batches", [[], [Events(particles(0))]])
def test_no_event_is_an_error_and_leaves_no_file(tmp_path, batches):
    with pytest.raises(HepgenError, match="no event was left to write"):
        write_events(tmp_path / "events.h5", batches)
    assert not list(tmp_path.iterdir())


def with_value(name, value):
    content = particles(10)
    values = ak.to_numpy(ak.flatten(content[name])).copy()
    values[3] = value
    return ak.with_field(content, ak.unflatten(values, ak.num(content)), name)


@pytest.mark.parametrize(
    ("name", "value"),
    [("pt", 0), ("pt", -1), ("pt", np.nan), ("pt", np.inf), ("eta", np.nan), ("eta", 200), ("phi", -np.inf)],
)
def test_unphysical_particles_are_refused(tmp_path, name, value):
    bad = with_value(name, value)
    with pytest.raises(HepgenError, match=f"values of {name} are unphysical"):
        check_particles(bad, "here")
    with pytest.raises(HepgenError, match="truth: 1 of"):
        write_events(tmp_path / "events.h5", [Events(particles(10), truth=bad)])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (Events(particles(10), {"weight": np.full(10, np.nan)}), "or one not finite"),
        (Events(particles(10), {"weight": np.ones(9)}), "9 numbers for 10 events"),
        (Events(particles(10), truth=particles(9)), "truth has 9 events, not 10"),
    ],
)
def test_inconsistent_batches_are_refused(tmp_path, batch, message):
    with pytest.raises(HepgenError, match=message):
        write_events(tmp_path / "events.h5", [batch])


def test_columns_must_not_change_between_batches(tmp_path):
    with pytest.raises(HepgenError, match="expected equally long columns label, weight"):
        write_events(tmp_path / "events.h5", [events(), Events(particles(3), {"label": np.zeros(3)}, particles(3))])


def test_wrap_phi():
    phi = np.array([0.0, 3.0, -3.0, 4.0, -4.0, 9.5, np.pi, -np.pi, 100.0])
    wrapped = wrap_phi(phi)
    np.testing.assert_allclose(np.exp(1j * wrapped), np.exp(1j * phi), atol=1e-13)
    assert ((wrapped >= -np.pi) & (wrapped < np.pi)).all()
    np.testing.assert_array_equal(wrapped[:3], phi[:3])


def test_polar():
    pt, eta, phi = polar(*np.array([[3.0, 4.0, 5.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).T)
    np.testing.assert_allclose(pt, [5, 1, 0])
    np.testing.assert_allclose(eta, [np.arcsinh(1), 0, np.inf])
    np.testing.assert_allclose(phi, [np.arctan2(4, 3), -np.pi, 0])


def test_mass_of_light_particles():
    """Numbers that are exact in binary, so that E − p is; E² − p² is off by 3e-5 here."""
    energy, pt, pz = np.array([[500_000 + 2.0**-20, 300_000, 400_000], [1 - 1e-9, 0, 1]]).T
    mass = np.sqrt(2.0**-20 * (1_000_000 + 2.0**-20))
    np.testing.assert_allclose(mass_of(energy, pt, pz), [mass, 0], rtol=1e-14)
