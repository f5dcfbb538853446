"""Jets and substructure against loops over fastjet's own objects, one event at a time."""

import subprocess
import sys

import awkward as ak
import fastjet
import h5py
import numpy as np
import pytest

from hepgen.config import JetDefinition
from hepgen.errors import HepgenError
from hepgen.events import Events, write_events
from hepgen.jets import cluster, observe, observe_file
from hepgen.samples import LhcoSample
from hepgen.sources import lhco
from hepgen.table import read_tables

DIJETS = JetDefinition(algorithm="antikt", radius=1.0, number=2, pt_min=20)


def particles(events=30, seed=1, mass=False):
    """Two sprays of particles, back to back at random azimuths."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(20, 60, events)
    total = counts.sum()
    axis = np.repeat(rng.uniform(-np.pi, np.pi, events), counts) + np.pi * rng.integers(0, 2, total)
    phi = np.mod(axis + 0.3 * rng.normal(size=total) + np.pi, 2 * np.pi) - np.pi
    columns = {"pt": 10 * rng.exponential(size=total) + 0.1, "eta": 0.4 * rng.normal(size=total), "phi": phi}
    if mass:
        columns["mass"] = rng.choice([0.0, 0.13957, 0.938], total)
    return ak.unflatten(ak.zip(columns), counts)


def pseudojets(event):
    mass = event.mass if "mass" in ak.fields(event) else ak.zeros_like(event.pt)
    rows = zip(event.pt.tolist(), event.eta.tolist(), event.phi.tolist(), mass.tolist(), strict=True)
    for pt, eta, phi, m in rows:
        pz = pt * np.sinh(eta)
        yield fastjet.PseudoJet(pt * np.cos(phi), pt * np.sin(phi), pz, float(np.sqrt((pt * np.cosh(eta)) ** 2 + m**2)))


def leading(event, definition, number=2):
    """The leading jets of one event, by fastjet's own classes."""
    algorithm = {"antikt": fastjet.antikt_algorithm, "kt": fastjet.kt_algorithm}[definition.algorithm]
    sequence = fastjet.ClusterSequence(list(pseudojets(event)), fastjet.JetDefinition(algorithm, definition.radius))
    return sequence, sorted(sequence.inclusive_jets(definition.pt_min), key=lambda jet: -jet.pt())[:number]


def soft_drop(jet, z_cut=0.1):
    """The algorithm as published, on one jet."""
    tree = fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0)
    sequence = fastjet.ClusterSequence(list(jet.constituents()), tree)
    (here,) = sequence.inclusive_jets()
    first, second = fastjet.PseudoJet(), fastjet.PseudoJet()
    while here.has_parents(first, second):
        z = min(first.pt(), second.pt()) / (first.pt() + second.pt())
        if z > z_cut:
            return here.m(), z
        here = fastjet.PseudoJet(first if first.pt() > second.pt() else second)
    return 0.0, 0.0


def subjettiness(jet, n):
    """τ_n about the winner-takes-all axes of n exclusive kT subjets."""
    definition = fastjet.JetDefinition(fastjet.kt_algorithm, 1000.0, fastjet.WTA_pt_scheme)
    constituents = list(jet.constituents())
    if len(constituents) <= n:
        return 0.0
    sequence = fastjet.ClusterSequence(constituents, definition)
    axes = sequence.exclusive_jets(n)
    total = sum(p.pt() for p in constituents)
    return sum(p.pt() * min(p.delta_R(axis) for axis in axes) for p in constituents) / total


@pytest.mark.parametrize("mass", [False, True])
@pytest.mark.parametrize(
    "definition", [DIJETS, JetDefinition(algorithm="kt", radius=0.4, number=2, pt_min=5)], ids=["antikt10", "kt04"]
)
def test_jets_and_substructure_match_a_loop_over_events(definition, mass):
    events = particles(mass=mass)
    jets, passed = cluster(events, definition)
    assert len(jets) == passed.sum() > 20
    for here, event in enumerate(events[passed]):
        sequence, expected = leading(event, definition)  # noqa: RUF059 - owns the jets
        for rank, jet in enumerate(expected):
            # rounding of float64 sums; a mass is the root of a difference of squares
            assert jets.pt[here, rank] == pytest.approx(jet.pt(), rel=1e-9)
            assert jets.eta[here, rank] == pytest.approx(jet.eta(), abs=1e-9)
            assert np.cos(jets.phi[here, rank] - jet.phi()) == pytest.approx(1, abs=1e-9)
            assert jets.mass[here, rank] == pytest.approx(jet.m(), abs=1e-4)
            assert jets.multiplicity[here, rank] == len(jet.constituents())
            msd, zg = soft_drop(jet)
            assert jets.zg[here, rank] == pytest.approx(zg, abs=1e-9)
            if zg:
                assert jets.msd[here, rank] == pytest.approx(msd, abs=1e-4)
            for n in (1, 2, 3):
                assert jets.tau[here, rank, n - 1] == pytest.approx(subjettiness(jet, n), abs=1e-9)


def test_soft_drop_matches_the_one_of_fastjet_contrib():
    jets, _ = cluster(particles(200), DIJETS)
    groomed = jets._cambridge.exclusive_jets_softdrop_grooming(1, 0.0, 0.1, "scalar_z", 1.0)
    np.testing.assert_allclose(jets.msd.ravel(), groomed.msoftdrop, atol=1e-4)
    np.testing.assert_allclose(jets.zg.ravel(), np.maximum(groomed.symmetrysoftdrop, 0), atol=1e-12)


def test_jets_of_one_to_three_particles():
    """Too few particles for τ_N, or for two prongs, give exact zeros."""
    jets, passed = cluster(particles(), JetDefinition(radius=0.05, number=8, pt_min=0.5))
    assert passed.any()
    assert set(jets.multiplicity.ravel()) >= {1, 2, 3}
    for n in (1, 2, 3):
        assert (jets.tau[jets.multiplicity == n][:, n - 1 :] == 0).all()
    single = jets.multiplicity == 1
    assert (jets.zg[single] == 0).all()
    np.testing.assert_allclose(jets.width[single], 0, atol=1e-7)
    np.testing.assert_allclose(jets.msd[single], 0, atol=1e-4)
    assert (jets.zg[~single] > 0).any()


def test_jets_are_sorted_and_hold_their_constituents():
    jets, _ = cluster(particles(), DIJETS)
    assert (np.diff(jets.pt, axis=1) <= 0).all()
    for rank in (0, 1):
        constituents = jets.constituents(rank)
        px = ak.sum(constituents.pt * np.cos(constituents.phi), axis=1)
        np.testing.assert_allclose(px, jets.p4[:, rank, 0], rtol=1e-9, atol=1e-9)


def test_azimuth_wraps():
    """Turning every event by the same angle changes nothing but φ, also for jets that straddle ±π."""
    events = particles()
    jets, _ = cluster(events, DIJETS)
    turned = ak.with_field(events, np.mod(events.phi + 2.5 + np.pi, 2 * np.pi) - np.pi, "phi")
    others, _ = cluster(turned, DIJETS)
    for name in ("pt", "mass", "width", "msd", "zg", "tau"):
        np.testing.assert_allclose(getattr(others, name), getattr(jets, name), rtol=1e-9, atol=1e-4)
    assert ((others.phi >= -np.pi) & (others.phi < np.pi)).all()
    np.testing.assert_allclose(np.cos(others.phi - jets.phi), np.cos(2.5), atol=1e-9)


def test_empty_events_are_dropped():
    events = ak.concatenate([particles(3)[:, :0], particles(3), particles(1)[:, :1]])
    table = observe(Events(events, {"label": np.arange(7)}), DIJETS)
    assert table.columns["label"].tolist() == [3, 4, 5]
    assert len(observe(Events(events[:3]), DIJETS)) == 0


def test_event_needs_its_jets_at_either_level():
    detector, truth = particles(9), particles(9, seed=2)
    detector = ak.concatenate([detector[:2, :1], detector[2:8], detector[8:, :0]])
    truth = ak.concatenate([truth[:6], truth[6:, :1]])
    table = observe(Events(detector, {"label": np.arange(9)}, truth), DIJETS)
    assert table.columns["label"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert table.passed().tolist() == [False] * 2 + [True] * 6
    assert table.passed("truth").tolist() == [True] * 6 + [False] * 2
    for level, events in (("columns", detector), ("truth", truth)):
        alone = observe(Events(events), DIJETS)
        for name, values in alone.columns.items():
            column = getattr(table, level)[name]
            np.testing.assert_array_equal(column[table.passed(level)], values, err_msg=name)
            assert np.isnan(column[~table.passed(level)]).all()
    for jet, same in zip(table.constituents, observe(Events(detector), DIJETS).constituents, strict=True):
        assert ak.array_equal(jet[2:], same)
        assert ak.num(jet)[:2].tolist() == [0, 0]


def test_only_unfolding_meets_events_that_are_not_seen(tmp_path):
    """By default a table is what the detector saw, whether there is a truth or not."""
    detector, truth = particles(20), particles(20, seed=2)
    detector = ak.concatenate([detector[:5, :1], detector[5:]])
    for name, level in (("both", truth), ("reco", None)):
        write_events(tmp_path / f"{name}_events.h5", [Events(detector, truth=level)])
        observe_file(tmp_path / f"{name}_events.h5", tmp_path / f"{name}.h5", DIJETS)
    both, reco = (read_tables([tmp_path / f"{name}.h5"], constituents=True) for name in ("both", "reco"))
    assert len(read_tables([tmp_path / "both.h5"], unseen=True)) == 20
    assert len(reco) == len(both) == 15
    for name, values in reco.columns.items():
        np.testing.assert_array_equal(both.columns[name], values)
    assert ak.array_equal(both.constituents[0], reco.constituents[0])


def test_file_is_streamed_whatever_the_step(tmp_path):
    events = Events(particles(50), {"label": np.arange(50, dtype=np.int8)})
    write_events(tmp_path / "events.h5", [events])
    for step in (7, 50):
        observe_file(tmp_path / "events.h5", tmp_path / f"{step}.h5", DIJETS, step=step)
    first, second = (read_tables([tmp_path / f"{step}.h5"], constituents=True) for step in (7, 50))
    for name, values in first.columns.items():
        np.testing.assert_array_equal(second.columns[name], values)
    assert ak.array_equal(first.constituents[1], second.constituents[1])
    assert first.columns["label"].dtype == np.int8
    assert first.columns["mass_j1"].dtype == np.float32


def test_no_event_left_is_a_clear_error(tmp_path):
    write_events(tmp_path / "events.h5", [Events(particles(5))])
    with pytest.raises(HepgenError, match=r"no event has 2 antikt R = 1.0 jets with pT > 9000.0 GeV; lower pt_min"):
        observe_file(tmp_path / "events.h5", tmp_path / "out.h5", JetDefinition(pt_min=9000))
    assert not (tmp_path / "out.h5").exists()


def test_standard_output_stays_clean():
    """FastJet's banner would spoil the output of a command that prints results."""
    code = (
        "import awkward as ak; from hepgen.config import JetDefinition; from hepgen.jets import cluster;"
        "cluster(ak.Array([[{'pt': 50.0, 'eta': 0.0, 'phi': 0.0}]]), JetDefinition(number=1))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == ""


def official(reference, events):
    path = reference / "lhco" / "events_anomalydetection_tiny.h5"
    sample = LhcoSample(source="lhco", path=str(path), jets="fat", events=events)
    return next(lhco.stream(sample, 0, 1)), path


def test_official_events_match_a_loop(reference):
    """All of them, in float64 from the file: 1e-3 GeV also covers the float32 that hepgen stores."""
    count = 1000
    events, path = official(reference, count)
    table = observe(events, DIJETS)
    assert len(table) == count
    with h5py.File(path) as file:
        rows = file["df/block0_values"][:count, :2100].reshape(-1, 700, 3)
    for here, row in enumerate(rows):
        pt, eta, phi = row[row[:, 0] > 0].T
        event = ak.zip({"pt": pt.copy(), "eta": eta.copy(), "phi": phi.copy()})
        sequence, (first, second) = leading(event, DIJETS)  # noqa: RUF059 - owns the jets
        expected = {"mjj": (first + second).m(), "mass_j1": first.m(), "mass_j2": second.m()}
        expected |= {"pt_j1": first.pt(), "pt_j2": second.pt()}
        for name, value in expected.items():
            assert table.columns[name][here] == pytest.approx(value, abs=1e-3), name
