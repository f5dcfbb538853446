"""Arrays of particles that are padded to the same number in each event: .npy, .npz and HDF5 files."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import awkward as ak
import h5py
import hdf5plugin  # noqa: F401 - gives h5py the filters that pandas and PyTables write with
import numpy as np

from hepgen.errors import HepgenError
from hepgen.events import Events, mass_of, polar, wrap_phi
from hepgen.inputs import Part, parts_of
from hepgen.registry import unknown_name
from hepgen.samples import PaddedSample
from hepgen.sources.files import MAX_EVENT, SMALLEST, readable, refuse, rows_at_once, warn_empty
from hepgen.sources.npz import Member, open_arrays
from hepgen.storage import open_h5

__all__ = ["stream"]

STEP = 1000


class Field:
    """A field of a compound dataset, such as the blocks of numbers in a pandas "table" store, sliced by row."""

    def __init__(self, dataset: h5py.Dataset, name: str) -> None:
        inner = dataset.dtype[name]
        self.shape, self.dtype = (*dataset.shape, *inner.shape), inner.base
        self._values = dataset.fields(name)

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._values[rows]


Array = np.ndarray | Member | h5py.Dataset | Field


def stream(sample: PaddedSample, chunk: int = 0, seed: int = 0) -> Iterator[Events]:
    """The events of one chunk in batches of at most 1,000.

    Arrays have the shape (events, particles, fields), or are flat: (events, columns). Particles without transverse
    momentum are padding. An energy is turned into a mass, which is 0 where rounding leaves m² < 0. `seed` is not used:
    nothing here is random.

    Arrays are named as in the file; ``a/b:field`` is a field of the compound dataset ``a/b`` of an HDF5 file, and
    ``name:column`` a column of an array, for the label.

    Args:
        sample: The files, their array, and what its numbers are.
        chunk: Which contiguous part of the events of all files, counted from 0.
        seed: Part of the interface of every source.

    Raises:
        HepgenError: if a file is missing, damaged or pickled, lacks an array (the message lists those it has),
            or holds unphysical numbers, or the array's shape does not fit the fields.
    """
    for part in parts_of(sample, chunk):
        with _open(Path(part.path)) as arrays:
            yield from _read_part(arrays, part, sample)


def _read_part(arrays: Mapping[str, Array], part: Part, sample: PaddedSample) -> Iterator[Events]:
    particles = _particles(arrays, sample, part.path)
    length, *shape = particles.shape
    labels = _labels(arrays, sample, part.path, length)
    row = particles.dtype.itemsize * math.prod(shape)
    if not length:
        warn_empty(part.path)
    if row > MAX_EVENT:
        msg = f"{part.path}: takes {row} bytes an event, more than any event should"
        raise HepgenError(msg)
    for first, stop in part.batches(min(length, sample.events or length), rows_at_once(row, STEP)):
        block = np.asarray(particles[first:stop])
        label = _column(block, sample) if labels is None else labels[first:stop]
        yield _convert(_padded(block, sample), label, sample, part.path, first)


@contextmanager
def _open(path: Path) -> Iterator[Mapping[str, Array]]:
    if path.suffix in (".npy", ".npz"):
        with open_arrays(path) as arrays:
            yield arrays
    elif path.suffix in (".h5", ".hdf5"):
        with readable(path, "HDF5"), open_h5(path) as file:
            arrays: dict[str, Array] = {}
            file.visititems(lambda name, item: arrays.update(_fields(name, item)))
            yield arrays
    else:
        msg = (
            f"{path}: cannot read arrays from {path.suffix or 'a file without an ending'}; "
            "known: .npy, .npz, .h5, .hdf5"
        )
        raise HepgenError(msg)


def _fields(name: str, item: h5py.Dataset | h5py.Group) -> dict[str, Array]:
    """A dataset by its name, or the fields of a compound one."""
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        return {}
    if item.dtype.names is None:
        return {name: item}
    return {f"{name}:{field}": Field(item, field) for field in item.dtype.names}


def _particles(arrays: Mapping[str, Array], sample: PaddedSample, path: str) -> Array:
    """The array of particles, once its shape has been checked."""
    names = [sample.array] if sample.array else [name for name in arrays if len(arrays[name].shape) > 1]
    if len(names) != 1:
        found = f"it has {', '.join(names)}" if names else "it has none of more than one dimension"
        msg = f"{path}: name the array of particles with `array`; {found}"
        raise HepgenError(msg)
    array = _look_up(arrays, names[0], path)
    fields, shape = len(sample.fields), array.shape
    if len(shape) == 3:
        fits = shape[2] == fields and not sample.first and sample.particles in (None, shape[1])
        expected = f"(events, particles, {fields}), as `fields` says; `first` and `particles` are for flat tables"
    else:
        needed = sample.first + (sample.particles or 0) * fields
        fits = len(shape) == 2 and sample.particles is not None and shape[1] >= needed
        expected = f"{needed} columns or more, with {fields} for each of the `particles`, which a flat table needs"
    if not fits:
        msg = f"{path}: array {names[0]!r} has shape {shape}; expected {expected}"
        raise HepgenError(msg)
    return array


def _look_up(arrays: Mapping[str, Array], name: str, path: str) -> Array:
    if name not in arrays:
        raise unknown_name(f"array of {path}", name, arrays)
    array = arrays[name]
    if array.dtype.kind not in "fiub":
        msg = f"{path}: array {name!r} holds {array.dtype}, not numbers"
        raise HepgenError(msg)
    return array


class Labels:
    """The labels of a file's events: an array of them, or a column of one."""

    def __init__(self, array: Array, column: int) -> None:
        self._array, self._column = array, column

    def __getitem__(self, rows: slice) -> np.ndarray:
        values = np.asarray(self._array[rows])
        return values.reshape(len(values), -1)[:, self._column]


def _labels(arrays: Mapping[str, Array], sample: PaddedSample, path: str, length: int) -> Labels | None:
    """Where the labels of events are, if `sample.label` names an array."""
    if not isinstance(sample.label, str):
        return None
    name, column = sample.label, 0
    before, _, after = name.rpartition(":")
    if name not in arrays and before in arrays and after.isdecimal():
        name, column = before, int(after)
    array = _look_up(arrays, name, path)
    width = math.prod(array.shape[1:])
    if array.shape[:1] != (length,) or column >= width or (width > 1 and name == sample.label):
        msg = f"{path}: label {sample.label!r} is no number for each of {length} events; its array is {array.shape}"
        raise HepgenError(msg)
    return Labels(array, column)


def _column(block: np.ndarray, sample: PaddedSample) -> np.ndarray | int | None:
    """The labels of some rows: the same for all, or a column of the flat table."""
    if sample.label is None or sample.label in (0, 1):
        return sample.label
    if block.ndim != 2 or not -block.shape[1] <= sample.label < block.shape[1]:
        msg = f"{sample.path}: label {sample.label} is no column of an array of shape (events, {block.shape[1:]})"
        raise HepgenError(msg)
    return block[:, sample.label]


def _padded(block: np.ndarray, sample: PaddedSample) -> np.ndarray:
    """Rows as particles, shape (n, particles, fields), float64."""
    if block.ndim == 2:
        stop = sample.first + sample.particles * len(sample.fields)
        block = block[:, sample.first : stop].reshape(len(block), sample.particles, len(sample.fields))
    return block.astype(np.float64)


def _convert(
    padded: np.ndarray, labels: np.ndarray | int | None, sample: PaddedSample, path: str, first: int
) -> Events:
    """Events of some rows, the first of which is event `first` of the file."""
    where = {name: index for index, name in enumerate(sample.fields) if name != "other"}
    used = {name: padded[..., index] for name, index in where.items()}
    refuse(~np.all([np.isfinite(v).all(1) for v in used.values()], 0), path, first, "a number that is not finite")
    refuse((used.get("pt", padded[..., :0]) < 0).any(1), path, first, "a negative pT")
    present = (np.hypot(used["px"], used["py"]) if "px" in used else used["pt"]) * sample.scale > SMALLEST
    flat = _momenta({name: values[present] for name, values in used.items()}, sample.scale)
    finite = np.all([np.isfinite(values) for values in flat.values()], 0)
    refuse(np.bincount(np.nonzero(present)[0][~finite], minlength=len(padded)) > 0, path, first, "too large a number")
    columns = {} if labels is None else {"label": np.broadcast_to(labels, len(padded))}
    for values in columns.values():
        refuse(~np.isin(values, (0, 1)), path, first, "a label other than 0 and 1")
    columns = {name: values.astype(np.int8) for name, values in columns.items()}
    return Events(ak.unflatten(ak.zip(flat), present.sum(1)), columns)


def _momenta(given: dict[str, np.ndarray], scale: float) -> dict[str, np.ndarray]:
    """pT, η, φ and, where it is known, mass, in GeV and float32, of particles of positive pT."""
    with np.errstate(over="ignore", invalid="ignore"):
        if "px" in given:
            pz = given["pz"]
            pt, eta, phi = polar(given["px"], given["py"], pz)
        else:
            pt, eta, phi = given["pt"], given["eta"], wrap_phi(given["phi"])
            pz = pt * np.sinh(eta)
        momenta = {"pt": pt, "eta": eta, "phi": phi}
        if "mass" in given:
            momenta["mass"] = np.maximum(given["mass"], 0)
        elif "energy" in given:
            momenta["mass"] = mass_of(given["energy"], pt, pz)
        factors = {"pt": scale, "mass": scale}
        return {name: (values * factors.get(name, 1)).astype(np.float32) for name, values in momenta.items()}
