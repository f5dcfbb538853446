"""HDF5 files as pandas writes them: events in the raw layout of the LHC Olympics, all else as a named frame."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import awkward as ak
import h5py
import numpy as np

from hepgen.errors import HepgenError
from hepgen.export.products import Batch, Product

__all__ = ["write"]

PARTICLES = 700
FIELDS = ("pt", "eta", "phi")
KEY = "df"
# Padding packs well; 50 events of 2,101 numbers are about the megabyte that HDF5 keeps in its cache.
CHUNK = 50
PACKED = {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def write(product: Product, path: Path) -> None:
    """Write a "fixed" frame of pandas under the key ``df``, and the attribute ``provenance``.

    Events have 700 × (pT, η, φ) in float64, zero-padded, and the label last if they have one. Other products have
    their columns by name and type; constituents of jets follow beside the frame as ``<list>/counts``, ``<list>/pt``...

    Raises:
        HepgenError: if the events hold what the layout of the LHC Olympics has no place for.

    References:
        The layout: Kasieczka, Nachman, Shih et al. 2021, arXiv:2101.08320.
    """
    olympics = product.kind == "events"
    if olympics:
        _refuse_other_than_olympics(product)
    # Without a cache of chunks a full disk fails where we write; h5py drops errors when it closes a dataset.
    with h5py.File(path, "w", rdcc_nbytes=0) as file:
        file.attrs["provenance"] = product.provenance
        (_write_olympics if olympics else _write_table)(file, product)
        file.flush()


def _refuse_other_than_olympics(product: Product) -> None:
    """Raise `HepgenError` if something would be lost."""
    lost = [name for name in product.columns if name != "label"]
    if "truth" in product.lists:
        lost.append("the particle level")
    fields = product.lists["particles"]
    if not set(FIELDS) <= set(fields):
        msg = f"{product.where}: its particles have {', '.join(fields)}, not {', '.join(FIELDS)}"
        raise HepgenError(msg)
    lost += [f"{name} of the particles" for name in fields if name not in (*FIELDS, "mass")]
    if "mass" in fields:
        massive = sum(int(np.count_nonzero(piece)) for piece in product.pieces("particles_mass"))
        lost += [f"the masses of {massive} particles"] if massive else []
    crowded, largest = 0, 0
    for counts in product.pieces("particles_counts"):
        crowded, largest = crowded + int((counts > PARTICLES).sum()), max(largest, int(counts.max()))
    if crowded:
        lost.append(f"more than {PARTICLES} particles in {crowded} of {product.rows} events (up to {largest})")
    if lost:
        msg = (
            f"{product.where}: the layout of the LHC Olympics has no place for {', '.join(lost)}; "
            "export to .root, .parquet or .npz, which lose nothing"
        )
        raise HepgenError(msg)


def _write_olympics(file: h5py.File, product: Product) -> None:
    columns = np.arange(len(FIELDS) * PARTICLES + len(product.columns))
    packed = PACKED | {"chunks": (min(CHUNK, product.rows), len(columns))}
    frame = _create_frame(file, columns, [columns], product.rows)
    values = frame.create_dataset("block0_values", (product.rows, len(columns)), np.float64, **packed)
    _fill(frame, [(values, _padded)], product)


def _padded(batch: Batch) -> np.ndarray:
    """Events as rows of 700 particles, and the label if they have one."""
    counts, flat = ak.to_numpy(ak.num(batch["particles"])), ak.flatten(batch["particles"])
    particles = np.zeros((len(counts), PARTICLES, len(FIELDS)))
    present = np.arange(PARTICLES) < counts[:, None]
    particles[present] = np.stack([ak.to_numpy(flat[name]) for name in FIELDS], axis=1)
    rows = particles.reshape(len(counts), -1)
    return np.column_stack([rows, batch["label"]]) if "label" in batch else rows


def _write_table(file: h5py.File, product: Product) -> None:
    """A frame keeps the columns of each type side by side in a block."""
    blocks: dict[np.dtype, list[str]] = {}
    for name in product.columns:
        blocks.setdefault(product.dtype(name), []).append(name)
    frame = _create_frame(file, _encoded(product.columns), [_encoded(names) for names in blocks.values()], product.rows)
    parts = []
    for index, (dtype, names) in enumerate(blocks.items()):
        # pandas takes nothing but HDF5's bit fields for Booleans.
        stored = h5py.h5t.NATIVE_B8 if dtype.kind == "b" else dtype
        values = frame.create_dataset(f"block{index}_values", (product.rows, len(names)), stored)
        parts.append((values, partial(_side_by_side, names=names)))
    _fill(frame, parts, product)
    for name, fields in product.lists.items():
        for field in ("counts", *fields):
            _write_flat(file, f"{name}/{field}", product, f"{name}_{field}")


def _encoded(names: Iterable[str]) -> np.ndarray:
    return np.array([name.encode() for name in names])


def _side_by_side(batch: Batch, names: Sequence[str]) -> np.ndarray:
    rows = np.column_stack([batch[name] for name in names])
    return rows.view(np.uint8) if rows.dtype.kind == "b" else rows


def _create_frame(file: h5py.File, columns: np.ndarray, blocks: Sequence[np.ndarray], rows: int) -> h5py.Group:
    """A frame without its values, as pandas has laid them out since its version 0.15."""
    frame = file.create_group(KEY)
    about = {"pandas_type": "frame", "pandas_version": "0.15.2", "encoding": "UTF-8", "errors": "strict"}
    frame.attrs.update(about | {"ndim": 2, "nblocks": len(blocks)})
    items = {f"block{index}_items": names for index, names in enumerate(blocks)}
    for name, values in {"axis0": columns, **items}.items():
        frame[name] = values
        frame[name].attrs["kind"] = "string" if values.dtype.kind == "S" else "integer"
    frame.create_dataset("axis1", (rows,), np.int64).attrs["kind"] = "integer"
    for name in ("axis0", "axis1", *items):
        frame.attrs[f"{name}_variety"] = "regular"
    return frame


def _fill(
    frame: h5py.Group, blocks: Sequence[tuple[h5py.Dataset, Callable[[Batch], np.ndarray]]], product: Product
) -> None:
    """Write the values of each block, and the numbers of the rows, batch by batch."""
    for values, _ in blocks:
        values.attrs["transposed"] = 1
    start = 0
    for batch in product.batches():
        for values, rows_of in blocks:
            rows = rows_of(batch)
            values[start : start + len(rows)] = rows
        frame["axis1"][start : start + len(rows)] = np.arange(start, start + len(rows))
        start += len(rows)


def _write_flat(file: h5py.File, target: str, product: Product, name: str) -> None:
    dtype, length = product.arrays[name]
    dataset, start = file.create_dataset(target, (length,), dtype), 0
    for piece in product.pieces(name):
        dataset[start : start + len(piece)] = piece
        start += len(piece)
