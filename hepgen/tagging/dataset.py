"""The events of the taggers: which are trained on and which are held out, and what the networks see of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from hepgen.config import Config, Tagger
from hepgen.constituents import JetConstituents
from hepgen.errors import HepgenError
from hepgen.images import JetImages
from hepgen.preprocessing import SCALERS, Scaler
from hepgen.provenance import seed_for
from hepgen.table import Table, read_tables
from hepgen.training import Indexable

__all__ = ["LEADING", "columns_of", "held_out_samples", "load", "make_scaler", "raw_inputs", "split"]

Part = Literal["train", "validation", "test"]
LEADING = 2


def held_out_samples(config: Config) -> list[str]:
    """The samples that the test events are taken from, in canonical order."""
    return config.tagging.test or config.tagging.samples


def columns_of(entry: Tagger) -> list[str]:
    """The observables that a tagger reads, none where it looks into the jets."""
    return [] if isinstance(entry.inputs, str) else entry.inputs


def split(config: Config, sample: str, events: int) -> dict[Part, np.ndarray]:
    """Ascending event numbers of a sample's three parts.

    They depend on the configuration's seed, the sample's name and size only: all models and all trainings see the
    same events. `tagging.test_fraction` is held out, and `tagging.validation_fraction` of the remainder steers
    the training; samples of `tagging.test` and `tagging.transfer` are tested on entirely.
    """
    tagging = config.tagging
    if sample in (*tagging.test, *tagging.transfer):
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
        columns: Observables to keep; ``label`` and ``weight`` (1 where there is none) are always kept, beside
            ``sample`` and ``event``: the number of the sample in its list, and the event's in the sample.
        parts: Of ``train``, ``validation`` and ``test``; the test part ends with the samples of `tagging.transfer`.
        constituents: Whether to read the jets' constituents too.

    Raises:
        HepgenError: if files, a column or a label are missing, a value or weight is unusable, or a part is empty.
    """
    tested = [*held_out_samples(config), *config.tagging.transfer]
    names = tested if set(parts) == {"test"} else config.tagging.samples
    pieces: dict[Part, list[Table]] = {part: [] for part in parts}
    for number, sample in enumerate(names):
        if not paths.get(sample):
            msg = f"tagging: no observables of sample {sample!r} were given; given are {', '.join(paths) or 'none'}"
            raise HepgenError(msg)
        table = _prune(sample, number, read_tables(paths[sample], constituents=constituents), columns)
        numbers = split(config, sample, len(table))
        for part in parts:
            pieces[part].append(table[numbers[part]])
    return [_join(part, tables) for part, tables in pieces.items()]


def raw_inputs(config: Config, entry: Tagger, table: Table) -> Indexable:
    """What a tagger sees: observables of shape (n, d), or the leading jets of all events, then the subleading ones.

    Raises:
        HepgenError: if the events do not keep two jets to look into, or a jet is empty or not finite.
    """
    if not isinstance(entry.inputs, str):
        return torch.from_numpy(table.matrix(entry.inputs))
    jets = table.leading_jets("tagging", LEADING)
    if entry.inputs == "images":
        return JetImages(jets, config.tagging.images)
    return JetConstituents(jets, config.tagging.constituents)


def make_scaler(entry: Tagger) -> Scaler:
    """The preprocessing of a tagger's inputs, not yet fitted."""
    features = {"images": 1, "constituents": 3}.get(entry.inputs) if isinstance(entry.inputs, str) else None
    kind = entry.preprocessing or ("scale" if features else "standard")
    return SCALERS[kind](features or len(entry.inputs))


def _prune(sample: str, number: int, table: Table, names: Iterable[str]) -> Table:
    """The named columns with label, weight and where each event comes from."""
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
    columns["sample"] = np.full(len(table), number, dtype=np.int16)
    columns["event"] = np.arange(len(table))
    return Table(columns, {}, table.constituents)


def _join(part: str, tables: Sequence[Table]) -> Table:
    joined = Table.concatenate(tables)
    if len(joined) == 0:
        msg = f"tagging: no events are left for the {part} part; give more events or change the fractions"
        raise HepgenError(msg)
    return joined
