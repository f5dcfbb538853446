"""Events simulated on the spot: Pythia 8, the parametrised detector and the selection of the process."""

from collections.abc import Iterator

import awkward as ak
import fastjet
import numpy as np

from hepgen.errors import HepgenError
from hepgen.events import Events
from hepgen.provenance import seed_for
from hepgen.samples import PythiaSample
from hepgen.simulation.detector import simulate
from hepgen.simulation.processes import PROCESSES, Process, generate, is_visible, leading_z_pt

__all__ = ["fat_jet_pt", "stream"]

FAT_JET = fastjet.JetDefinition(fastjet.antikt_algorithm, 1.0)
FAT_JET_ETA = 2.5
PATIENCE = 50_000  # events in a row that may fail the selection

# FastJet prints its banner on the standard output, which belongs to whoever runs hepgen.
fastjet.ClusterSequenceArea.set_fastjet_banner_stream(None)


def stream(sample: PythiaSample, chunk: int, seed: int) -> Iterator[Events]:
    """Simulate a chunk's share of a sample's selected events, in batches.

    A chunk depends on the process, its settings, the seed and its own number, and on no other chunk. The
    processes of the LHC Olympics carry a label; Z + jet events carry their particle level as truth and the
    column ``z_pt`` [GeV].

    Args:
        sample: Process, settings, number of events and of chunks.
        chunk: Number of the chunk, from 0.
        seed: The configuration's seed.

    Raises:
        HepgenError: if Pythia refuses a setting or hardly any event passes the selection.
    """
    process = PROCESSES[sample.process]
    missing = sample.events * (chunk + 1) // sample.chunks - sample.events * chunk // sample.chunks
    chunk_seed = seed_for(seed, sample.process, *sample.settings, chunk)
    rng = np.random.default_rng(chunk_seed)
    batches = generate(process, sample.settings, chunk_seed)
    failed = 0
    while missing:
        final = next(batches)
        events = _reconstruct(process, final, rng)[:missing]
        missing -= len(events)
        failed = 0 if len(events) else failed + len(final)
        if failed > PATIENCE:
            msg = (
                f"process {sample.process!r} with settings {sample.settings}: none of {failed} events in a row passed "
                "the selection; do these settings leave it the phase space (PhaseSpace:pTHatMin, masses)?"
            )
            raise HepgenError(msg)
        if len(events):
            yield events


def fat_jet_pt(particles: ak.Array) -> np.ndarray:
    """pT [GeV] of every event's hardest anti-kT R = 1.0 jet with |η| < 2.5, 0 without one; shape (n,).

    Args:
        particles: Massless particles, ``n * var * {pt, eta, phi}``.

    References:
        Cacciari, Salam, Soyez 2008, arXiv:0802.1189; 2012, arXiv:1111.6097.
    """
    pt, eta, phi = particles.pt, particles.eta, particles.phi
    momenta = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(eta), "E": pt * np.cosh(eta)}
    jets = fastjet.ClusterSequence(ak.zip(momenta), FAT_JET).inclusive_jets()
    jet_pt = np.hypot(jets.px, jets.py)
    central = np.abs(np.arcsinh(jets.pz / jet_pt)) < FAT_JET_ETA
    return ak.to_numpy(ak.fill_none(ak.max(jet_pt[central], axis=1), 0.0))


def _reconstruct(process: Process, final: ak.Array, rng: np.random.Generator) -> Events:
    """The events of a final state that pass the process's selection, as the detector sees them."""
    columns = {}
    if process.z_pt is not None:
        z_pt = leading_z_pt(final)
        final, columns["z_pt"] = final[z_pt > process.z_pt], z_pt[z_pt > process.z_pt]
    visible = final[is_visible(final)]
    particles = simulate(visible, rng)
    if process.label is not None:
        columns["label"] = np.full(len(particles), process.label, np.int8)
    truth = visible[["pt", "eta", "phi", "mass"]] if process.z_pt is not None else None
    events = Events(particles, columns, truth)
    return events if process.jet_pt is None else events[fat_jet_pt(particles) > process.jet_pt]
