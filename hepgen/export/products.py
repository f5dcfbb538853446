"""Any product that has a row for each event, as a stream of columnar batches."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import awkward as ak
import h5py
import numpy as np

from hepgen.errors import HepgenError
from hepgen.inputs import expand
from hepgen.sources.files import readable
from hepgen.storage import Jagged, open_h5

__all__ = ["Batch", "Product", "open_products"]

# Rows of a batch, with and without lists, and numbers of a piece: some 10 MB each.
LISTS, ROWS, PIECE = 2_000, 50_000, 1_000_000

# The types of numbers that every format has.
NUMBERS = [np.dtype(name) for name in ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")]

Batch = dict[str, np.ndarray | ak.Array]


class Content(NamedTuple):
    """What an open file holds for each of its rows.

    Attributes:
        columns: One number a row: datasets, or what is sliced like them.
        lists: Groups that `Jagged` wrote.
        maker: The model or method whose rows these are; empty for events and observables.
        further: Tables of other rows beside these, by name.
    """

    columns: dict[str, Any]
    lists: dict[str, h5py.Group]
    maker: str = ""
    further: dict[str, "Content"] = {}

    @property
    def rows(self) -> int:
        """How many rows there are."""
        for group in self.lists.values():
            return len(group["counts"])
        return len(next(iter(self.columns.values()), ()))

    def arrays(self) -> dict[str, Any]:
        """Everything as arrays of one dimension, lists as the numbers of their entries and as flat fields."""
        flat = dict(self.columns)
        for name, group in self.lists.items():
            flat[f"{name}_counts"] = group["counts"]
            flat |= {f"{name}_{field}": values for field, values in group["fields"].items()}
        return flat


class _Row:
    """One row of a dataset of two dimensions, sliced like a dataset of one."""

    ndim = 1

    def __init__(self, dataset: h5py.Dataset, index: int) -> None:
        self.dataset, self.index, self.dtype = dataset, index, dataset.dtype

    def __len__(self) -> int:
        return self.dataset.shape[1]

    def __getitem__(self, part: slice) -> np.ndarray:
        return self.dataset[self.index, part]


def _events(file: h5py.File) -> Content:
    return Content(dict(file["columns"]), {level: file[level] for level in ("particles", "truth") if level in file})


def _observables(file: h5py.File) -> Content:
    truth = {f"truth_{name}": values for name, values in file["truth"].items()}
    _refuse_clashes(file.filename, [*file["columns"], *truth])
    return Content(dict(file["columns"]) | truth, _jets(file))


def _jets(file: h5py.File) -> dict[str, h5py.Group]:
    """The constituents of the jets of each rank that are there."""
    return {f"constituents_j{int(rank) + 1}": jet for rank, jet in file.get("constituents", {}).items()}


def _generated(file: h5py.File) -> Content:
    about = json.loads(file.attrs["generation"])
    content = _made(file, dict(file["columns"]), about["model"], about["seed"])
    return content._replace(lists=_jets(file))


def _scores(file: h5py.File) -> Content:
    scores = {"score" if kind == "default" else f"score_{kind}": values for kind, values in file["score"].items()}
    return _made(file, scores, file.attrs["name"], file.attrs["seed"])


def _unfolded(file: h5py.File) -> Content:
    method = str(file.attrs["method"])
    if "weights" not in file:
        msg = (
            f"{file.filename}: {method!r} unfolds spectra and gives no event a weight, so there are no rows to export; "
            "its spectra are what `hepgen unfolding hepdata` writes"
        )
        raise HepgenError(msg)
    columns = {f"weight_{i + 1}": _Row(file["weights"], i) for i in range(len(file["weights"]))}
    return _made(file, columns, f"{method}, {file.attrs['variation']}", file.attrs["seed"])


def _bundle(file: h5py.File) -> Content:
    about = json.loads(file.attrs["provenance"])["bundle"]
    others = file.get("systematics", {})
    further = {f"systematic_{name}": _weighted(group, about["seeds"]) for name, group in others.items()}
    return _weighted(file["events"], about["seeds"])._replace(maker=about["method"], further=further)


def _weighted(group: h5py.Group, seeds: Sequence[int]) -> Content:
    """Events with their weights, replicas and seeds side by side."""
    weights = {"weight": group["weight"]}
    for name, rows in group["weights"].items():
        prefix = f"weight_{name.replace('-', '_')}_seed"
        weights |= {f"{prefix}_{seed}": _Row(rows, index) for index, seed in enumerate(seeds)}
    _refuse_clashes(group.file.filename, [*group["columns"], *weights])
    return Content(dict(group["columns"]) | weights, {})


def _made(file: h5py.File, columns: dict[str, Any], maker: str, seed: int) -> Content:
    """The rows of one training, told apart from those of others by a column ``seed``."""
    _refuse_clashes(file.filename, [*columns, "seed"])
    rows = len(next(iter(columns.values())))
    return Content(columns | {"seed": np.broadcast_to(np.int64(seed), rows)}, {}, str(maker))


KINDS: dict[str, Callable[[h5py.File], Content]] = {
    "events": _events,
    "observables": _observables,
    "generated": _generated,
    "scores": _scores,
    "unfolded": _unfolded,
    "bundle": _bundle,
}


@dataclass(frozen=True)
class Product:
    """Rows of one kind in one or more files, with the same columns in each.

    Attributes:
        kind: A key of `KINDS`.
        paths: The files, in order.
        rows: How many rows they hold together.
        columns: Names of the columns of one number a row.
        lists: Names of the lists, and of the fields of their entries.
        arrays: Types and lengths of everything as flat arrays; see `Content.arrays`.
        provenance: What the product was made from, as JSON; a list of these where the files differ in it.
        maker: See `Content`.
        part: Which of `Content.further` these rows are; empty for the product itself.
        further: The other tables of the same file.
    """

    kind: str
    paths: tuple[str, ...]
    rows: int
    columns: tuple[str, ...]
    lists: dict[str, tuple[str, ...]]
    arrays: dict[str, tuple[np.dtype, int]]
    provenance: str
    maker: str
    part: str = ""
    further: dict[str, "Product"] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """The files, for messages."""
        return self.paths[0] if len(self.paths) == 1 else f"{self.paths[0]} and {len(self.paths) - 1} more"

    def dtype(self, name: str) -> np.dtype:
        """The type of one of `arrays`."""
        return self.arrays[name][0]

    def batches(self) -> Iterator[Batch]:
        """The rows in batches: columns of shape (n,), and lists of type ``n * var * {field: number, ...}``."""
        step = LISTS if self.lists else ROWS
        for path in self.paths:
            with readable(path, "HDF5"), open_h5(path, self.kind) as file:
                content = self._content(file)
                for start in range(0, content.rows, step):
                    stop = start + step
                    batch: Batch = {name: content.columns[name][start:stop] for name in self.columns}
                    yield batch | {name: Jagged(content.lists[name]).read(start, stop) for name in self.lists}

    def pieces(self, name: str) -> Iterator[np.ndarray]:
        """One of `arrays`, piece by piece."""
        for path in self.paths:
            with readable(path, "HDF5"), open_h5(path, self.kind) as file:
                values = self._content(file).arrays()[name]
                for start in range(0, len(values), PIECE):
                    yield values[start : start + PIECE]

    def _content(self, file: h5py.File) -> Content:
        content = KINDS[self.kind](file)
        return content.further[self.part] if self.part else content


def open_products(paths: Sequence[str | Path]) -> Product:
    """Look at products without reading them whole, and join them in the order given.

    Raises:
        HepgenError: if a file is missing, damaged, given twice or no product with rows, or they differ in kind,
            model or columns.
    """
    found = [_look_at(path) for path in expand([str(path) for path in paths])]
    if not found:
        msg = "no file to export was given"
        raise HepgenError(msg)
    first = found[0]
    if len(found) == 1:
        return first
    for other in found[1:]:
        _refuse_other(first, other)
    lengths = Counter[str]()
    for part in found:
        lengths.update({name: length for name, (_, length) in part.arrays.items()})
    provenance = list(dict.fromkeys(part.provenance for part in found))
    return Product(
        first.kind,
        tuple(path for part in found for path in part.paths),
        sum(part.rows for part in found),
        first.columns,
        first.lists,
        {name: (dtype, lengths[name]) for name, (dtype, _) in first.arrays.items()},
        provenance[0] if len(provenance) == 1 else f"[{', '.join(provenance)}]",
        first.maker,
    )


def _look_at(path: str) -> Product:
    """One file, its layout checked.

    Raises:
        HepgenError: as in `open_products`.
    """
    with readable(path, "HDF5"), open_h5(path) as file:
        kind = str(file.attrs.get("hepgen", "an HDF5 file that hepgen did not write"))
        if kind not in KINDS:
            msg = f"{path}: is {kind}, not a product that can be exported; these are: {', '.join(KINDS)}"
            raise HepgenError(msg)
        content, provenance = KINDS[kind](file), str(file.attrs["provenance"])
        parts = {name: _describe(path, kind, part, provenance) for name, part in content.further.items()}
        further = {name: replace(part, part=name) for name, part in parts.items()}
        return replace(_describe(path, kind, content, provenance), further=further)


def _describe(path: str, kind: str, content: Content, provenance: str) -> Product:
    arrays, rows = {name: (values.dtype, len(values)) for name, values in content.arrays().items()}, content.rows
    if rows == 0:
        msg = f"{path}: holds no row to export"
        raise HepgenError(msg)
    lists = {name: tuple(group["fields"]) for name, group in content.lists.items()}
    expected = dict.fromkeys(content.columns, rows)
    for name, group in content.lists.items():
        expected |= dict.fromkeys((f"{name}_{field}" for field in lists[name]), _entries(group["counts"]))
        expected[f"{name}_counts"] = rows
    for name, values in content.arrays().items():
        _check(path, name, values, expected[name])
    _refuse_clashes(path, _names(content.columns, lists))
    return Product(kind, (path,), rows, tuple(content.columns), lists, arrays, provenance, content.maker)


def _check(path: str, name: str, values: Any, length: int) -> None:
    """Raise `HepgenError` unless an array holds as many numbers as it should, of a type that every format has."""
    if values.dtype not in NUMBERS:
        msg = f"{path}: {name} is of type {values.dtype}; exported are {', '.join(map(str, NUMBERS))}"
        raise HepgenError(msg)
    if values.ndim != 1 or len(values) != length:
        msg = f"{path}: damaged: {name} does not hold a number for each row, or as many as its counts say"
        raise HepgenError(msg)


def _entries(counts: h5py.Dataset) -> int:
    """How many entries lists of these lengths have; −1 if a length is negative."""
    total = 0
    for start in range(0, len(counts), PIECE):
        piece = counts[start : start + PIECE]
        if piece.min() < 0:
            return -1
        total += int(piece.sum())
    return total


def _names(columns: Iterable[str], lists: dict[str, tuple[str, ...]]) -> list[str]:
    """All names that a product needs in one format or another."""
    fields = [f"{name}_{field}" for name, inner in lists.items() for field in ("counts", *inner)]
    return [*columns, *fields, *(f"n{name}" for name in lists), "provenance"]


def _refuse_clashes(path: str, names: Iterable[str]) -> None:
    """Raise `HepgenError` if two things would have the same name."""
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        msg = f"{path}: {twice[0]} would be the name of two columns; rename the observable or column that has it"
        raise HepgenError(msg)


def _refuse_other(first: Product, other: Product) -> None:
    """Raise `HepgenError` unless the rows of one file may follow those of another."""
    here, there = other.paths[0], first.paths[0]
    if other.kind == "bundle":
        msg = f"{here}: every bundle stands for all of the data; export one at a time"
        raise HepgenError(msg)
    if other.kind != first.kind:
        msg = f"{here}: holds {other.kind}, {there} holds {first.kind}; export one kind at a time"
        raise HepgenError(msg)
    if other.maker != first.maker:
        msg = f"{here}: is of {other.maker!r}, {there} of {first.maker!r}; export one model or method at a time"
        raise HepgenError(msg)
    types, known = ({name: dtype for name, (dtype, _) in p.arrays.items()} for p in (other, first))
    if types != known:
        differing = sorted(name for name in types.keys() | known.keys() if types.get(name) != known.get(name))
        msg = f"{here}: its columns differ from those of {there} ({', '.join(differing)}); export the two apart"
        raise HepgenError(msg)
