"""Collision events and their HDF5 store: the one interchange format of hepgen."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import awkward as ak
import h5py
import numpy as np

from hepgen.errors import HepgenError
from hepgen.storage import Columns, Jagged, create_h5, open_h5, refuse_empty

__all__ = [
    "Events",
    "check_particles",
    "count_events",
    "iterate_events",
    "mass_of",
    "polar",
    "read_events",
    "wrap_phi",
    "write_events",
]

KIND = "events"
ETA_MAX = 100.0


@dataclass(frozen=True)
class Events:
    """A batch of n events.

    Attributes:
        particles: Detector-level particles, ``n * var * {pt, eta, phi}`` and optionally ``mass``
            (massless without it), in GeV and radians with φ in [−π, π).
        columns: Per-event numbers of shape (n,): ``label`` (1 signal, 0 background), ``weight`` and
            whatever the source knows.
        truth: Particle-level counterpart of `particles`, where the source has one.
    """

    particles: ak.Array
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    truth: ak.Array | None = None

    def __len__(self) -> int:
        return len(self.particles)

    def __getitem__(self, which: slice | np.ndarray) -> "Events":
        """The events of a slice, mask or index array."""
        columns = {name: values[which] for name, values in self.columns.items()}
        return Events(self.particles[which], columns, None if self.truth is None else self.truth[which])


def wrap_phi(phi: np.ndarray) -> np.ndarray:
    """Azimuths, or differences of them, in [−π, π); what lies there already keeps every bit."""
    return phi - 2 * np.pi * np.floor((phi + np.pi) / (2 * np.pi))


def polar(px: np.ndarray, py: np.ndarray, pz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Momenta in float64 → pT, η, φ in [−π, π); where pT = 0, η is not finite."""
    pt = np.hypot(px, py)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return pt, np.arcsinh(pz / pt), wrap_phi(np.arctan2(py, px))


def mass_of(energy: np.ndarray, pt: np.ndarray, pz: np.ndarray) -> np.ndarray:
    """Energies and momenta in float64 → masses, 0 where rounding leaves m² < 0.

    (E − p)(E + p), because E² − p² cancels for light particles.
    """
    p = np.hypot(pt, pz)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.sqrt(np.maximum((energy - p) * (energy + p), 0))


def write_events(path: str | Path, batches: Iterable[Events], provenance: str = "{}") -> int:
    """Stream batches of events into one file; returns how many events it holds.

    Raises:
        HepgenError: if there is no event at all, or a batch holds unphysical particles.
    """
    total = 0
    with create_h5(path, KIND, provenance) as file:
        for batch in batches:
            _append(file, batch)
            total += len(batch)
        refuse_empty(path, total)
    return total


def _append(file: h5py.File, batch: Events) -> None:
    for level, particles in (("particles", batch.particles), ("truth", batch.truth)):
        if particles is not None:
            if len(particles) != len(batch):
                msg = f"{file.filename}: {level} has {len(particles)} events, not {len(batch)}"
                raise HepgenError(msg)
            check_particles(particles, f"{file.filename}: {level}")
            Jagged(file.require_group(level)).append(ak.values_astype(particles, np.float32))
    for name, values in batch.columns.items():
        if len(values) != len(batch) or not np.isfinite(values).all():
            msg = f"{file.filename}: column {name} has {len(values)} numbers for {len(batch)} events, or one not finite"
            raise HepgenError(msg)
    Columns(file.require_group("columns")).append(batch.columns)


def check_particles(particles: ak.Array, where: str) -> None:
    """Raise `HepgenError` unless every pT is positive, every |η| below 100 and every number finite."""
    for name in ak.fields(particles):
        values = ak.to_numpy(ak.flatten(particles[name]))
        bad = ~np.isfinite(values)
        if name == "pt":
            bad |= values <= 0
        elif name == "eta":
            bad |= np.abs(values) > ETA_MAX
        if bad.any():
            msg = (
                f"{where}: {bad.sum()} of {len(bad)} values of {name} are unphysical, the first being {values[bad][0]}"
            )
            raise HepgenError(msg)


def count_events(path: str | Path) -> int:
    """How many events a file holds."""
    with open_h5(path, KIND) as file:
        return len(file["particles/counts"])


def read_events(path: str | Path, start: int = 0, stop: int | None = None) -> Events:
    """Events start to stop of a file.

    Raises:
        HepgenError: if the file is damaged or was not written by `write_events`.
    """
    with open_h5(path, KIND) as file:
        levels = {level: Jagged(file[level]).read(start, stop) for level in ("particles", "truth") if level in file}
        columns = Columns(file["columns"]).read(start, stop)
    return Events(levels["particles"], columns, levels.get("truth"))


def iterate_events(path: str | Path, step: int = 2000) -> Iterator[Events]:
    """The events of a file in batches of at most `step`."""
    for start in range(0, count_events(path), step):
        yield read_events(path, start, start + step)
