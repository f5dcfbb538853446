"""HepMC files of both versions against the HepMC library, and every way of being damaged."""

import gzip

import awkward as ak
import numpy as np
import pyhepmc
import pytest

from hepgen.errors import HepgenError
from hepgen.samples import HepmcSample
from hepgen.sources import generators, hepmc

NAMES = ["nominal", "scale_up", "scale_down"]
EVENTS, PARTICLES = 7, 40


def make_event(number, unit="GEV", names=NAMES, run=None):
    """Two beams, one of which goes on as a remnant, and particles of all kinds."""
    factor = 1000 if unit == "MEV" else 1
    rng = np.random.default_rng(number)
    event = pyhepmc.GenEvent(getattr(pyhepmc.Units, unit), pyhepmc.Units.MM)
    vertex = pyhepmc.GenVertex((0, 0, 0, 0))
    for sign in (1, -1):
        vertex.add_particle_in(pyhepmc.GenParticle((0, 0, sign * 6500 * factor, 6500 * factor), 2212, 4))
    vertex.add_particle_out(pyhepmc.GenParticle((0, 0, 6000 * factor, 6000 * factor), 2101, 1))
    for _ in range(PARTICLES):
        px, py, pz = 10 * factor * rng.normal(size=3)
        mass = 0.13957 * factor
        energy = np.sqrt(px**2 + py**2 + pz**2 + mass**2)
        pdg, status = int(rng.choice([211, -211, 22, 12, -14, 16])), int(rng.choice([1, 1, 2]))
        particle = pyhepmc.GenParticle((px, py, pz, energy), pdg, status)
        particle.generated_mass = mass
        vertex.add_particle_out(particle)
    event.add_vertex(vertex)
    event.event_number = number
    if run is not None:
        event.run_info = run
        event.weights = [number + 0.25 * index for index in range(len(names))]
    return event


def write(path, form="HepMC3", unit="GEV", names=NAMES, events=EVENTS):
    run = None
    if names:
        run = pyhepmc.GenRunInfo()
        run.weight_names = names
    with pyhepmc.open(str(path), "w", format=form) as file:
        for number in range(events):
            file.write(make_event(number, unit, names, run))
    return path


def read(path, chunk=0, **settings):
    entry = HepmcSample(source="hepmc", path=str(path), jets="fat", **settings)
    batches = list(hepmc.stream(entry, chunk))
    columns = {name: np.concatenate([batch.columns[name] for batch in batches]) for name in batches[0].columns}
    return ak.concatenate([batch.particles for batch in batches]), columns


def check_against_the_library(path, particles, scale=1.0):
    """float32 holds 7 digits."""
    with pyhepmc.open(str(path)) as file:
        for found, event in zip(particles, file, strict=True):
            p = event.numpy.particles
            seen = (p.status == 1) & ~np.isin(np.abs(p.pid), [12, 14, 16]) & (np.hypot(p.px, p.py) > 0)
            px, py, pz = (scale * values[seen] for values in (p.px, p.py, p.pz))
            np.testing.assert_allclose(found.pt, np.hypot(px, py), rtol=1e-6)
            np.testing.assert_allclose(found.eta, np.arcsinh(pz / np.hypot(px, py)), rtol=1e-6, atol=1e-6)
            np.testing.assert_allclose(found.phi, np.arctan2(py, px), atol=1e-6)
            np.testing.assert_allclose(found.mass, scale * p.generated_mass[seen], rtol=1e-6)


@pytest.mark.parametrize("form", ["HepMC3", "HepMC2"])
@pytest.mark.parametrize("unit", ["GEV", "MEV"])
def test_both_versions_against_the_library(tmp_path, monkeypatch, form, unit):
    monkeypatch.setattr(generators, "BLOCK", 1000)  # marks lie across the blocks of the search
    path = write(tmp_path / "x.hepmc", form, unit)
    particles, columns = read(path, label=0)
    check_against_the_library(path, particles, 1e-3 if unit == "MEV" else 1.0)
    assert columns["weight"].tolist() == list(range(EVENTS))
    assert columns["label"].tolist() == [0] * EVENTS


@pytest.mark.parametrize("form", ["HepMC3", "HepMC2"])
def test_weights_by_name(tmp_path, form):
    path = write(tmp_path / "x.hepmc", form)
    assert read(path, weight="scale_down")[1]["weight"].tolist() == [number + 0.5 for number in range(EVENTS)]
    with pytest.raises(HepgenError, match=r"did you mean 'scale_up'\?\); known: nominal, scale_down, scale_up"):
        read(path, weight="scale_upp")


@pytest.mark.parametrize("form", ["HepMC3", "HepMC2"])
def test_files_without_weights(tmp_path, form):
    path = write(tmp_path / "x.hepmc", form, names=[])
    assert read(path)[1]["weight"].tolist() == [1.0] * EVENTS
    with pytest.raises(HepgenError, match="'nominal'"):
        read(path, weight="nominal")


def test_names_after_n_and_escaped(tmp_path):
    path = write(tmp_path / "x.hepmc", events=1)
    content = path.read_text().replace("W nominal\\|scale_up\\|scale_down", "W 3\nN a\\|b\\\\c\\|two words", 1)
    path.write_text(content)
    with pytest.raises(HepgenError, match=r"known: a, b\\c, two words"):
        read(path, weight="c")


def test_the_real_file(reference):
    path = reference / "hepmc" / "pythia6_simple.hepmc3"
    particles, columns = read(path)
    check_against_the_library(path, particles)
    rows = [line.split() for line in path.read_text().splitlines() if line.startswith("P ") and line.endswith(" 1")]
    assert ak.num(particles).tolist() == [len(rows)]
    np.testing.assert_allclose(particles[0].mass, [float(row[8]) for row in rows], rtol=1e-6)
    assert columns["weight"].tolist() == [1.0]


def test_the_real_truncated_file(reference):
    with pytest.raises(HepgenError, match=r"truncated\.hepmc3: truncated HepMC file: it does not end with"):
        read(reference / "hepmc" / "truncated.hepmc3")


def test_compressed_chunks_are_the_whole(tmp_path, monkeypatch):
    path = write(tmp_path / "x.hepmc")
    whole, columns = read(path)
    packed = tmp_path / "y.hepmc.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    monkeypatch.setattr(generators, "STEP", 2)
    for file in (path, packed):
        parts = [read(file, chunk, chunks=3) for chunk in range(3)]
        assert ak.array_equal(ak.concatenate([particles for particles, _ in parts]), whole)
        np.testing.assert_array_equal(np.concatenate([extra["weight"] for _, extra in parts]), columns["weight"])


def test_batches_are_bounded_in_events_and_bytes(tmp_path, monkeypatch):
    path = write(tmp_path / "x.hepmc")
    entry = HepmcSample(source="hepmc", path=str(path), jets="fat")
    monkeypatch.setattr(generators, "STEP", 3)
    assert [len(batch) for batch in hepmc.stream(entry)] == [3, 3, 1]
    monkeypatch.setattr(generators, "BLOCK", 2 * path.stat().st_size // EVENTS)
    assert max(len(batch) for batch in hepmc.stream(entry)) == 2


def test_events_of_other_chunks_are_not_parsed(tmp_path):
    path = write(tmp_path / "x.hepmc")
    start, _, end = path.read_text().rpartition("\nP ")
    path.write_text(f"{start}\nP {end.replace('e', 'z', 1)}")
    assert len(read(path, 0, chunks=EVENTS)[0]) == 1
    with pytest.raises(HepgenError, match="could not convert"):
        read(path, EVENTS - 1, chunks=EVENTS)


def edit(content, old, new, count=1):
    assert old in content
    return content.replace(old, new, count)


END = "HepMC::Asciiv3-END_EVENT_LISTING"
BAD = {
    "not a HepMC file": lambda text: "P 1 2 3\n" * 9,
    "truncated HepMC file: it does not end": lambda text: text[: text.index("E 0")],
    "truncated HepMC file: it does not end with HepMC::Asciiv3-END": lambda text: text[:-200],
    f"truncated HepMC file: it does not end with {END}": lambda text: edit(text, END, "HepMC::Ascii"),
    "goes on after its last line": lambda text: text + text,
    "event 0 (counted from 0) states 43 particles and has 42": lambda text: edit(text, "\nP 9 ", "\nQ 9 "),
    "event 0 (counted from 0) states 99999999999 particles": lambda text: edit(text, "E 0 1 43", "E 0 1 99999999999"),
    "event 0 (counted from 0) states 0 vertices and has 1": lambda text: edit(text, "E 0 1 43", "E 0 0 43"),
    "event 0 (counted from 0) states unit 'TEV' of momenta; known: GEV, MEV": lambda text: edit(text, "U GEV", "U TEV"),
    "event 0 (counted from 0) states no unit": lambda text: edit(text, "U GEV MM\n", ""),
    "event 6 (counted from 0) has a particle whose momentum is not finite": lambda text: not_finite(text, "nan"),
    "event 6 (counted from 0) has a particle whose": lambda text: not_finite(text, "1e300"),
    "event 0 (counted from 0) has a weight that is not finite": lambda text: edit(text, "\nW 0.0", "\nW inf 0.0"),
    "not a readable HepMC file, perhaps truncated or damaged (": lambda text: edit(text, " 2212 ", " proton "),
}


def not_finite(text, number):
    """The last stable charged particle's px."""
    lines = text.splitlines(keepends=True)
    row = max(i for i, line in enumerate(lines) if line.startswith("P ") and line.split()[3] in ("22", "211"))
    words = lines[row].split()
    words[4], words[9] = number, "1"
    lines[row] = " ".join(words) + "\n"
    return "".join(lines)


@pytest.mark.parametrize("message", BAD)
def test_bad_file_is_one_clear_error(tmp_path, message):
    path = write(tmp_path / "x.hepmc")
    path.write_text(BAD[message](path.read_text()))
    with pytest.raises(HepgenError) as error:
        read(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_counts_of_the_older_version(tmp_path):
    path = write(tmp_path / "x.hepmc", "HepMC2")
    path.write_text(edit(path.read_text(), "V -1 0 0 0 0 0 2 41 0", "V -1 0 0 0 0 0 2 42 0"))
    with pytest.raises(HepgenError, match=r"event 0 .* states 44 particles and has 43"):
        read(path)


def test_fewer_weights_than_names(tmp_path):
    path = write(tmp_path / "x.hepmc")
    lines = path.read_text().splitlines(keepends=True)
    row = max(i for i, line in enumerate(lines) if line.startswith("W "))
    lines[row] = "W 1.0\n"
    path.write_text("".join(lines))
    with pytest.raises(HepgenError, match=r"event 6 \(counted from 0\) has 1 weights for 3 names"):
        read(path, weight="scale_up")


def test_no_file(tmp_path):
    with pytest.raises(HepgenError, match="no such file"):
        read(tmp_path / "x.hepmc")


def test_truncated_gzip(tmp_path):
    path = tmp_path / "x.hepmc.gz"
    path.write_bytes(gzip.compress(write(tmp_path / "x.hepmc").read_bytes())[:-100])
    with pytest.raises(HepgenError, match="not a readable HepMC file, perhaps truncated or damaged"):
        read(path)


def test_an_event_may_be_empty_but_not_all(tmp_path):
    path = write(tmp_path / "x.hepmc", events=2)
    first, second = path.read_text().split("\nE 1 ")
    hidden = "\n".join(f"{line[:-1]}2" if line.startswith("P ") else line for line in first.split("\n"))
    path.write_text(f"{hidden}\nE 1 {second}")
    assert ak.num(read(path)[0]).tolist()[0] == 0
    with pytest.raises(HepgenError, match=r"none of 1 events has a stable particle \(status 1\) that could be seen"):
        read(path, 0, chunks=2)


@pytest.mark.parametrize("version", ["HepMC3", "HepMC2"])
def test_empty_files_among_others(tmp_path, capsys, version):
    """An empty listing has its end all the same."""
    full, empty = write(tmp_path / "x.hepmc", version), tmp_path / "y.hepmc"
    content = full.read_text()
    empty.write_text(content[: content.index("E 0")] + content[content.rindex("HepMC::") :])
    entry = HepmcSample(source="hepmc", path=[str(empty), str(full)], jets="fat")
    assert sum(map(len, hepmc.stream(entry))) == EVENTS
    assert capsys.readouterr().err == f"warning: {empty} holds no event\n"
