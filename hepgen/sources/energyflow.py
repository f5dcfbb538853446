"""EnergyFlow's data sets: quark and gluon jets, and Z + jets at particle and at detector level."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import awkward as ak
import numpy as np
from energyflow.utils.particle_utils import PARTICLE_MASSES

from hepgen.errors import HepgenError
from hepgen.events import Events, wrap_phi
from hepgen.inputs import Part, parts_of
from hepgen.observables import LN_RHO_FLOOR
from hepgen.registry import unknown_name
from hepgen.samples import EnergyflowSample
from hepgen.sources.files import refuse, rows_at_once, warn_empty
from hepgen.sources.npz import Member, open_arrays
from hepgen.table import Table

__all__ = ["stream"]

JETS_STEP, TABLE_STEP = 1000, 50_000
LEVELS = ("sim", "gen")
# Arrays of one number a jet, and the numbers (pt, y, φ, mass) in the array of jets.
NUMBERS = ("mults", "widths", "tau2s", "sdms", "zgs")
JET = 4
Arrays = dict[str, np.ndarray]


def stream(sample: EnergyflowSample, chunk: int = 0, seed: int = 0) -> Iterator[Events | Table]:
    """One chunk of a data set: the particles of quark and gluon jets, or the observables of Z + jets.

    ``qg_jets`` gives `Events`, each of one jet, labelled 1 for quarks; masses are those of the particles' PDG numbers,
    0 without these. ``zjets_delphes`` gives `Table` with both levels; a jet of pT 0 is missing at its level, and an
    event without either is left out. There τ21 is τ2 / width, as published: the width is τ1 about the jet's axis.
    `seed` is not used: nothing here is random.

    Args:
        sample: The files, which of the two they hold, and how many of their events to use.
        chunk: Which contiguous part of the events of all files, counted from 0.
        seed: Part of the interface of every source.

    Raises:
        HepgenError: if a file is missing, damaged, pickled or not in this layout, or holds unphysical numbers.

    References:
        Komiske, Metodiev, Thaler 2019, arXiv:1810.05165 (quark and gluon jets); Andreassen, Komiske, Metodiev,
        Nachman, Thaler 2020, arXiv:1911.09107 (Z + jets, and its observables).
    """
    read = _read_tables if sample.is_table else _read_jets
    for part in parts_of(sample, chunk):
        path = Path(part.path)
        if path.suffix != ".npz":
            msg = f"{path}: EnergyFlow's data sets are .npz files"
            raise HepgenError(msg)
        with open_arrays(path) as arrays:
            yield from read(arrays, part, sample)


def _array(arrays: Mapping[str, Member], name: str, path: str, shape: tuple[int | None, ...]) -> Member:
    """An array of numbers whose shape is the one given, where None stands for any length."""
    if name not in arrays:
        raise unknown_name(f"array of {path}", name, arrays)
    array = arrays[name]
    fits = len(shape) == array.ndim and all(a in (None, b) for a, b in zip(shape, array.shape, strict=True))
    if not fits or array.dtype.kind not in "fiu":
        expected = ", ".join("any" if length is None else str(length) for length in shape)
        msg = (
            f"{path}: array {name!r} has shape {array.shape} and type {array.dtype}, not numbers of shape ({expected})"
        )
        raise HepgenError(msg)
    return array


def _length(array: Member, sample: EnergyflowSample, path: str) -> int:
    if not len(array):
        warn_empty(path)
    return min(len(array), sample.events or len(array))


def _read_jets(arrays: Mapping[str, Member], part: Part, sample: EnergyflowSample) -> Iterator[Events]:
    last = arrays["X"].shape[-1:] if "X" in arrays else ()
    particles = _array(arrays, "X", part.path, (None, None, 3 if last == (3,) else 4))
    labels = _array(arrays, "y", part.path, (len(particles),))
    row = particles.dtype.itemsize * math.prod(particles.shape[1:])
    for first, stop in part.batches(_length(particles, sample, part.path), rows_at_once(row, JETS_STEP)):
        yield _jets(particles[first:stop].astype(np.float64), labels[first:stop], part.path, first)


def _jets(padded: np.ndarray, labels: np.ndarray, path: str, first: int) -> Events:
    """Events of particles (pt, y, φ and perhaps the PDG number), shape (n, m, 3 or 4), padded with pT = 0."""
    refuse(~np.isfinite(padded).all((1, 2)), path, first, "a number that is not finite")
    refuse((padded[..., 0] < 0).any(1), path, first, "a negative pT")
    refuse(~np.isin(labels, (0, 1)), path, first, "a label other than 0 (gluon) and 1 (quark)")
    present = padded[..., 0] > 0
    pt, y, phi, *pdg = padded[present].T
    event = np.nonzero(present)[0]
    mass = _masses(pdg[0], event, path, first) if pdg else np.zeros(len(pt))
    fields = {"pt": pt, "eta": _pseudorapidity(pt, y, mass), "phi": wrap_phi(phi), "mass": mass}
    flat = ak.zip({name: values.astype(np.float32) for name, values in fields.items()})
    return Events(ak.unflatten(flat, present.sum(1)), {"label": labels.astype(np.int8)})


def _masses(pdg: np.ndarray, event: np.ndarray, path: str, first: int) -> np.ndarray:
    """Masses of particles by their PDG numbers, shape (k,)."""
    kinds, which = np.unique(np.abs(pdg), return_inverse=True)
    unknown = [kind not in PARTICLE_MASSES for kind in kinds]
    if any(unknown):
        row = int(np.flatnonzero(np.array(unknown)[which])[0])
        number = f"{pdg[row]:g}"
        msg = f"{path}: event {first + event[row]} (counted from 0) has PDG number {number}, whose mass is not known"
        raise HepgenError(msg)
    return np.array([PARTICLE_MASSES[kind] for kind in kinds])[which]


def _pseudorapidity(pt: np.ndarray, y: np.ndarray, mass: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what overflows is refused where events are written
        return np.arcsinh(np.hypot(1, mass / pt) * np.sinh(y))


def _read_tables(arrays: Mapping[str, Member], part: Part, sample: EnergyflowSample) -> Iterator[Table]:
    length = len(_array(arrays, "gen_jets", part.path, (None, JET)))
    members = {
        f"{level}_{name}": _array(arrays, f"{level}_{name}", part.path, (length, JET) if name == "jets" else (length,))
        for level in LEVELS
        for name in ("jets", *NUMBERS)
    }
    for first, stop in part.batches(_length(members["gen_jets"], sample, part.path), TABLE_STEP):
        values = {name: member[first:stop].astype(np.float64) for name, member in members.items()}
        (columns, pass_reco), (truth, pass_truth) = (_observables(values, level, part.path, first) for level in LEVELS)
        table = Table({**columns, "pass_reco": pass_reco, "pass_truth": pass_truth}, truth)[pass_reco | pass_truth]
        if len(table):
            yield table


def _observables(values: Arrays, level: str, path: str, first: int) -> tuple[Arrays, np.ndarray]:
    """The observables of a level, each (n,) and NaN where the jet is missing, and where it is not, (n,)."""
    present = _check(values, level, path, first)
    pt, y, phi, mass = values[f"{level}_jets"].T
    mults, widths, tau2s, sdms, zgs = (values[f"{level}_{name}"] for name in NUMBERS)
    mass = np.maximum(mass, 0)  # rounding leaves some masses just below 0
    with np.errstate(all="ignore"):  # numbers of missing jets, which become NaN
        columns = {
            "pt": pt,
            "eta": _pseudorapidity(pt, y, mass),
            "phi": wrap_phi(phi),
            "mass": mass,
            "multiplicity": mults,
            "width": widths,
            "tau21": np.where(widths > 0, tau2s / widths, 0),
            "msd": np.maximum(sdms, 0),
            "ln_rho": np.log(np.maximum((sdms / pt) ** 2, math.exp(LN_RHO_FLOOR))),
            "zg": zgs,
        }
        single = {
            f"{name}_j1": np.where(present, column, np.nan).astype(np.float32) for name, column in columns.items()
        }
    for name, column in single.items():
        refuse(~np.isfinite(column) & present, path, first, f"numbers in {level}_jets that give no {name}")
    return single, present


def _check(values: Arrays, level: str, path: str, first: int) -> np.ndarray:
    """Raise `HepgenError` for numbers that no jet can have; otherwise tell which jets there are, (n,)."""
    pt = values[f"{level}_jets"][:, 0]
    refuse(~(pt >= 0) | np.isinf(pt), path, first, f"a pT in {level}_jets that is negative or not finite")
    for name in ("jets", *NUMBERS):
        bad = ~np.isfinite(values[f"{level}_{name}"]).reshape(len(pt), -1).all(1)
        refuse(bad & (pt > 0), path, first, f"a number in {level}_{name} that is not finite")
    return pt > 0
