from itertools import islice
from typing import get_args

import awkward as ak
import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.samples import PythiaSample
from hepgen.simulation import processes
from hepgen.simulation.processes import PROCESSES, generate, is_visible, leading_z_pt


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(processes, "BATCH", 20)


def first(process, settings=(), seed=1):
    return next(generate(PROCESSES[process], settings, seed))


def test_the_configuration_knows_every_process():
    assert set(get_args(PythiaSample.model_fields["process"].annotation)) == set(PROCESSES)


@pytest.mark.parametrize("process", PROCESSES)
def test_final_states_are_physical(process):
    final = first(process)
    flat = ak.flatten(final)
    assert ak.all(flat.pt > 0)
    assert ak.all(abs(flat.eta) < 5)
    assert ak.all((flat.phi >= -np.pi) & (flat.phi < np.pi))
    assert ak.all(flat.mass >= 0)
    charges = {211: 1, -211: -1, 11: -1, 2212: 1, 22: 0, 130: 0, 23: 0}
    for pdgid, charge in charges.items():
        assert ak.all(flat.charge[flat.pdgid == pdgid] == charge)


@pytest.mark.parametrize("process", PROCESSES)
def test_transverse_momentum_balances(process):
    # What |η| < 5 leaves out is soft: the remnants' share of a hard event's pT is a few per cent.
    final = first(process)
    px, py = (ak.sum(final.pt * f(final.phi), axis=1) for f in (np.cos, np.sin))
    assert np.median(np.hypot(px, py) / ak.sum(final.pt, axis=1)) < 0.02


def test_the_z_boson_stays_and_is_not_seen():
    final = first("zjet")
    assert ak.all(ak.sum(final.pdgid == 23, axis=1) == 1)
    assert np.all(leading_z_pt(final) > 50)
    assert np.all(leading_z_pt(first("qcd")) == 0)
    seen = final[is_visible(final)]
    assert not set(np.abs(ak.to_numpy(ak.flatten(seen.pdgid)))) & {12, 14, 16, 23}
    assert 1 <= ak.mean(ak.num(final) - ak.num(seen)) < 10


def test_the_resonance_has_its_mass():
    # Decay products of W' (3.5 TeV, width 70 GeV) make up the event's hard part: median within the shower's reach.
    final = first("wprime")
    visible = final[final.pt > 5]
    p = [ak.sum(visible.pt * f(visible), axis=1) for f in (lambda v: np.cos(v.phi), lambda v: np.sin(v.phi))]
    p.append(ak.sum(visible.pt * np.sinh(visible.eta), axis=1))
    mass = np.sqrt(ak.sum(visible.pt * np.cosh(visible.eta), axis=1) ** 2 - sum(q**2 for q in p))
    assert np.median(mass) == pytest.approx(3500, rel=0.1)


def test_events_follow_from_the_seed_alone(monkeypatch):
    once, again, other = first("qcd", seed=5), first("qcd", seed=5), first("qcd", seed=6)
    assert ak.array_equal(once, again)
    assert not ak.array_equal(ak.num(once), ak.num(other))
    monkeypatch.setattr(processes, "BATCH", 10)
    halves = ak.concatenate(list(islice(generate(PROCESSES["qcd"], [], 5), 2)))
    assert ak.array_equal(once, halves)


def test_user_settings_come_last():
    hard = first("qcd", ["PhaseSpace:pTHatMin = 3000"])
    assert ak.min(ak.sum(hard.pt, axis=1)) > 3000


@pytest.mark.parametrize("setting", ["HardQCD:bogus = on", "Tune:pp = 999", "no setting at all", "Random:seed = 3"])
def test_refused_settings_are_named(setting):
    with pytest.raises(HepgenError, match=setting):
        first("qcd", [setting])


@pytest.mark.parametrize(
    ("setting", "problem"),
    [("HardQCD:all = off", "does not start"), ("PhaseSpace:bias2Selection = on", "weighted")],
)
def test_unusable_settings_are_explained(setting, problem):
    with pytest.raises(HepgenError, match=f"{problem}.*{setting}"):
        first("qcd", [setting])


def test_pythia_is_silent(capfd):
    first("zjet")
    assert capfd.readouterr() == ("", "")
