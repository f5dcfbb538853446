"""Per-event observables, with the constituents of the jets they came from: what every analysis reads."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import awkward as ak
import numpy as np

from hepgen.errors import HepgenError
from hepgen.registry import unknown_name
from hepgen.storage import Columns, Jagged, create_h5, open_h5, refuse_empty

__all__ = ["Table", "read_tables", "write_table"]

KIND = "observables"
CONSTITUENTS = ("constituents", "true_constituents")


@dataclass(frozen=True)
class Table:
    """Observables of n events.

    Attributes:
        columns: Detector-level observables and event columns (``label``, ``weight``), each of shape (n,). Where there
            is a particle level too, ``pass_reco`` and ``pass_truth`` say at which level an event has its jets; at the
            other one its observables are NaN.
        truth: Particle-level observables of the same events, where there is a particle level.
        constituents: One entry per jet rank (leading, subleading, ...): particles of that jet,
            ``n * var * {pt, eta, phi}``, for jet images.
        true_constituents: The same at particle level, where the source gives particles there.
    """

    columns: dict[str, np.ndarray]
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    constituents: tuple[ak.Array, ...] = ()
    true_constituents: tuple[ak.Array, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def __getitem__(self, which: slice | np.ndarray) -> "Table":
        """The events of a slice, mask or index array."""
        columns = {name: values[which] for name, values in self.columns.items()}
        truth = {name: values[which] for name, values in self.truth.items()}
        levels = (self.constituents, self.true_constituents)
        return Table(columns, truth, *(tuple(jet[which] for jet in level) for level in levels))

    @staticmethod
    def concatenate(tables: Sequence["Table"]) -> "Table":
        """One table after the other; all have the same columns."""
        first = tables[0]
        return Table(
            {name: np.concatenate([table.columns[name] for table in tables]) for name in first.columns},
            {name: np.concatenate([table.truth[name] for table in tables]) for name in first.truth},
            *(
                tuple(ak.concatenate(jets) for jets in zip(*(getattr(table, level) for table in tables), strict=True))
                for level in CONSTITUENTS
            ),
        )

    def leading_jets(self, where: str, number: int) -> ak.Array:
        """Constituents of the leading jets of all events, then of the subleading ones, and so on.

        Args:
            where: What the events are, for the message.
            number: How many jets of each event.

        Raises:
            HepgenError: if the events do not keep as many jets, or a jet is empty or not finite.
        """
        if len(self.constituents) < number:
            msg = f"{where}: the {number} leading jets are looked into; these events keep {len(self.constituents)}"
            raise HepgenError(f"{msg}; set jets.<name>.number to {number}")
        jets = ak.concatenate(self.constituents[:number])
        flat = ak.flatten(jets)
        broken = sum(int(np.count_nonzero(~np.isfinite(ak.to_numpy(flat[name])))) for name in ("pt", "eta", "phi"))
        if broken:
            msg = f"{where}: {broken} values of the jets' constituents are not finite; make the events again"
            raise HepgenError(msg)
        empty = int(ak.sum(ak.sum(jets.pt, axis=1) <= 0))
        if empty:
            msg = f"{where}: {empty} of {len(jets)} jets have no constituents, so that there is nothing to look into"
            raise HepgenError(f"{msg}; raise jets.<name>.pt_min, or read events that keep their particles")
        return jets

    def passed(self, level: str = "columns") -> np.ndarray:
        """Which events have their jets at a level (``columns`` or ``truth``), shape (n,)."""
        everything = np.ones(len(self), dtype=bool)
        return self.columns.get("pass_truth" if level == "truth" else "pass_reco", everything).astype(bool)

    def weights(self, where: str) -> np.ndarray:
        """Event weights, shape (n,), float64; 1 where there is no column ``weight``.

        Args:
            where: What the events are, for the message.

        Raises:
            HepgenError: if a weight is negative or not finite, or all are zero.
        """
        weights = self.columns.get("weight", np.ones(len(self))).astype(np.float64)
        bad = weights[~(np.isfinite(weights) & (weights >= 0))]
        if len(bad):
            msg = f"{where}: column 'weight': {len(bad)} of {len(weights)} event weights are negative or not finite"
            raise HepgenError(f"{msg}, e.g. {bad[0]}; mend the sample's weights, or leave such events out by its cut")
        if not weights.any():
            msg = f"{where}: column 'weight': all {len(weights)} event weights are zero"
            raise HepgenError(msg)
        return weights

    def matrix(self, names: Sequence[str], level: str = "columns") -> np.ndarray:
        """The named columns side by side, shape (n, len(names)), float64.

        Raises:
            HepgenError: if a column is missing; the message lists the known ones.
        """
        columns = getattr(self, level)
        for name in names:
            if name not in columns:
                raise unknown_name("observable", name, columns)
        return np.stack([columns[name].astype(np.float64) for name in names], axis=1)


def write_table(path: str | Path, batches: Iterable[Table], provenance: str = "{}") -> int:
    """Stream batches of observables into one file; returns how many events it holds.

    Raises:
        HepgenError: if no event is left.
    """
    total = 0
    with create_h5(path, KIND, provenance) as file:
        for batch in batches:
            Columns(file.require_group("columns")).append(batch.columns)
            Columns(file.require_group("truth")).append(batch.truth)
            for level in CONSTITUENTS:
                for rank, jet in enumerate(getattr(batch, level)):
                    Jagged(file.require_group(f"{level}/{rank}")).append(ak.values_astype(jet, np.float32))
            total += len(batch)
        refuse_empty(path, total)
    return total


def read_tables(
    paths: Iterable[str | Path],
    *,
    constituents: bool = False,
    true_constituents: bool = False,
    unseen: bool = False,
) -> Table:
    """Join the tables of several files, in the order given.

    Args:
        paths: Files written by `write_table`.
        constituents: Whether to read the jets' constituents too.
        true_constituents: Whether to read those of the jets at particle level.
        unseen: Whether to keep events that lack their jets at detector level.

    Raises:
        HepgenError: if a file is damaged or has no constituents, the files do not have the same columns, or an
            event occurs twice.
    """
    paths = list(paths)
    if not paths:
        msg = "no table to read; the sample has no file"
        raise HepgenError(msg)
    levels = [name for name, wanted in zip(CONSTITUENTS, (constituents, true_constituents), strict=True) if wanted]
    tables = [_read(path, levels) for path in paths]
    first = tables[0]
    for path, table in zip(paths, tables, strict=True):
        if (table.columns.keys(), table.truth.keys()) != (first.columns.keys(), first.truth.keys()):
            msg = f"{path}: its columns differ from those of {paths[0]}; was one made with other settings?"
            raise HepgenError(msg)
    joined = Table.concatenate(tables)
    _refuse_repeated(joined, [(str(path), len(table)) for path, table in zip(paths, tables, strict=True)])
    seen = joined.passed()
    return joined if unseen or seen.all() else joined[seen]


def _refuse_repeated(table: Table, files: Sequence[tuple[str, int]]) -> None:
    """Raise `HepgenError` if an event occurs twice: it could be trained on and tested on.

    Events are the same if all their real-valued observables are, bit for bit. Fewer than four of these tell nothing.

    Args:
        table: All events.
        files: Where they come from: paths and numbers of events.
    """
    values = {**{f"truth {k}": v for k, v in table.truth.items()}, **table.columns}
    reals = [column for name, column in values.items() if name != "weight" and _is_real(column)]
    if len(reals) < 4:
        return
    keys = _row_keys(reals)
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    same = same[_telling(reals, order[same])] if len(same) else same
    if not len(same) or len(same) < 10 * _expected_by_chance(reals):
        return
    ends = np.cumsum([length for _, length in files])
    rows = order[same[0] : same[0] + 2]
    where = dict.fromkeys(files[int(np.searchsorted(ends, row, "right"))][0] for row in rows)
    msg = (
        f"{len(same)} of {len(table)} events occur more than once, e.g. in {' and '.join(where)}; "
        "give every event once, or what is trained on would be tested on"
    )
    raise HepgenError(msg)


def _telling(columns: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Which rows have at least four numbers that few other rows have; −999 and the like, and NaN, tell nothing."""
    few = max(20, len(columns[0]) // 1000)
    told = np.zeros(len(rows), int)
    for column in columns:
        values, ordered = column[rows], np.sort(column)
        often = np.searchsorted(ordered, values, "right") - np.searchsorted(ordered, values, "left")
        told += np.isfinite(values) & (often <= few)
    return told >= 4


def _row_keys(columns: Sequence[np.ndarray]) -> np.ndarray:
    """A 64-bit number for each row, shape (n,): equal rows share one, others once in ten million samples of 10⁶."""
    keys = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        keys = (keys ^ column.astype(np.float64).view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(32)
    return keys


def _is_real(column: np.ndarray) -> bool:
    """Whether a column holds other numbers than whole ones, and not always the same."""
    finite = column[np.isfinite(column)] if column.dtype.kind == "f" else column[:0]
    return len(finite) > 0 and bool((finite != np.round(finite)).any() and (finite != finite[0]).any())


def _expected_by_chance(columns: Sequence[np.ndarray]) -> float:
    """Pairs of equal rows if the columns were independent: many only where numbers are rounded coarsely."""
    pairs = len(columns[0]) ** 2 / 2
    return pairs * float(np.exp(-sum(np.log(len(np.unique(column))) for column in columns)))


def _read(path: str | Path, levels: Sequence[str]) -> Table:
    with open_h5(path, KIND) as file:
        columns, truth = (Columns(file[level]).read() for level in ("columns", "truth"))
        jets = {}
        for level in levels:
            if level not in file:
                msg = f"{path}: holds no {level.replace('_', ' ')}, so that the jets cannot be looked into"
                raise HepgenError(msg)
            jets[level] = tuple(Jagged(file[level][rank]).read() for rank in sorted(file[level], key=int))
        return Table(columns, truth, **jets)
