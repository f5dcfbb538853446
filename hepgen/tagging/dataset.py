"""The events of the taggers: which are trained on and which are held out, and what the networks see of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from hepgen.config import Config, Model
from hepgen.errors import HepgenError
from hepgen.images import JetImages
from hepgen.preprocessing import Scale, Scaler, Standard
from hepgen.provenance import seed_for
from hepgen.table import Table, read_tables
from hepgen.training import Indexable

__all__ = ["LEADING", "held_out_samples", "load", "make_scaler", "raw_inputs", "scaled", "split"]

Part = Literal["train", "validation", "test"]
LEADING = 2


def held_out_samples(config: Config) -> list[str]:
    """The samples that the test events are taken from, in canonical order."""
    return config.tagging.test or config.tagging.samples


def split(config: Config, sample: str, events: int) -> dict[Part, np.ndarray]:
    """Ascending event numbers of a sample's three parts.

    They depend on the configuration's seed, the sample's name and size only: all models and all trainings see the
    same events. `tagging.test_fraction` is held out, and `tagging.validation_fraction` of the remainder steers
    the training; where `tagging.test` names samples of their own, those are tested on entirely.
    """
    tagging = config.tagging
    if sample in tagging.test:
        return {"train": np.arange(0), "validation": np.arange(0), "test": np.arange(events)}
    held_out = 0 if tagging.test else round(events * tagging.test_fraction)
    validation = round((events - held_out) * tagging.validation_fraction)
    order = np.random.default_rng(seed_for(config.seed, "tagging", sample)).permutation(events)
    parts = np.split(order, [held_out, held_out + validation])
    return {name: np.sort(part) for name, part in zip(("test", "validation", "train"), parts, strict=True)}


def load(
    config: Config,
    paths: dict[str, list[Path]],
    columns: Iterable[str],
    parts: Sequence[Part],
    *,
    constituents: bool = False,
) -> list[Table]:
    """The named parts of the taggers' samples, each one table in canonical order.

    Args:
        config: The run's configuration.
        paths: Observable files by sample; samples that have no events in `parts` need not be given.
        columns: Observables to keep; ``label`` and ``weight`` (1 where there is none) are always kept.
        parts: Of ``train``, ``validation`` and ``test``.
        constituents: Whether to read the jets' constituents too.

    Raises:
        HepgenError: if files, a column or a label are missing, a value or weight is unusable, or a part is empty.
    """
    names = held_out_samples(config) if set(parts) == {"test"} else config.tagging.samples
    pieces: dict[Part, list[Table]] = {part: [] for part in parts}
    for sample in names:
        if not paths.get(sample):
            msg = f"tagging: no observables of sample {sample!r} were given; given are {', '.join(paths) or 'none'}"
            raise HepgenError(msg)
        table = _prune(sample, read_tables(paths[sample], constituents=constituents), columns)
        numbers = split(config, sample, len(table))
        for part in parts:
            pieces[part].append(table[numbers[part]])
    return [_join(part, tables) for part, tables in pieces.items()]


def raw_inputs(config: Config, model: Model, table: Table) -> Indexable:
    """What a model sees: observables of shape (n, d), or images of the leading jets, then of the subleading ones.

    Raises:
        HepgenError: if the events do not keep two jets to make images of.
    """
    if model.inputs != "images":
        return torch.from_numpy(table.matrix(model.inputs))
    if len(table.constituents) < LEADING:
        kept = len(table.constituents)
        msg = f"tagging: images are made of the two leading jets; these events keep {kept}; set jets.<name>.number to 2"
        raise HepgenError(msg)
    return JetImages(ak.concatenate(table.constituents[:LEADING]), config.tagging.images)


def make_scaler(model: Model) -> Scaler:
    """The preprocessing of a model's inputs, not yet fitted."""
    return Scale() if model.inputs == "images" else Standard(len(model.inputs))


def scaled(inputs: Indexable, scaler: Scaler) -> Indexable:
    """Network inputs: a tensor at once, images when they are asked for."""
    return scaler(inputs) if isinstance(inputs, Tensor) else Lazy(inputs, scaler)


class Lazy:
    """Rows that are made and scaled when they are indexed."""

    def __init__(self, rows: Indexable, scaler: Scaler) -> None:
        self.rows = rows
        self.scaler = scaler

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.scaler(self.rows[index])


def _prune(sample: str, table: Table, names: Iterable[str]) -> Table:
    """The named columns with label and weight."""
    if "label" not in table.columns:
        advice = f"set samples.{sample}.label to 0 or 1, or let its source give one"
        msg = f"tagging: sample {sample!r} has no label column; {advice}"
        raise HepgenError(msg)
    try:
        values = table.matrix([*names, "label"])
    except HepgenError as error:
        msg = f"tagging: sample {sample!r}: {error}"
        raise HepgenError(msg) from error
    for name, column in zip(names, values.T, strict=False):
        if not np.isfinite(column).all():
            bad = np.count_nonzero(~np.isfinite(column))
            msg = f"tagging: sample {sample!r}: {bad} of {len(column)} values of {name} are not finite"
            raise HepgenError(msg)
    columns = {name: table.columns[name] for name in names}
    columns["label"] = table.columns["label"].astype(np.int8)
    columns["weight"] = table.weights(f"tagging: sample {sample!r}")
    return Table(columns, {}, table.constituents)


def _join(part: str, tables: Sequence[Table]) -> Table:
    columns = {name: np.concatenate([table.columns[name] for table in tables]) for name in tables[0].columns}
    if len(columns["label"]) == 0:
        msg = f"tagging: no events are left for the {part} part; give more events or change the fractions"
        raise HepgenError(msg)
    jets = zip(*(table.constituents for table in tables), strict=True)
    return Table(columns, {}, tuple(ak.concatenate(jet) for jet in jets))
