"""Which events a tagger learns from, as which class, and how much each class counts."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hepgen.config import Config, Tagger
from hepgen.errors import HepgenError
from hepgen.progress import Log
from hepgen.provenance import seed_for
from hepgen.table import Table
from hepgen.tagging.dataset import columns_of, load
from hepgen.tagging.taggers import is_supervised

__all__ = ["select"]


def select(config: Config, model: str, entry: Tagger, paths: dict[str, list[Path]], seed: int) -> list[Table]:
    """Events to train and to validate on; `label` is the class that a supervised model is to give them.

    Supervised models see both classes, which count the same. Others see one class, background unless the entry says
    otherwise, of which `seed` chooses the events if not all are to be learnt.

    Raises:
        HepgenError: if files, columns or events are missing.
    """
    columns = {*columns_of(entry), *([config.tagging.observable_of(entry)] if entry.decorrelation else [])}
    parts = load(config, paths, sorted(columns), ("train", "validation"), constituents=isinstance(entry.inputs, str))
    if is_supervised(entry):
        return _balanced(model, entry, [_in_classes(config, entry, t) for t in parts] if entry.classes else parts)
    available = np.sum(parts[0].columns["label"] == (entry.normal == "signal"))
    if entry.events and entry.events > available:
        Log()(f"{model}: events is {entry.events}; there are {available} {entry.normal} events, and all are learnt")
    share = entry.events / max(1, available) if entry.events else 1.0
    return [
        _of_one_class(table, entry, share, seed_for(config.seed, "tagging", part, seed))
        for part, table in zip(("train", "validation"), parts, strict=True)
    ]


def _in_classes(config: Config, entry: Tagger, table: Table) -> Table:
    """The events of the samples that make the two classes, these as their labels."""
    numbers = [
        [config.tagging.samples.index(name) for name in names]
        for names in (entry.classes.background, entry.classes.signal)
    ]
    sample = table.columns["sample"]
    kept = table[np.isin(sample, numbers[0] + numbers[1])]
    label = np.isin(kept.columns["sample"], numbers[1]).astype(np.int8)
    return Table({**kept.columns, "label": label}, {}, kept.constituents)


def _balanced(model: str, entry: Tagger, tables: Sequence[Table]) -> list[Table]:
    """The events with weights by which both classes count the same; those of the first table say how.

    Raises:
        HepgenError: if it has events of one class only.
    """
    label, weight = tables[0].columns["label"], tables[0].columns["weight"]
    total = np.bincount(label, weight, 2)
    if total.min() <= 0:
        msg = f"{model}: all {len(label)} training events are {('background', 'signal')[total.argmax()]}"
        raise HepgenError(f"{msg}; {entry.type} is supervised and needs samples of both")
    factor = total.sum() / (2 * total)
    return [
        Table({**t.columns, "weight": t.columns["weight"] * factor[t.columns["label"]]}, {}, t.constituents)
        for t in tables
    ]


def _of_one_class(table: Table, entry: Tagger, share: float, seed: int) -> Table:
    """The events that an unsupervised model learns: a share of the normal class, and some of the other.

    Raises:
        HepgenError: if there are not enough.
    """
    normal = int(entry.normal == "signal")
    rng = np.random.default_rng(seed)
    kept, other = (rng.permutation(np.flatnonzero(table.columns["label"] == value)) for value in (normal, 1 - normal))
    kept = kept[: max(1, round(min(share, 1.0) * len(kept)))]
    if len(kept) == 0:
        msg = f"tagging: no {entry.normal} events (label {normal}) to train on; add such a sample to tagging.samples"
        raise HepgenError(msg)
    wanted = round(entry.contamination / (1 - entry.contamination) * len(kept))
    if wanted > len(other):
        msg = f"tagging: a contamination of {entry.contamination:g} takes {wanted} events of the other class"
        raise HepgenError(f"{msg}; there are {len(other)} among these {len(table)} events")
    return table[np.sort(np.concatenate([kept, other[:wanted]]))]
