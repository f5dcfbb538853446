"""Scores of other tools: the events that they are to use, and the files that they come back in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.plan import provenance
from hepgen.sources.files import readable
from hepgen.sources.npz import open_arrays
from hepgen.storage import Columns, atomic, create_h5, open_h5
from hepgen.table import Table
from hepgen.tagging.dataset import columns_of, held_out_samples, load

__all__ = ["read_scores", "tested_samples", "write_split"]

FIELDS = ("sample", "event", "score")
# Types of the arrays that are read.
KINDS = {"sample": "U", "event": "iu", "score": "fiu", "training": "iu"}


def tested_samples(config: Config) -> list[str]:
    """The samples of the test events, in the order of their numbers."""
    return [*held_out_samples(config), *config.tagging.transfer]


def write_split(config: Config, paths: dict[str, list[Path]], output: Path) -> int:
    """Write which events are trained, validated and tested on, with the observables that the tagging block names.

    The file, npz by its suffix and HDF5 otherwise, holds one array of each of ``sample`` (names), ``event`` (numbers
    within the sample), ``part`` (``train``, ``validation`` or ``test``), ``label``, ``weight`` and each observable.

    Returns:
        How many events it holds.

    Raises:
        HepgenError: if the tables are not those of the configuration, or a part is empty.
    """
    tagging = config.tagging
    used = [name for entry in tagging.entries.values() for name in columns_of(entry)]
    used += [tagging.mass, *tagging.profiles, *(cut.observable for cut in tagging.cuts.values())]
    observables = sorted(set(used))
    learnt = load(config, paths, observables, ("train", "validation"))
    tested = load(config, paths, observables, ("test",))
    known = {"train": tagging.samples, "validation": tagging.samples, "test": tested_samples(config)}
    pieces = []
    for (part, samples), table in zip(known.items(), [*learnt, *tested], strict=True):
        names = np.array(samples)[table.columns["sample"]]
        pieces.append({**table.columns, "sample": names, "part": np.full(len(table), part)})
    columns = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    if output.suffix == ".npz":
        with atomic(output) as temporary, temporary.open("wb") as file:
            np.savez(file, **columns)
    else:
        text = {name: columns[name].astype("S") for name in ("sample", "part")}
        with create_h5(output, "split", provenance(config, "tagging_split")) as file:
            Columns(file).append({**columns, **text})
    return len(columns["event"])


def read_scores(name: str, path: str, samples: list[str], table: Table) -> np.ndarray:
    """The scores of a file for every test event, shape (trainings, n).

    The file holds equally long arrays ``sample`` (names), ``event`` (numbers within the sample) and ``score``, higher
    for more anomalous events: one of shape (rows,), or (rows, trainings) for several trainings. Otherwise an array
    ``training`` (numbers) may say which training each row belongs to. Rows of other events are ignored.

    Args:
        name: The entry of `tagging.external`.
        path: Its file: npz by its suffix, HDF5 otherwise.
        samples: Names of the samples that the table's column ``sample`` counts.
        table: The test events.

    Raises:
        HepgenError: if the file is unreadable, an array is missing or of a wrong type or length, a score is not
            finite, or a test event is missing or there twice.
    """
    where = f"tagging.external.{name}: {path}"
    arrays = _arrays(where, Path(path))
    if not arrays["score"].size:
        msg = f"{where}: holds no scores: array 'score' has shape {arrays['score'].shape}"
        raise HepgenError(msg)
    score = arrays["score"].reshape(len(arrays["score"]), -1).T
    if not np.isfinite(score).all():
        msg = f"{where}: {np.count_nonzero(~np.isfinite(score))} of {score.size} scores are not finite"
        raise HepgenError(msg)
    training = arrays.get("training", np.zeros(len(arrays["event"]), dtype=np.int64))
    found = []
    for number in np.unique(training):
        rows = np.flatnonzero(training == number)
        matched = rows[_match(where, arrays["sample"][rows], arrays["event"][rows], samples, table)]
        found.append(score[:, matched])
    return np.concatenate(found).astype(np.float64)


def _match(where: str, names: np.ndarray, events: np.ndarray, samples: list[str], table: Table) -> np.ndarray:
    """The row of each test event, shape (n,)."""
    rows = np.empty(len(table), dtype=np.int64)
    for number, sample in enumerate(samples):
        places = np.flatnonzero(table.columns["sample"] == number)
        wanted = table.columns["event"][places]
        mine = np.flatnonzero(names == sample)
        mine = mine[np.argsort(events[mine], kind="stable")]
        given = events[mine]
        twice = given[1:][given[1:] == given[:-1]]
        if len(twice):
            msg = f"{where}: event {twice[0]} of sample {sample!r} is there more than once"
            raise HepgenError(f"{msg}; give each event one row, or number the trainings in an array 'training'")
        missing = wanted[~np.isin(wanted, given)]
        if len(missing):
            msg = f"{where}: {len(missing)} of {len(wanted)} test events of sample {sample!r} have no score"
            raise HepgenError(f"{msg}, the first one is event {missing[0]}; `hepgen tagging split` lists them")
        rows[places] = mine[np.searchsorted(given, wanted)]
    return rows


def _arrays(where: str, path: Path) -> dict[str, np.ndarray]:
    """The file's arrays, checked."""
    with readable(path, path.suffix), (open_arrays if path.suffix == ".npz" else open_h5)(path) as file:
        arrays = _select(where, file)
    wrong = [key for key, values in arrays.items() if values.dtype.kind not in KINDS[key] or values.ndim == 0]
    wrong += [key for key, values in arrays.items() if values.ndim > (2 if key == "score" else 1)]
    if wrong:
        msg = f"{where}: array {wrong[0]!r} is {arrays[wrong[0]].dtype} of shape {arrays[wrong[0]].shape}"
        raise HepgenError(f"{msg}; sample holds names, event and training integers, score numbers")
    lengths = {key: len(values) for key, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        msg = f"{where}: the arrays are not equally long: {lengths}"
        raise HepgenError(msg)
    return arrays


def _select(where: str, file: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays that are known by name, names as strings."""
    missing = [key for key in FIELDS if key not in file]
    if missing:
        msg = f"{where}: has no array {missing[0]!r}; it needs {', '.join(FIELDS)}"
        raise HepgenError(msg)
    arrays = {key: file[key][:] for key in KINDS if key in file}
    if arrays["sample"].dtype.kind in "SO":
        arrays["sample"] = np.array([name.decode() for name in arrays["sample"].tolist()], dtype=str)
    return arrays
