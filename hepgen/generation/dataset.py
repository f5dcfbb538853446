"""The events that generators learn from and are held against: one split for all models and seeds."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hepgen.config import Config, Generation, Generator
from hepgen.constituents import JetConstituents
from hepgen.errors import HepgenError
from hepgen.images import JetImages
from hepgen.provenance import seed_for
from hepgen.table import Table, read_tables
from hepgen.training import Indexable

__all__ = ["Part", "conditions", "inputs", "read_split", "shape_of", "title"]

Part = Literal["train", "validation", "test"]
# Two halves, each with an event for each of the five folds of the verdict's classifiers.
FEWEST_HELD_OUT = 10


def read_split(config: Config, paths: dict[str, list[Path]], models: Iterable[str]) -> dict[Part, Table]:
    """Read what the named models need of the samples' events, and split these at random.

    The split depends on the config's seed and on each sample's name and size only. Every part keeps the features and
    conditions, ``weight`` (1 where there is none) and, for models of jets, the constituents of the leading jet.

    Args:
        config: The run.
        paths: Observables of all chunks of each sample, in order.
        models: Entries of ``generation.models``.

    Raises:
        HepgenError: if a column is missing, constant in training or not finite, weights are unusable, or a part has
            too few events.
    """
    block = config.generation
    entries = [block.models[name] for name in models]
    jets = any(entry.inputs != "features" for entry in entries)
    names = list(dict.fromkeys([*block.features, *(name for entry in entries for name in entry.conditions)]))
    parts: dict[Part, list[Table]] = {"train": [], "validation": [], "test": []}
    for sample in block.samples:
        table = _prune(sample, read_tables(paths[sample], constituents=jets), names, jets)
        order = np.random.default_rng(seed_for(config.seed, sample, "split")).permutation(len(table))
        held_out = round(len(table) * block.test_fraction)
        validation = held_out + round((len(table) - held_out) * block.validation_fraction)
        for part, rows in zip(("test", "validation", "train"), np.split(order, [held_out, validation]), strict=True):
            parts[part].append(table[rows])
    joined = {part: _shuffled(config, part, tables) for part, tables in parts.items()}
    _check_sizes(block, joined)
    for name in names:
        _check(block, name, joined)
    return joined


def title(block: Generation) -> str:
    """What the samples are called together."""
    return "+".join(block.samples)


def shape_of(block: Generation, entry: Generator) -> tuple[int, ...]:
    """The shape of one event as a generator makes it."""
    if entry.inputs == "images":
        return (1, block.images.pixels, block.images.pixels)
    return (block.constituents.number, 3) if entry.inputs == "constituents" else (len(block.features),)


def inputs(block: Generation, entry: Generator, table: Table) -> Indexable:
    """What a generator learns: features of shape (n, d), or the leading jets' images or constituents."""
    if entry.inputs == "images":
        return JetImages(table.constituents[0], block.images)
    if entry.inputs == "constituents":
        return JetConstituents(table.constituents[0], block.constituents)
    return torch.from_numpy(table.matrix(block.features))


def conditions(entry: Generator, table: Table) -> Tensor:
    """What a generator is told, shape (n, conditions), float64."""
    return torch.from_numpy(table.matrix(entry.conditions)) if entry.conditions else torch.empty(len(table), 0).double()


def _prune(sample: str, table: Table, names: Sequence[str], jets: bool) -> Table:
    """The named columns with the weight, and the leading jets where they are needed."""
    where = f"generation: sample {sample!r}"
    try:
        columns = dict(zip(names, table.matrix(names).T, strict=True))
    except HepgenError as error:
        msg = f"{where}: {error}"
        raise HepgenError(msg) from error
    columns["weight"] = table.weights(where)
    return Table(columns, {}, (table.leading_jets(where, 1),) if jets else ())


def _shuffled(config: Config, part: str, tables: Sequence[Table]) -> Table:
    """One table of several, its events in random order so that any of its slices is like the whole."""
    if len(tables) == 1:
        return tables[0]
    joined = Table.concatenate(tables)
    order = np.random.default_rng(seed_for(config.seed, "generation", part)).permutation(len(joined))
    return joined[order]


def _check_sizes(block: Generation, parts: dict[Part, Table]) -> None:
    """Raise `HepgenError` if there is too little to learn from or to be held against."""
    where = f"generation of {title(block)!r}"
    train, test = len(parts["train"]), len(parts["test"])
    needed = 10 * len(block.features)
    if train < needed:
        msg = f"{where}: {train} training events are too few to learn {len(block.features)} features"
        advice = "give more events, or lower generation.test_fraction or validation_fraction"
        raise HepgenError(f"{msg}; at least {needed} are needed: {advice}")
    if test < FEWEST_HELD_OUT:
        msg = f"{where}: {test} held-out events are too few for a verdict; at least {FEWEST_HELD_OUT} are needed"
        raise HepgenError(f"{msg}: give more events, or raise generation.test_fraction")
    for part, table in parts.items():
        if len(table) and not table.columns["weight"].any():
            msg = f"{where}: all {len(table)} events of the {part} part have the weight 0"
            raise HepgenError(f"{msg}; leave such events out, or change the seed of the split")


def _check(block: Generation, name: str, parts: dict[Part, Table]) -> None:
    """Raise `HepgenError` for a column that is not finite, or of which no density can be learnt."""
    where = f"generation.{'features' if name in block.features else 'conditions'} of {title(block)!r}"
    values = np.concatenate([table.columns[name] for table in parts.values()])
    bad = ~np.isfinite(values)
    if bad.any():
        msg = f"{where}: {bad.sum()} of {len(values)} values of {name} are not finite; leave out these events"
        raise HepgenError(msg)
    learnt = parts["train"].columns[name]
    if np.ptp(learnt) == 0:
        msg = f"{where}: {name} is {learnt[0]:g} in every training event; leave it out, there is nothing to learn"
        raise HepgenError(msg)
