import awkward as ak
import numpy as np
import pytest

from hepgen.config import JetDefinition
from hepgen.errors import HepgenError
from hepgen.events import Events, read_events, write_events
from hepgen.jets import cluster, observe
from hepgen.samples import LhcoSample, PythiaSample
from hepgen.simulation import processes
from hepgen.sources import lhco, pythia
from hepgen.sources.pythia import fat_jet_pt, stream

FAT = JetDefinition(radius=1.0, number=2)


def sample(process, events, chunks=1, settings=()):
    return PythiaSample(
        source="pythia", process=process, events=events, chunks=chunks, jets="any", settings=list(settings)
    )


def run(entry, chunk=0, seed=1):
    batches = list(stream(entry, chunk, seed))
    columns = {name: np.concatenate([b.columns[name] for b in batches]) for name in batches[0].columns}
    truth = None if batches[0].truth is None else ak.concatenate([b.truth for b in batches])
    return Events(ak.concatenate([b.particles for b in batches]), columns, truth)


@pytest.fixture(scope="module")
def qcd():
    return run(sample("qcd", 600))


@pytest.fixture(scope="module")
def wprime():
    return run(sample("wprime", 700))


@pytest.fixture(scope="module")
def z_jet():
    return {tune: run(sample("zjet", 500, settings=[f"Tune:pp = {tune}"])) for tune in (14, 26)}


def dijets(particles):
    """Observables of the two leading jets, and the number of particles."""
    return {**observe(Events(particles), FAT).columns, "particles": ak.to_numpy(ak.num(particles))}


def bootstrap(values, levels):
    """Standard errors of quantiles."""
    rng = np.random.default_rng(1)
    return np.std([np.quantile(rng.choice(values, len(values)), levels) for _ in range(200)], axis=0)


@pytest.mark.parametrize(("name", "label", "events"), [("qcd", 0, 600), ("wprime", 1, 700)])
def test_dijet_events_pass_the_selection(request, name, label, events):
    found = request.getfixturevalue(name)
    assert len(found) == events
    assert found.truth is None
    assert found.columns["label"].dtype == np.int8
    assert set(found.columns["label"]) == {label}
    jets, passed = cluster(found.particles, JetDefinition(radius=1.0, number=1, pt_min=1200))
    assert passed.all()
    # The jet with |η| < 2.5 need not be the leading one, but almost always is.
    assert np.mean(np.abs(jets.eta[:, 0]) < 2.5) > 0.95


def test_fat_jets_outside_the_tracker_do_not_count():
    particles = ak.zip(
        {"pt": [[1500.0], [1500.0, 1300.0], [], [700.0, 700.0]], "eta": [[2.6], [2.6, 0.0], [], [0.0, 0.5]],
         "phi": [[0.0], [0.0, 3.0], [], [3.1, -3.1]]}
    )  # fmt: skip
    pt = fat_jet_pt(particles)
    assert pt[:3] == pytest.approx([0, 1300, 0])
    assert 1390 < pt[3] <= 1400


def test_z_jet_events_keep_their_particle_level(z_jet):
    found = z_jet[26]
    assert len(found) == len(found.truth) == 500
    assert "label" not in found.columns
    assert found.columns["z_pt"].min() > 200
    assert ak.fields(found.truth) == ["pt", "eta", "phi", "mass"]
    # Without the Z the visible rest recoils against it: heavier than any stable hadron there is nothing.
    assert ak.max(found.truth.mass) < 2
    recoil = [ak.sum(found.truth.pt * f(found.truth.phi), axis=1) for f in (np.cos, np.sin)]
    assert np.median(np.hypot(*recoil) / found.columns["z_pt"]) == pytest.approx(1, abs=0.05)


def test_z_jet_closure(z_jet):
    """Of 3,000 events 99.0 % were matched within ΔR < 0.2, with a mean pT ratio of 1.011 and a width of 7.1 %."""
    found = z_jet[26]
    definition = JetDefinition(radius=0.4, number=1, pt_min=10)
    reco, reco_passed = cluster(found.particles, definition)
    true, true_passed = cluster(found.truth, definition)
    assert reco_passed.all()
    assert true_passed.all()
    dphi = (reco.phi - true.phi + np.pi) % (2 * np.pi) - np.pi
    matched = np.hypot(reco.eta - true.eta, dphi)[:, 0] < 0.2
    ratio = (reco.pt / true.pt)[matched, 0]
    # 99 % of 500 events: four standard deviations of a binomial are 1.8 %.
    assert matched.mean() > 0.97
    # Four standard errors of 7 % on 500 events are 1.3 %.
    assert ratio.mean() == pytest.approx(1.0, abs=0.02)
    assert 0.05 < ratio.std() < 0.10


def test_tunes_differ(z_jet):
    assert not ak.array_equal(ak.num(z_jet[14].truth), ak.num(z_jet[26].truth))
    numbers = [ak.to_numpy(ak.num(z_jet[tune].truth)) for tune in (14, 26)]
    error = np.sqrt(sum(n.var() / len(n) for n in numbers))
    # Means of 148 and 128 particles an event, each with an error of 2.
    assert numbers[0].mean() - numbers[1].mean() > 3 * error


@pytest.mark.parametrize("name", ["mjj", "mass_light", "mass_heavy", "tau21_heavy", "particles"])
def test_background_agrees_with_the_lhc_olympics(reference, qcd, name):
    """Quantiles against the 907 background events of the real file."""
    path = reference / "lhco" / "events_anomalydetection_tiny.h5"
    real = list(lhco.stream(LhcoSample(source="lhco", path=str(path), jets="any")))
    particles = ak.concatenate([batch.particles[batch.columns["label"] == 0] for batch in real])
    ours, theirs = dijets(qcd.particles)[name], dijets(particles)[name]
    assert len(theirs) == 907
    levels = [0.25, 0.5, 0.75]
    spread = [bootstrap(values, levels) for values in (ours, theirs)]
    # Three standard errors of both samples, and what the simulation is known to be off by: 4 %.
    tolerance = 3 * np.hypot(*spread) + 0.04 * np.quantile(theirs, levels)
    difference = np.quantile(ours, levels) - np.quantile(theirs, levels)
    assert np.all(np.abs(difference) < tolerance), (difference, tolerance)


def test_signal_has_its_masses(wprime):
    found = dijets(wprime.particles)
    # 0.763 of the real signal lie in the signal region; four standard errors of 700 events.
    inside = np.mean((found["mjj"] > 3300) & (found["mjj"] < 3700))
    assert inside == pytest.approx(0.763, abs=4 * np.sqrt(0.763 * 0.237 / 700))
    # X (500 GeV) and Y (100 GeV) lose little to the detector and gain little from initial-state radiation.
    assert np.median(found["mass_heavy"]) == pytest.approx(500, rel=0.03)
    assert np.median(found["mass_light"]) == pytest.approx(100, rel=0.12)


def test_chunks_share_the_events(monkeypatch):
    monkeypatch.setattr(processes, "BATCH", 20)
    entry = sample("wprime", 11, chunks=3)
    chunks = [run(entry, chunk) for chunk in range(3)]
    assert [len(chunk) for chunk in chunks] == [3, 4, 4]
    sizes = [ak.to_list(ak.num(chunk.particles))[:3] for chunk in chunks]
    assert sizes[0] != sizes[1] != sizes[2]


def test_the_same_configuration_gives_the_same_bytes(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "BATCH", 20)
    entry = sample("zjet", 10, chunks=2)
    for name in ("once", "again"):
        # In either order: chunks know nothing of each other.
        for chunk in (0, 1) if name == "once" else (1, 0):
            write_events(tmp_path / f"{name}{chunk}.h5", stream(entry, chunk, 3))
    for chunk in (0, 1):
        assert (tmp_path / f"once{chunk}.h5").read_bytes() == (tmp_path / f"again{chunk}.h5").read_bytes()
    assert (tmp_path / "once0.h5").read_bytes() != (tmp_path / "once1.h5").read_bytes()
    assert len(read_events(tmp_path / "once0.h5")) == 5


def test_another_seed_gives_other_events(monkeypatch):
    monkeypatch.setattr(processes, "BATCH", 20)
    entry = sample("wprime", 5)
    assert not ak.array_equal(run(entry, seed=1).particles, run(entry, seed=2).particles)


def test_a_setting_that_pythia_refuses_is_named():
    with pytest.raises(HepgenError, match="HardQCD:everything"):
        next(stream(sample("qcd", 5, settings=["HardQCD:everything = on"]), 0, 1))


def test_a_selection_that_nothing_passes_ends(monkeypatch):
    monkeypatch.setattr(processes, "BATCH", 20)
    monkeypatch.setattr(pythia, "PATIENCE", 50)
    entry = sample("qcd", 5, settings=["PhaseSpace:pTHatMin = 50", "PhaseSpace:pTHatMax = 60"])
    with pytest.raises(HepgenError, match="none of 60 events in a row"):
        next(stream(entry, 0, 1))


# 5, 25, 50, 75 and 95 % quantiles of a million background events of the LHC Olympics [GeV], and how well the
# simulation is known to reproduce them.
FULL_SET = {
    "mjj": ((2397, 2655, 2976, 3464, 4504), 0.02),
    "mass_light": ((38, 66, 100, 154, 283), 0.03),
    "mass_heavy": ((84, 152, 234, 355, 579), 0.03),
}


@pytest.mark.slow
def test_background_agrees_with_the_full_set():
    """Each quantile within the known difference and three of its own standard errors, by order statistics."""
    table = observe(run(sample("qcd", 6000)), FAT).columns
    for name, (expected, known) in FULL_SET.items():
        values = np.sort(table[name])
        for level, value in zip((0.05, 0.25, 0.5, 0.75, 0.95), expected, strict=True):
            width = 3 * np.sqrt(level * (1 - level) / len(values))
            low, high = np.quantile(values, [max(level - width, 0), min(level + width, 1)])
            assert low / (1 + known) <= value <= high / (1 - known), (name, level)
