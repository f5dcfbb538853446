"""Files of arrays: official data sets by their layout, padded particles and tables by their numbers."""

import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq

from hepgen.inspection.findings import SAMPLED, Finding, Reading
from hepgen.inspection.names import as_name, is_label, is_weight
from hepgen.sources.arrays import csv_columns, hdf5_contents, read_frame
from hepgen.sources.files import readable
from hepgen.sources.npz import open_arrays
from hepgen.storage import describe_h5, open_h5

__all__ = ["inspect_csv", "inspect_hdf5", "inspect_numpy", "inspect_parquet"]

MOST_COLUMNS = 100
LHCO_COLUMNS = (2100, 2101)
TOP_PARTICLES, TOP_COLUMNS = 200, 804
# Flat tables of particles have more columns than tables of observables.
LEAST_FLAT = 60
# By how much rounding lets p exceed E, and what p / E is at least for half of all particles.
FOUR_MOMENTUM, NEARLY_LIGHT = 1e-3, 0.9
GUESSED = "guessed from the numbers' sizes: check them"
Arrays = Mapping[str, Any]


def inspect_numpy(path: str) -> Finding:
    """What an .npy or .npz file holds.

    Raises:
        HepgenError: if it is damaged or holds pickled objects.
    """
    with open_arrays(Path(path)) as arrays:
        contents = [(name or "array", _shape(array)) for name, array in arrays.items()]
        names = set(arrays)
        if {"gen_jets", "sim_jets"} <= names:
            return _energyflow(path, "zjets_delphes", len(arrays["gen_jets"]), contents)
        if {"X", "y"} <= names and len(arrays["X"].shape) == 3 and arrays["X"].shape[2] == 4:
            return _energyflow(path, "qg_jets", len(arrays["X"]), contents)
        return _any_arrays(path, arrays, contents, Path(path).suffix)


def _energyflow(path: str, data: str, events: int, contents: list[tuple[str, str]]) -> Finding:
    entry = {"source": "energyflow", "data": data}
    if data == "qg_jets":
        comments = {"data": "one quark or gluon jet an event; label 1 is a quark"}
        reading = Reading("particles", "constituents of one jet an event", entry, 0.4, 1, comments)
    else:
        comments = {"data": "observables of the leading jet, at both levels"}
        reading = Reading("observables", "pairs of jets with truth", entry, comments=comments)
    return Finding(path, f"EnergyFlow {data}", events, contents, [reading])


def _shape(array: Any) -> str:
    return f"{' × '.join(f'{length:,}' for length in array.shape) or 'one'} of {array.dtype}"


def inspect_hdf5(path: str) -> Finding:
    """What an HDF5 file holds: a product of hepgen, an official data set or arrays.

    Raises:
        HepgenError: if it is damaged.
    """
    kind, made_for = describe_h5(path)
    with open_h5(path) as file, readable(path, "HDF5"):
        arrays, frame = hdf5_contents(file)
        contents = [(name, _shape(array)) for name, array in arrays.items()]
        if kind:
            return _product(path, kind, made_for, arrays, contents)
        block = arrays.get("df/block0_values")
        if block is not None and block.ndim == 2 and block.shape[1] in LHCO_COLUMNS:
            return _lhco(path, block, contents)
        if "particle_features" in arrays:
            return _jetnet(path, arrays, contents)
        wide = next((name for name, array in arrays.items() if _is_wide(array)), None)
        if wide:
            return _top_tagging(path, wide, arrays[wide], contents)
        if frame is not None:
            return _frame(path, frame, contents)
        return _any_arrays(path, arrays, contents, ".h5")


def _product(path: str, kind: str, made_for: str, arrays: Arrays, contents: list[tuple[str, str]]) -> Finding:
    """A product of hepgen is read by the next stage, and needs no entry."""
    first = {"events": "particles/counts"}.get(kind)
    lengths = [len(array) for name, array in arrays.items() if array.ndim and name.startswith(first or name)]
    suffix = f" of {made_for}" if made_for else ""
    return Finding(path, f"hepgen's {kind}{suffix}", lengths[0] if lengths else 0, contents)


def _lhco(path: str, block: h5py.Dataset, contents: list[tuple[str, str]]) -> Finding:
    label = "labels in the last column" if block.shape[1] == LHCO_COLUMNS[1] else "no labels"
    reading = Reading("particles", f"700 × (pT, η, φ), zero-padded, {label}", {"source": "lhco"}, 1.0)
    return Finding(path, "LHC Olympics 2020, raw", len(block), contents, [reading])


def _jetnet(path: str, arrays: Arrays, contents: list[tuple[str, str]]) -> Finding:
    """Momenta of JetNet are relative to their jet's. Kansal et al. 2021, arXiv:2106.11535."""
    particles, jets = arrays["particle_features"], arrays.get("jet_features")
    scale = 1000.0
    if jets is not None and len(jets):
        scale = float(f"{np.median(jets[:SAMPLED, 0]):.3g}")
    fields = ["eta", "phi", "pt", *["other"] * (particles.shape[2] - 3)]
    entry = {"source": "padded", "array": "particle_features", "fields": fields, "scale": scale}
    comments = {"scale": "pT is relative to the jet's: this is the median jet pT [GeV], η and φ stay relative"}
    reading = Reading("particles", "constituents of one jet an event", entry, 0.8, 1, comments)
    return Finding(path, "JetNet", len(particles), contents, [reading])


def _is_wide(array: h5py.Dataset) -> bool:
    """Whether a dataset is a pandas "table" of 200 four-momenta and the true one."""
    block = (array.dtype.fields or {}).get("values_block_0")
    return block is not None and block[0].shape == (TOP_COLUMNS,)


def _top_tagging(path: str, name: str, table: h5py.Dataset, contents: list[tuple[str, str]]) -> Finding:
    """The top-tagging reference data. Kasieczka, Plehn et al. 2019, arXiv:1902.09914."""
    entry: dict[str, Any] = {"source": "padded", "array": f"{name}:values_block_0"}
    entry |= {"fields": ["energy", "px", "py", "pz"], "particles": TOP_PARTICLES}
    block = table.dtype.fields.get("values_block_1")
    if block is not None and block[0].shape == (2,):
        entry["label"] = f"{name}:values_block_1:1"
    comments = {"label": "is_signal_new, after ttv: 1 is a top jet"}
    what = f"{TOP_PARTICLES} × (E, px, py, pz) of one jet an event"
    reading = Reading("particles", what, entry, 0.8, 1, comments)
    return Finding(path, "top-tagging reference data", len(table), contents, [reading])


def _frame(path: str, frame: h5py.Group, contents: list[tuple[str, str]]) -> Finding:
    """A pandas "fixed" frame; the features of the LHC Olympics are one."""
    reader = read_frame(frame)
    columns = reader.read(reader.keys, 0, SAMPLED)
    lhco = {"pxj1", "pyj1", "pzj1", "mj1", "tau1j1"} <= columns.keys()
    kind = "LHC Olympics 2020, features" if lhco else "pandas table"
    return _table(path, kind, reader.rows, columns, contents)


def _any_arrays(path: str, arrays: Arrays, contents: list[tuple[str, str]], ending: str) -> Finding:
    """Arrays of no known data set: padded particles, a table, or columns of one number a row."""
    cubes = {name: array for name, array in arrays.items() if len(array.shape) == 3 and array.dtype.kind in "fiu"}
    tables = {name: array for name, array in arrays.items() if len(array.shape) == 2 or array.dtype.names}
    flat = {name: array for name, array in arrays.items() if len(array.shape) == 1 and not array.dtype.names}
    if cubes:
        name = max(cubes, key=lambda cube: int(np.prod(cubes[cube].shape)))
        return _padded(path, arrays, name, contents)
    if len(arrays) == 1 and tables:
        return _one_table(path, *tables.values(), contents, ending)
    if flat and len({len(array) for array in flat.values()}) == 1:
        columns = {name: array[:SAMPLED] for name, array in flat.items()}
        return _table(path, f"columns ({ending})", len(next(iter(flat.values()))), columns, contents)
    finding = Finding(
        path, f"arrays ({ending})", max((len(array) for array in arrays.values() if array.shape), default=0)
    )
    finding.contents = contents
    finding.problems.append(
        "its arrays are neither columns of equal length, nor one table, nor particles padded to an equal number"
    )
    return finding


def _one_table(path: str, array: Any, contents: list[tuple[str, str]], ending: str) -> Finding:
    """The columns of a table, or the particles that they are the numbers of."""
    rows = array[:SAMPLED]
    if rows.dtype.names:
        columns = {name: rows[name] for name in rows.dtype.names}
    elif finding := _flat_particles(path, rows, len(array), contents):
        return finding
    else:
        columns = dict(enumerate(rows.T))
    return _table(path, f"table ({ending})", len(array), columns, contents)


def _padded(path: str, arrays: Arrays, name: str, contents: list[tuple[str, str]]) -> Finding:
    array = arrays[name]
    finding = Finding(path, "padded particles", len(array), contents)
    fields = _guess_fields(np.asarray(array[:SAMPLED], np.float64))
    if fields is None:
        finding.problems.append(f"what the {array.shape[2]} numbers of a particle are is not clear from their values")
        return finding
    entry: dict[str, Any] = {"source": "padded"} | ({"array": name} if len(arrays) > 1 else {})
    entry["fields"] = fields
    labels = [key for key, other in arrays.items() if is_label(key) and other.shape == (len(array),)]
    entry |= {"label": labels[0]} if labels else {}
    comments = {"fields": GUESSED}
    finding.readings = [Reading("particles", f"{array.shape[1]} × ({', '.join(fields)})", entry, 0.8, None, comments)]
    return finding


def _flat_particles(path: str, rows: np.ndarray, events: int, contents: list[tuple[str, str]]) -> Finding | None:
    """A table whose columns are the numbers of one particle after the other, perhaps with a label in the end."""
    for width in (3, 4) if rows.shape[1] >= LEAST_FLAT and rows.dtype.kind in "fiu" else ():
        number, rest = divmod(rows.shape[1], width)
        fields = _guess_fields(rows[:, : number * width].reshape(len(rows), number, width)) if rest <= 1 else None
        if fields:
            entry = {"source": "padded", "fields": fields, "particles": number}
            if rest and np.isin(rows[:, -1], (0, 1)).all():
                entry["label"] = rows.shape[1] - 1
            comments = {"fields": GUESSED, "label": "the last column is 0 or 1"}
            reading = Reading("particles", f"{number} × ({', '.join(fields)})", entry, 0.8, comments=comments)
            return Finding(path, "padded particles in a flat table", events, contents, [reading])
    return None


def _guess_fields(values: np.ndarray) -> list[str] | None:
    """What the numbers of a particle are, from their sizes; values of shape (events, particles, numbers)."""
    rows = values.reshape(-1, values.shape[2])
    rows = rows[np.isfinite(rows).all(1) & (rows != 0).any(1)]
    if len(rows) == 0 or rows.shape[1] < 3:
        return None
    for order in (["energy", "px", "py", "pz"], ["px", "py", "pz", "energy"]):
        if rows.shape[1] >= 4:
            column = {name: rows[:, index] for index, name in enumerate(order)}
            momentum = np.sqrt(column["px"] ** 2 + column["py"] ** 2 + column["pz"] ** 2)
            ratio = momentum / np.maximum(column["energy"], np.finfo(float).tiny)
            if ratio.max() <= 1 + FOUR_MOMENTUM and np.median(ratio) > NEARLY_LIGHT:
                return [*order, *["other"] * (rows.shape[1] - 4)]
    order = ["pt", "eta", "phi"]
    if not ((rows[:, 0] >= 0).all() and np.abs(rows[:, 1]).max() < 10 and np.abs(rows[:, 2]).max() < 2 * np.pi + 1e-3):
        return None
    return [*order, *["other"] * (rows.shape[1] - 3)]


def inspect_csv(path: str) -> Finding:
    """What a file of comma-separated numbers holds.

    Raises:
        HepgenError: if its first lines are not that.
    """
    with readable(path, ".csv"), Path(path).open(encoding="utf-8-sig") as file:
        names, lines = csv_columns(file, path)
        first = list(islice(lines, SAMPLED))
        rows = np.loadtxt(first, delimiter=",", ndmin=2) if first else np.zeros((0, len(names)))
        events = len(first) + sum(1 for _ in lines)
    columns = dict(zip(names, rows.T, strict=True))
    contents = [("columns", f"{len(columns)}{', without names' if isinstance(names, range) else ''}")]
    return _table(path, "table (.csv)", events, columns, contents)


def inspect_parquet(path: str) -> Finding:
    """What a Parquet file holds.

    Raises:
        HepgenError: if it is damaged.
    """
    with readable(path, "Parquet"), ExitStack() as stack:
        file = stack.enter_context(pq.ParquetFile(path))
        events = file.metadata.num_rows
        contents = [(field.name, str(field.type)) for field in file.schema_arrow]
        plain = [name for name, kind in contents if re.fullmatch(r"u?int\d+|float|double|halffloat|bool", kind)]
        batch = next(file.iter_batches(SAMPLED, columns=plain), None) if plain else None
        columns = {} if batch is None else {name: batch[name].to_numpy(zero_copy_only=False) for name in plain}
    return _table(path, "table (.parquet)", events, columns, contents)


def _table(path: str, kind: str, events: int, columns: Mapping, contents: list[tuple[str, str]]) -> Finding:
    """A table of observables: its columns under names that a configuration takes."""
    finding = Finding(path, kind, events, contents)
    if events == 0:
        finding.problems.append("the table holds no row")
        return finding
    kept: dict[str, int | str] = {}
    for column, values in columns.items():
        if getattr(values, "ndim", 0) != 1 or values.dtype.kind not in "fiub":
            continue
        bad = int((~np.isfinite(values)).sum())
        if bad:
            finding.problems.append(f"column {column!r} has {bad} numbers that are not finite, and is left out")
        elif len(kept) < MOST_COLUMNS:
            kept.setdefault(_column_name(column, values, last=column == len(columns) - 1), column)
    if not kept.keys() - {"label", "weight"}:
        finding.problems.append(
            "no column holds observables: finite numbers, one an event; lists are read from ROOT files"
        )
        return finding
    true = {name: column for name, column in kept.items() if name.startswith("truth_") and name[6:] in kept}
    entry = {"source": "arrays", "columns": {name: kept[name] for name in kept if name not in true}}
    if true:
        entry["truth"] = {name[6:]: column for name, column in true.items()}
    else:
        # Which rows have a particle level means nothing without one.
        entry["columns"].pop("pass_truth", None)
    comments = {"columns": "in GeV and radians; give others a scale: {column: 0, scale: 0.001}"}
    left = len(columns) - len(kept)
    what = f"{len(kept)} columns" + (f" of {len(columns)}" if left else "")
    finding.readings = [Reading("observables", what, entry, comments=comments)]
    return finding


RENAMED: list[tuple[str, Callable[[re.Match], str]]] = [
    (r"m(j\d)", lambda match: f"mass_{match[1]}"),
    (r"(p[xyzt]|tau\d+|eta|phi)(j\d)", lambda match: f"{match[1]}_{match[2]}"),
]


def _column_name(column: int | str, values: np.ndarray, *, last: bool) -> str:
    """A name for a column; label and weight are called so if they are."""
    binary = bool(np.isin(values, (0, 1)).all())
    if isinstance(column, int):
        return "label" if last and binary else f"x{column}"
    if is_label(column):
        return "label" if binary else f"{as_name(column)}_value"
    if is_weight(column):
        return "weight"
    for pattern, name in RENAMED:
        match = re.fullmatch(pattern, column)
        if match:
            return name(match)
    return as_name(column)
