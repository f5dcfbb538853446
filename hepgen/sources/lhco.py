"""Raw files of the LHC Olympics 2020: a pandas store of 700 × (pT, η, φ) an event, zero-padded, label last."""

from collections.abc import Iterator

import awkward as ak
import h5py
import hdf5plugin  # noqa: F401 - gives h5py the blosc filter of the official files
import numpy as np

from hepgen.errors import HepgenError
from hepgen.events import Events, wrap_phi
from hepgen.inputs import Part, parts_of
from hepgen.samples import LhcoSample
from hepgen.sources.files import readable, refuse, warn_empty
from hepgen.storage import open_h5

__all__ = ["stream"]

DATASET = "df/block0_values"
PARTICLES = 700
STEP = 1000


def stream(sample: LhcoSample, chunk: int = 0, seed: int = 0) -> Iterator[Events]:
    """The events of one chunk in batches of at most 1,000, so that memory stays bounded whatever the file's size.

    Particles are massless; those with pT = 0 are padding. `seed` is not used: nothing here is random.

    Args:
        sample: The files, how many of their events to use and in how many chunks.
        chunk: Which contiguous part of the events of all files, counted from 0.
        seed: Part of the interface of every source.

    Raises:
        HepgenError: if the file is missing, damaged, not in this layout, or holds unphysical numbers.

    References:
        Kasieczka, Nachman, Shih et al. 2021, arXiv:2101.08320.
    """
    for part in parts_of(sample, chunk):
        yield from _read_part(part, sample)


def _read_part(part: Part, sample: LhcoSample) -> Iterator[Events]:
    with readable(part.path, "HDF5"), open_h5(part.path) as file:
        dataset = _dataset(file, sample, part.path)
        for first, stop in part.batches(min(len(dataset), sample.events or len(dataset)), STEP):
            yield _convert(dataset[first:stop], sample, part.path, first)


def _dataset(file: h5py.File, sample: LhcoSample, path: str) -> h5py.Dataset:
    """The table of a file, once its layout has been checked."""
    dataset = file.get(DATASET)
    if not isinstance(dataset, h5py.Dataset):
        msg = (
            f"{path}: not a raw LHC Olympics file: it has no dataset {DATASET} "
            f"(top level: {', '.join(file) or 'empty'}); tables of observables are read with source: arrays"
        )
        raise HepgenError(msg)
    columns = 3 * PARTICLES
    if dataset.ndim != 2 or dataset.shape[1] not in (columns, columns + 1) or dataset.dtype.kind != "f":
        msg = (
            f"{path}: {DATASET} has shape {dataset.shape} and type {dataset.dtype}; "
            f"a raw LHC Olympics file has {columns} columns of real numbers, or {columns + 1} with the label"
        )
        raise HepgenError(msg)
    if len(dataset) == 0:
        warn_empty(f"{path}: {DATASET}")
    if dataset.shape[1] > columns and sample.label is not None:
        msg = f"{path}: the file has a label column; remove `label: {sample.label}` from its sample"
        raise HepgenError(msg)
    return dataset


def _convert(block: np.ndarray, sample: LhcoSample, path: str, first: int) -> Events:
    """Events of some rows of the table, the first of which is row `first` of the file."""
    padded = block[:, : 3 * PARTICLES].reshape(len(block), PARTICLES, 3)
    _check(block, padded[..., 0], path, first)
    present = padded[..., 0] > 0
    pt, eta, phi = padded[present].T
    flat = ak.zip({"pt": _single(pt), "eta": _single(eta), "phi": _single(wrap_phi(phi))})
    labels = block[:, 3 * PARTICLES] if block.shape[1] > 3 * PARTICLES else sample.label
    columns = {} if labels is None else {"label": np.broadcast_to(labels, len(block)).astype(np.int8)}
    return Events(ak.unflatten(flat, present.sum(1)), columns)


def _check(block: np.ndarray, pt: np.ndarray, path: str, first: int) -> None:
    """Raise `HepgenError` for the first row that holds no physical event."""
    refuse(~np.isfinite(block).all(1), path, first, "a number that is not finite")
    refuse((pt < 0).any(1), path, first, "a negative pT")
    if block.shape[1] > 3 * PARTICLES:
        refuse(~np.isin(block[:, -1], (0, 1)), path, first, "a label other than 0 and 1")


def _single(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values, np.float32)
