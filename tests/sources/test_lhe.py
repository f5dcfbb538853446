"""Les Houches event files: the partons of a real file, its weights, and every way of being damaged."""

import gzip
import re

import awkward as ak
import numpy as np
import pylhe
import pytest

from hepgen.errors import HepgenError
from hepgen.samples import LheSample
from hepgen.sources import generators, lhe

FILE = "hepmc/pp_to_jj.lhe.gz"
EVENT = """<event>
 5 1 {weight} 9.1e+01 7.5e-03 1.2e-01
 2 -1 0 0 501 0 0.0 0.0 500.0 500.0 0.0 0.0 1.0
 -2 -1 0 0 0 501 0.0 0.0 -500.0 500.0 0.0 0.0 -1.0
 6 1 1 2 502 0 30.0 40.0 0.0 180.3 173.0 0.0 1.0
 -11 1 1 2 0 0 -30.0 -40.0 10.0 51.0 0.000511 0.0 1.0
 12 1 1 2 0 0 0.0 1.0 -10.0 10.0 0.0 0.0 -1.0
# a comment
{more}</event>
"""
HEAD = """<LesHouchesEvents version="3.0">
<header>{header}</header>
<init>
 2212 2212 6.5e+03 6.5e+03 0 0 247000 247000 -4 1
 1.0 0.1 1.0 1
</init>
"""
TAIL = "</LesHouchesEvents>\n"


def text(n=7, header="", more=""):
    return HEAD.format(header=header) + "".join(EVENT.format(weight=w + 0.5, more=more) for w in range(n)) + TAIL


def write(path, content):
    path.write_text(content)
    return path


def read(path, chunk=0, **settings):
    entry = LheSample(source="lhe", path=str(path), jets="fat", **settings)
    batches = list(lhe.stream(entry, chunk))
    columns = {name: np.concatenate([batch.columns[name] for batch in batches]) for name in batches[0].columns}
    return ak.concatenate([batch.particles for batch in batches]), columns


def test_the_real_file_against_pylhe(reference):
    """float32 holds 7 digits."""
    particles, columns = read(reference / FILE)
    events = list(pylhe.LHEFile.fromfile(str(reference / FILE)).events)
    assert len(particles) == len(events) == 1000
    partons = [[p for p in event.particles if p.status == 1] for event in events]
    assert ak.num(particles).tolist() == [len(event) for event in partons]
    px, py, pz, m = np.array([(p.px, p.py, p.pz, p.m) for event in partons for p in event]).T
    flat = ak.flatten(particles)
    np.testing.assert_allclose(flat.pt, np.hypot(px, py), rtol=1e-6)
    np.testing.assert_allclose(flat.eta, np.arcsinh(pz / np.hypot(px, py)), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(np.exp(1j * flat.phi.to_numpy()), (px + 1j * py) / np.hypot(px, py), atol=1e-6)
    np.testing.assert_array_equal(flat.mass, m.astype(np.float32))
    assert columns["weight"].tolist() == [event.eventinfo.weight for event in events]


def test_a_weight_by_its_id_against_the_text(reference):
    content = gzip.decompress((reference / FILE).read_bytes()).decode()
    expected = [float(value) for value in re.findall(r"<wgt id='7'>\s*(\S+)", content)]
    np.testing.assert_array_equal(read(reference / FILE, weight="7")[1]["weight"], expected)


def test_chunks_and_batches_do_not_change_the_events(reference, monkeypatch):
    whole, columns = read(reference / FILE)
    monkeypatch.setattr(generators, "STEP", 77)
    parts = [read(reference / FILE, chunk, chunks=3) for chunk in range(3)]
    assert ak.array_equal(ak.concatenate([particles for particles, _ in parts]), whole)
    np.testing.assert_array_equal(np.concatenate([extra["weight"] for _, extra in parts]), columns["weight"])


def test_outgoing_partons_without_neutrinos(tmp_path, monkeypatch):
    monkeypatch.setattr(generators, "BLOCK", 100)  # marks lie across the blocks of the search
    particles, columns = read(write(tmp_path / "x.lhe", text()), label=1)
    assert ak.num(particles).tolist() == [2] * 7
    np.testing.assert_allclose(particles[3].pt, [50, 50])
    np.testing.assert_allclose(particles[3].eta, [0, np.arcsinh(0.2)], rtol=1e-6)
    np.testing.assert_allclose(particles[3].mass, [173, 0.000511], rtol=1e-6)
    np.testing.assert_allclose(particles[3].phi, np.arctan2([40, -40], [30, -30]), rtol=1e-6)
    assert columns["weight"].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5]
    assert columns["label"].tolist() == [1] * 7


def test_weights_by_position(tmp_path):
    """The compressed form names its weights in the header only."""
    weights = '<weight id="up">a</weight><weight id="down">b</weight>'
    header = f'<initrwgt><weightgroup name="s">{weights}</weightgroup></initrwgt>'
    path = write(tmp_path / "x.lhe", text(header=header, more="<weights> 3.0 4.0 </weights>\n"))
    assert read(path, weight="down")[1]["weight"].tolist() == [4.0] * 7
    with pytest.raises(HepgenError, match="did you mean 'down'\\?\\); known: down, up"):
        read(path, weight="dwn")


def test_unknown_weight(tmp_path):
    with pytest.raises(HepgenError, match=r"event 0 \(counted from 0\) 'up'; known: none"):
        read(write(tmp_path / "x.lhe", text()), weight="up")


def test_entities_are_not_expanded(tmp_path):
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "' + "9" * 1000 + '"><!ENTITY b "&a;&a;">]>\n'
    content = bomb + text().replace("# a comment", "# &b;")
    with pytest.raises(HepgenError, match=r"events 0 to 6 are not readable LHE.*undefined entity"):
        read(write(tmp_path / "x.lhe", content))


def test_only_events_without_partons(tmp_path):
    path = write(tmp_path / "x.lhe", re.sub(r"^ (6|-11) 1 1 2", r" \1 2 1 2", text(), flags=re.MULTILINE))
    with pytest.raises(HepgenError, match="none of 7 events has a stable particle"):
        read(path)


BAD = {
    "no such file": None,
    "not an LHE file: it does not begin": "HepMC::Version",
    "no </init> ends its header": HEAD[:100],
    "truncated LHE file": text()[:-40],
    "does not end with </LesHouchesEvents>": text().removesuffix(TAIL),
    "goes on after </LesHouchesEvents>": text() + text(),
    "event 6 (counted from 0) has no </event>": text().removesuffix("</event>\n" + TAIL) + TAIL,
    "event 0 (counted from 0) states 5 particles and has 4": text().replace(" 6 1 1 2 502", "# 6", 1),
    "events 0 to 6 are not readable LHE": text().replace("30.0", "3O.0", 1),
    "event 1 (counted from 0) has a particle whose momentum is not finite": text()
    .replace("30.0", "25.0", 2)
    .replace(" 30.0", " nan", 1),
    "event 1 (counted from 0) has a weight that is not finite": text().replace(" 1.5 ", " inf ", 1),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_file_is_one_clear_error(tmp_path, message):
    path = tmp_path / "x.lhe"
    if BAD[message] is not None:
        write(path, BAD[message])
    with pytest.raises(HepgenError) as error:
        read(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_truncated_gzip(tmp_path, reference):
    path = tmp_path / "x.lhe.gz"
    path.write_bytes((reference / FILE).read_bytes()[:-5000])
    with pytest.raises(HepgenError, match="not a readable LHE file, perhaps truncated or damaged"):
        read(path)


def test_empty_files_among_others(tmp_path, capsys):
    full, empty = write(tmp_path / "x.lhe", text()), write(tmp_path / "y.lhe", HEAD + TAIL)
    entry = LheSample(source="lhe", path=[str(empty), str(full)], jets="fat")
    assert sum(map(len, lhe.stream(entry))) == 7
    assert capsys.readouterr().err == f"warning: {empty} holds no event\n"
