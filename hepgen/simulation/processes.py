"""The physics processes that can be simulated on the spot, and their generation with Pythia 8."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import awkward as ak
import numpy as np
import pythia8mc

from hepgen.errors import HepgenError
from hepgen.events import wrap_phi

__all__ = ["PROCESSES", "Process", "generate", "is_visible", "leading_z_pt"]

BATCH = 500
ETA_MAX = 5.0
NEUTRINOS = (12, 14, 16)
Z_BOSON = 23


@dataclass(frozen=True)
class Process:
    """A hard process and the events that are kept of it.

    Attributes:
        settings: Pythia settings, one ``key = value`` each.
        label: 0 for background, 1 for signal, None where events have no class.
        jet_pt: Least pT [GeV] of the leading anti-kT R = 1.0 jet with |η| < 2.5 at detector level.
        z_pt: Least pT [GeV] of the Z boson. Such events keep their particle level, without the Z.
    """

    settings: tuple[str, ...]
    label: int | None = None
    jet_pt: float | None = None
    z_pt: float | None = None


# The multiplicity of the LHC Olympics events is that of Pythia without multiple interactions; with them it is 40 %
# too high. Z + jet events go without them too; 'PartonLevel:MPI = on' brings them back at a fifth of the speed.
COMMON = ("PartonLevel:MPI = off",)

PROCESSES = {
    "qcd": Process(
        (*COMMON, "Beams:eCM = 13000", "HardQCD:all = on", "PhaseSpace:pTHatMin = 1000"),
        label=0,
        jet_pt=1200.0,
    ),
    # W'(3.5 TeV) → X(500 GeV) Y(100 GeV), X and Y → q q̄. Decays to new particles need meMode >= 100 (the 101).
    "wprime": Process(
        (
            *COMMON,
            "Beams:eCM = 13000",
            "NewGaugeBoson:ffbar2Wprime = on",
            "34:m0 = 3500",
            "34:mWidth = 70",
            "34:mMin = 2000",
            "34:mMax = 5000",
            "34:doForceWidth = on",
            "9000001:all = X+ X- 1 3 0 500 5 400 600 0.",
            "9000001:isResonance = on",
            "9000001:doForceWidth = on",
            "9000001:oneChannel = 1 1.0 101 2 -1",
            "9000002:all = Y0 void 1 0 0 100 1 80 120 0.",
            "9000002:isResonance = on",
            "9000002:doForceWidth = on",
            "9000002:oneChannel = 1 0.5 101 1 -1",
            "9000002:addChannel = 1 0.5 101 2 -2",
            "34:oneChannel = 1 1.0 101 9000001 9000002",
        ),
        label=1,
        jet_pt=1200.0,
    ),
    # Z'(3.5 TeV) → t t̄, both tops to quarks: a second signal, with three prongs in each jet.
    "zprime": Process(
        (
            *COMMON,
            "Beams:eCM = 13000",
            "NewGaugeBoson:ffbar2gmZZprime = on",
            "Zprime:gmZmode = 3",
            "32:m0 = 3500",
            "32:mMin = 2000",
            "32:mMax = 5000",
            "32:onMode = off",
            "32:onIfAny = 6",
            "24:onMode = off",
            "24:onIfAny = 1 2 3 4 5",
        ),
        label=1,
        jet_pt=1200.0,
    ),
    "zjet": Process(
        (
            *COMMON,
            "Beams:eCM = 14000",
            "WeakBosonAndParton:qqbar2gmZg = on",
            "WeakBosonAndParton:qg2gmZq = on",
            "WeakZ0:gmZmode = 2",
            "23:mayDecay = no",
            "PhaseSpace:pTHatMin = 150",
        ),
        z_pt=200.0,
    ),
}


def generate(process: Process, settings: Sequence[str], seed: int) -> Iterator[ak.Array]:
    """Endless batches of events of a process, before any selection.

    What comes out depends on the process, the settings and the seed, and on nothing else.

    Args:
        process: An entry of `PROCESSES`.
        settings: Pythia settings that override those of the process.
        seed: Pythia's seed, in [1, 9e8].

    Yields:
        The final state within |η| < 5 of at most `BATCH` events, ``n * var * {pt, eta, phi, mass, charge, pdgid}``;
        charges are in units of e.

    Raises:
        HepgenError: if Pythia does not take a setting, cannot be started with them, or makes weighted events.

    References:
        Bierlich et al. 2022, arXiv:2203.11601 (Pythia 8.3).
    """
    pythia = _start(process, settings, seed)
    while True:
        events = pythia.nextBatch(BATCH)
        if len(events) == 0:
            msg = f"Pythia made none of {BATCH} events with the settings {_listed(settings)}"
            raise HepgenError(msg)
        if ak.any(events.info.weights[:, 0] != 1):
            msg = f"Pythia makes weighted events with the settings {_listed(settings)}; remove the one that biases them"
            raise HepgenError(msg)
        yield _final_state(events.prt, pythia.particleData)


def is_visible(particles: ak.Array) -> ak.Array:
    """Which particles a detector can see: all but neutrinos and undecayed Z bosons."""
    invisible = np.isin(np.abs(ak.to_numpy(ak.flatten(particles.pdgid))), (*NEUTRINOS, Z_BOSON))
    return ak.unflatten(~invisible, ak.num(particles))


def leading_z_pt(particles: ak.Array) -> np.ndarray:
    """Transverse momentum of every event's hardest undecayed Z boson, 0 without one; shape (n,)."""
    pt = particles.pt[particles.pdgid == Z_BOSON]
    return ak.to_numpy(ak.fill_none(ak.max(pt, axis=1), 0.0))


def _start(process: Process, settings: Sequence[str], seed: int) -> pythia8mc.Pythia:
    """A Pythia that is ready to generate, without banner and listings."""
    pythia = pythia8mc.Pythia("", False)
    for setting in ("Print:quiet = on", *process.settings, *settings):
        # readString says no by its return value alone; the seed is not the user's to set, or chunks would be alike.
        if setting.strip().lower().startswith("random:"):
            msg = f"Pythia setting {setting!r}: random numbers follow from the configuration's `seed`; remove it"
            raise HepgenError(msg)
        if not pythia.readString(setting, False):
            msg = f"Pythia does not know the setting {setting!r}, or its value is out of range; see https://pythia.org"
            raise HepgenError(msg)
    pythia.readString("Random:setSeed = on")
    pythia.readString(f"Random:seed = {seed}")
    if not pythia.init():
        msg = f"Pythia does not start with the settings {_listed(settings)}; its own message stands above"
        raise HepgenError(msg)
    return pythia


def _listed(settings: Sequence[str]) -> str:
    return ", ".join(map(repr, settings)) or "of the process alone"


def _final_state(record: ak.Array, data: pythia8mc.ParticleData) -> ak.Array:
    """Final particles within |η| < 5 of an event record, in collider coordinates."""
    record = record[record.status > 0]
    flat = ak.flatten(record)
    px, py, pz = (ak.to_numpy(flat.p[name]) for name in ("px", "py", "pz"))
    pt = np.hypot(px, py)
    central = np.abs(pz) < np.sinh(ETA_MAX) * pt
    ids, inverse = np.unique(ak.to_numpy(flat.id), return_inverse=True)
    charges = np.array([data.chargeType(int(pdgid)) / 3 for pdgid in ids])
    columns = {
        "pt": pt,
        "eta": np.arcsinh(pz / np.where(central, pt, 1.0)),
        "phi": wrap_phi(np.arctan2(py, px)),
        "mass": np.maximum(ak.to_numpy(flat.m), 0.0),
        "charge": charges[inverse],
        "pdgid": ids[inverse],
    }
    kept = ak.zip({name: values[central] for name, values in columns.items()})
    return ak.unflatten(kept, ak.sum(ak.unflatten(central, ak.num(record)), axis=1))
