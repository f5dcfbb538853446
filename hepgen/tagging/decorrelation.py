"""Which of the taggers' events and scores a decorrelation acts on."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepgen.config import Config, Tagger
from hepgen.errors import HepgenError
from hepgen.models.decorrelation import ConditionalRank, DisCo, Pivot
from hepgen.progress import Log
from hepgen.table import Table
from hepgen.tagging.taggers import first_scores, is_supervised
from hepgen.training import Adversarial, Descent, Indexable

__all__ = ["after_training", "in_training", "is_penalised", "planed"]

PLANING_BINS = 50
# Share of an adversarial training in which the tagger learns alone.
ALONE = 0.2


def is_penalised(entry: Tagger) -> bool:
    """Whether a penalty is added to the entry's loss; one of strength 0 is none."""
    return bool(entry.decorrelation and entry.decorrelation.strength)


def planed(config: Config, entry: Tagger, tables: Sequence[Table]) -> Sequence[Table]:
    """The events, reweighted so that the observable's spectrum teaches nothing, where that is asked for.

    The classes of a supervised model are given one spectrum, at each value the lower one of both: no event is
    multiplied where the other class has few. The one class of another model is given a flat one between the 1 % and
    99 % quantiles of the observable, and events beyond count as those at the edge. The first table says how; the
    weights of its classes keep their sums.

    Raises:
        HepgenError: if the observable hardly varies, or its spectra have nothing in common.

    References:
        De Oliveira et al. 2015, arXiv:1511.05190; Chang, Cohen, Ostdiek 2017, arXiv:1709.10106 (planing).
    """
    if entry.decorrelation is None or entry.decorrelation.method != "planing":
        return tables
    name, number = config.tagging.observable_of(entry), 1 + is_supervised(entry)

    def classes(table: Table) -> np.ndarray:
        return table.columns["label"] if is_supervised(entry) else np.zeros(len(table), dtype=np.int8)

    first, tail = tables[0], 0.01 if number == 1 else 0.0
    shares = np.linspace(tail, 1 - tail, PLANING_BINS // number + 1)
    each = [first.columns[name][classes(first) == value].astype(np.float64) for value in range(number)]
    edges = np.unique([np.quantile(values, shares) for values in each])
    if len(edges) < 2:
        msg = f"tagging: planing of {entry.type} in {name}, which is the same for 98 % of the events"
        raise HepgenError(f"{msg}; set decorrelation.observable to another one")

    def places(table: Table) -> tuple[np.ndarray, np.ndarray]:
        """Class and bin of each event."""
        return classes(table), np.searchsorted(edges[1:-1], table.columns[name], side="right")

    spectra = np.zeros((number, len(edges) - 1))
    np.add.at(spectra, places(first), first.columns["weight"])
    spectra /= spectra.sum(1, keepdims=True)
    target = spectra.min(0) if is_supervised(entry) else np.where(spectra[0] > 0, np.diff(edges), 0)
    if target.sum() == 0:
        msg = f"tagging: planing of {entry.type} in {name}: no value is that of background and of signal events"
        raise HepgenError(f"{msg}; set decorrelation.observable to another one")
    factors = np.divide(target / target.sum(), spectra, out=np.zeros_like(spectra), where=spectra > 0)
    planed = [
        Table({**t.columns, "weight": t.columns["weight"] * factors[places(t)]}, t.truth, t.constituents)
        for t in tables
    ]
    for value, values in enumerate(each):
        weight = planed[0].columns["weight"][classes(first) == value]
        left = weight.sum() ** 2 / np.square(weight).sum()
        Log()(f"planing in {name}: {len(values)} events of class {value} count as much as {left:.0f} of equal weight")
    return planed


def in_training(
    config: Config, entry: Tagger, network: nn.Module, tables: Sequence[Table], rows: Sequence[int]
) -> tuple[nn.Module, type[Descent] | type[Adversarial], list[list[Tensor]]]:
    """What is trained instead of the network, how, and the array that its batches have in addition.

    Args:
        config: The run's configuration.
        entry: The tagger.
        network: Its network.
        tables: Events to train and to validate on.
        rows: Rows of network inputs made of each: one for an event, or one for each of its jets.

    Returns:
        A module that holds the network, the method, and for each table the standardised observable, NaN for signal
        of a supervised model; nothing where no penalty is asked for.

    Raises:
        HepgenError: if the observable is the same for all events.
    """
    if not is_penalised(entry):
        return network, Descent, [[] for _ in tables]
    values = _varying(config, entry, tables[0])
    arrays = []
    for table, number in zip(tables, rows, strict=True):
        observable = (table.columns[config.tagging.observable_of(entry)] - values.mean()) / values.std()
        observable = np.where(_counted(entry, table), observable, np.nan)
        arrays.append([torch.from_numpy(np.tile(observable, number // len(table))).float()])
    strength, kind = entry.decorrelation.strength, "".join(entry.scores[:1])
    if entry.decorrelation.method == "disco":
        return DisCo(network, strength, kind), Descent, arrays
    batches = entry.training.epochs * math.ceil(rows[0] / entry.training.batch_size)
    return Pivot(network, strength, kind, alone=round(ALONE * batches)), Adversarial, arrays


def after_training(
    config: Config,
    entry: Tagger,
    network: Any,
    inputs: Sequence[Indexable],
    tables: Sequence[Table],
    device: torch.device,
) -> dict[str, ConditionalRank]:
    """The transformation of the trained tagger's score, if one is asked for.

    It is fitted on the background that the model learnt and on that which steered its training: the former alone is
    scored too low by a model that knows it by heart, and the latter alone is too little to fix quantiles.
    """
    if entry.decorrelation is None or entry.decorrelation.method != "quantiles":
        return {}
    columns = []
    for x, table in zip(inputs, tables, strict=True):
        scores = first_scores(entry, network, x, device).reshape(-1, len(table)).mean(0)
        mass = table.columns[config.tagging.observable_of(entry)]
        columns.append(np.stack([scores, mass, table.columns["weight"]])[:, _counted(entry, table)])
    return {"decorrelation": ConditionalRank().fit(*np.concatenate(columns, axis=1))}


def _counted(entry: Tagger, table: Table) -> np.ndarray:
    """The events whose score must not know the observable: the background, or all that a model of one class learns."""
    return (table.columns["label"] == 0) | (not is_supervised(entry))


def _varying(config: Config, entry: Tagger, table: Table) -> np.ndarray:
    """The observable of the events that count, float64.

    Raises:
        HepgenError: if it is the same for all of them.
    """
    name = config.tagging.observable_of(entry)
    values = table.columns[name][_counted(entry, table)].astype(np.float64)
    if len(values) == 0 or np.ptp(values) == 0:
        msg = f"tagging: decorrelation of {entry.type} from {name}, which is the same for all {len(values)} events"
        raise HepgenError(f"{msg}; set decorrelation.observable to another one")
    return values
