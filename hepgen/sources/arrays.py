"""Tables of observables from .npy, .npz, HDF5, .csv and Parquet files, by column index or name."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from typing import TextIO

import h5py
import hdf5plugin  # noqa: F401 - gives h5py the filters that pandas and PyTables write with
import numpy as np
import pyarrow.parquet as pq

from hepgen.errors import HepgenError
from hepgen.expressions import Expression
from hepgen.inputs import Part, parts_of
from hepgen.registry import unknown_name
from hepgen.samples import EVENT_COLUMNS, ArraysSample, Column
from hepgen.sources.files import readable
from hepgen.sources.npz import Member, open_arrays
from hepgen.storage import open_h5
from hepgen.table import Table

__all__ = ["Reader", "csv_columns", "hdf5_contents", "read_frame", "stream"]

STEP = 50_000
# At which level a row exists.
FLAGS = ("pass_reco", "pass_truth")

Key = int | str
Block = dict[Key, np.ndarray]
Array = np.ndarray | Member | h5py.Dataset


@dataclass(frozen=True)
class Reader:
    """An open file: how many rows and which columns it has; `read(keys, start, stop)` goes forward only."""

    rows: int
    keys: Sequence[Key]
    read: Callable[[Sequence[Key], int, int], Block]


def stream(sample: ArraysSample, chunk: int = 0, seed: int = 0) -> Iterator[Table]:
    """The rows of one chunk as tables of at most 50,000 rows.

    Observables become float32, ``label`` int8 and ``weight`` float64. At a level where a row does not exist, as
    ``pass_reco`` and ``pass_truth`` say, its observables are NaN whatever the file has there; rows of neither level are
    left out. `seed` is not used: nothing here is random.

    Args:
        sample: The files and the columns to read, each with its factor to GeV or radians.
        chunk: Which contiguous part of the rows of all files, counted from 0.
        seed: Part of the interface of every source.

    Raises:
        HepgenError: if the file is missing, damaged, empty or pickled, lacks a column (the message lists those
            it has), or holds a number that is not finite.
    """
    for part in parts_of(sample, chunk):
        yield from _read_part(part, sample)


def _read_part(part: Part, sample: ArraysSample) -> Iterator[Table]:
    path = Path(part.path)
    levels = [
        {name: c if isinstance(c, Column) else Column(column=c) for name, c in level.items()}
        for level in (sample.columns, sample.truth)
    ]
    with _open(path) as reader:
        keys = list(dict.fromkeys(column.column for level in levels for column in level.values()))
        for key in keys:
            if key not in reader.keys:
                raise unknown_name(f"column of {path}", str(key), map(str, reader.keys))
        if reader.rows == 0:
            msg = f"{path}: holds no row"
            raise HepgenError(msg)
        for first, stop in part.batches(reader.rows, STEP):
            yield _table(reader.read(keys, first, stop), levels, sample, path, first)


def _table(block: Block, levels: Sequence[dict[str, Column]], sample: ArraysSample, path: Path, first: int) -> Table:
    columns, truth = levels

    def values(name: str, column: Column, needed: np.ndarray) -> np.ndarray:
        return _values(name, column, block[column.column], path, first, needed)

    rows = first + np.arange(len(next(iter(block.values()))))
    everything = np.ones(len(rows), bool)
    flags = {name: values(name, columns[name], everything) for name in FLAGS if name in columns}
    seen, true = (flags.get(name, everything) for name in FLAGS)
    found = {
        name: flags[name] if name in flags else values(name, column, everything if name in EVENT_COLUMNS else seen)
        for name, column in columns.items()
    }
    if sample.label is not None:
        found["label"] = np.full(len(rows), sample.label, np.int8)
    kept = seen | true if truth else seen
    if sample.cut is not None:
        kept = kept & _passing(sample.cut, {"row": rows, **found}, path)
    table = Table(found, {name: values(name, column, true) for name, column in truth.items()})
    return table if kept.all() else table[kept]


def _passing(cut: str, columns: dict[str, np.ndarray], path: Path) -> np.ndarray:
    """Which rows fulfil a condition."""
    try:
        value = np.asarray(Expression(cut)(columns))
    except HepgenError as error:
        msg = f"{path}: cut: {error}"
        raise HepgenError(msg) from error
    if value.dtype != bool or value.shape != columns["row"].shape:
        msg = f"{path}: cut {cut!r} says neither yes nor no of each row; write a condition, e.g. label == 0"
        raise HepgenError(msg)
    return value


def _values(name: str, column: Column, raw: np.ndarray, path: Path, first: int, needed: np.ndarray) -> np.ndarray:
    """One checked and scaled column, NaN in rows where it is not needed."""
    where = f"{path}: column {column.column!r} ({name})"
    if raw.dtype.kind not in "fiub" or raw.ndim != 1:
        msg = f"{where} holds {raw.dtype} of shape {raw.shape}, not one number a row"
        raise HepgenError(msg)
    values = raw.astype(np.float64) * column.scale
    with np.errstate(over="ignore"):
        typed = values.astype(np.float64 if name == "weight" else np.float32)
    binary = name in ("label", *FLAGS)
    bad = ~np.isin(values, (0, 1)) if binary else ~np.isfinite(typed) & needed
    if bad.any():
        what = "neither 0 nor 1" if binary else "not finite"
        msg = f"{where}: {bad.sum()} values are {what}, the first being {values[bad][0]} in row {first + bad.argmax()}"
        raise HepgenError(msg)
    if binary:
        return values.astype(np.int8 if name == "label" else bool)
    return typed if needed.all() else np.where(needed, typed, np.nan).astype(typed.dtype)


@contextmanager
def _open(path: Path) -> Iterator[Reader]:
    openers = {".npy": _npy, ".npz": _npz, ".h5": _hdf5, ".hdf5": _hdf5, ".csv": _csv, ".parquet": _parquet}
    if path.suffix not in openers:
        msg = (
            f"{path}: cannot read a table from {path.suffix or 'a file without an ending'}; known: {', '.join(openers)}"
        )
        raise HepgenError(msg)
    with readable(path, path.suffix), openers[path.suffix](path) as reader:
        yield reader


def _read_array(array: Array, path: Path) -> Reader:
    """Named fields of a structured array, or the columns of a plain one by index."""
    if not array.dtype.names and array.ndim != 2:
        msg = f"{path}: has shape {array.shape}; a table has rows and columns"
        raise HepgenError(msg)

    def read(keys: Sequence[Key], start: int, stop: int) -> Block:
        rows = array[start:stop]
        return {key: rows[key] if array.dtype.names else rows[:, key] for key in keys}

    return Reader(len(array), array.dtype.names or range(array.shape[1]), read)


@contextmanager
def _npy(path: Path) -> Iterator[Reader]:
    with open_arrays(path) as arrays:
        yield _read_array(*arrays.values(), path)


@contextmanager
def _npz(path: Path) -> Iterator[Reader]:
    """Arrays of one number a row by name, or the columns of the only table by index."""
    with open_arrays(path) as arrays:
        yield _read_columns(dict(arrays), path)


@contextmanager
def _hdf5(path: Path) -> Iterator[Reader]:
    """Datasets by path, the columns of a pandas "fixed" frame by name, or those of the only table by index."""
    with open_h5(path) as file:
        arrays, frame = hdf5_contents(file)
        yield _read_columns(arrays, path) if frame is None else read_frame(frame)


def hdf5_contents(file: h5py.File) -> tuple[dict[str, h5py.Dataset], h5py.Group | None]:
    """The datasets of a file by path, and the first pandas "fixed" frame if it holds one."""
    items: dict[str, h5py.Dataset | h5py.Group] = {"": file}
    file.visititems(items.__setitem__)
    arrays = {name: item for name, item in items.items() if isinstance(item, h5py.Dataset)}
    # Of groups alone: whether a dataset holds a name is asked of each of its rows.
    groups = (item for item in items.values() if isinstance(item, h5py.Group))
    return arrays, next((group for group in groups if "pandas_type" in group.attrs and "axis0" in group), None)


def _read_columns(arrays: Mapping[str, Array], path: Path) -> Reader:
    only = next(iter(arrays.values()), None)
    if len(arrays) == 1 and (only.ndim != 1 or only.dtype.names):
        return _read_array(only, path)
    arrays = {name: array for name, array in arrays.items() if array.ndim == 1}
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        msg = f"{path}: its columns differ in length ({', '.join(f'{n}: {k}' for n, k in lengths.items())})"
        raise HepgenError(msg)
    rows = next(iter(lengths.values()), 0)
    return Reader(rows, list(arrays), lambda keys, a, b: {key: arrays[key][a:b] for key in keys})


def read_frame(frame: h5py.Group) -> Reader:
    """A pandas "fixed" frame: one two-dimensional block for each type of number; columns of text are left out."""
    places: dict[Key, tuple[str, int]] = {}
    for block in range(int(frame.attrs["nblocks"])):
        if frame[f"block{block}_values"].ndim == 2:
            for index, name in enumerate(_names(frame[f"block{block}_items"])):
                places[name] = (f"block{block}_values", index)

    def read(keys: Sequence[Key], start: int, stop: int) -> Block:
        blocks = {block: frame[block][start:stop] for block in {places[key][0] for key in keys}}
        return {key: blocks[places[key][0]][:, places[key][1]] for key in keys}

    return Reader(len(frame["axis1"]), [name for name in _names(frame["axis0"]) if name in places], read)


def _names(dataset: h5py.Dataset) -> list[Key]:
    return [name.decode() if isinstance(name, bytes) else name for name in dataset[:].tolist()]


@contextmanager
def _csv(path: Path) -> Iterator[Reader]:
    """Comma-separated numbers, with or without a line of names."""
    with path.open(encoding="utf-8-sig") as handle:
        rows = sum(1 for _ in csv_columns(handle, path)[1])
        handle.seek(0)
        keys, lines = csv_columns(handle, path)
        position = 0

        def read(wanted: Sequence[Key], start: int, stop: int) -> Block:
            nonlocal position
            skipped = islice(lines, start - position, None)
            block = np.loadtxt(islice(skipped, stop - start), delimiter=",", ndmin=2)
            position = stop
            return {key: block[:, keys.index(key)] for key in wanted}

        yield Reader(rows, keys, read)


def csv_columns(handle: TextIO, path: str | Path) -> tuple[Sequence[Key], Iterator[str]]:
    """The columns of comma-separated numbers, by name if a line of names comes first, and the lines of numbers.

    Args:
        handle: The file, at its beginning, open as ``utf-8-sig``, for some programs write a byte-order mark.
        path: What to call it in errors.

    Raises:
        HepgenError: if two columns have the same name.
    """
    lines = (line for line in handle if line.strip())
    first = next(lines, "")
    cells = [cell.strip() for cell in next(csv.reader([first.lstrip("#").strip()], skipinitialspace=True))]
    if all(map(_is_number, cells)):
        return range(len(cells)), lines if first.startswith("#") else chain([first] if first else [], lines)
    name, count = Counter(cells).most_common(1)[0]
    if count > 1:
        msg = f"{path}: {count} columns are called {name!r}, so that none of them can be meant; rename them"
        raise HepgenError(msg)
    return cells, lines


@contextmanager
def _parquet(path: Path) -> Iterator[Reader]:
    """Columns by name, of which one group of rows at a time is in memory."""
    with pq.ParquetFile(path) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        ends = np.cumsum(sizes, dtype=np.int64)

        @lru_cache(maxsize=1)
        def columns(group: int, keys: tuple[str, ...]) -> Block:
            table = file.read_row_group(group, columns=list(keys), use_threads=False)
            return {key: table[key].to_numpy() for key in keys}

        def read(keys: Sequence[Key], start: int, stop: int) -> Block:
            first, last = np.searchsorted(ends, [start, stop - 1], "right")
            pieces = []
            for group in range(first, last + 1):
                begin = int(ends[group]) - sizes[group]
                part = slice(max(start - begin, 0), stop - begin)
                pieces.append({key: values[part] for key, values in columns(group, tuple(keys)).items()})
            return {key: np.concatenate([piece[key] for piece in pieces]) for key in keys}

        yield Reader(sum(sizes), file.schema_arrow.names, read)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
