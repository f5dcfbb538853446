"""Which of the taggers' events and scores a decorrelation acts on."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepgen.config import Config, Tagger
from hepgen.errors import HepgenError
from hepgen.models import TAGGERS
from hepgen.models.decorrelation import ConditionalRank, DisCo, Pivot
from hepgen.table import Table
from hepgen.tagging.taggers import in_batches, is_supervised
from hepgen.training import Adversarial, Descent, Indexable

__all__ = ["after_training", "check", "in_training", "is_penalised", "observable_of", "planed"]

PENALTIES = ("disco", "adversary")
PLANING_BINS = 50
# Share of an adversarial training in which the tagger learns alone.
ALONE = 0.2


def observable_of(config: Config, entry: Tagger) -> str:
    """What the entry's score must not know."""
    return (entry.decorrelation and entry.decorrelation.observable) or config.tagging.mass


def is_penalised(entry: Tagger) -> bool:
    """Whether a penalty is added to the entry's loss; one of strength 0 is none."""
    return bool(entry.decorrelation and entry.decorrelation.method in PENALTIES and entry.decorrelation.strength)


def check(model: str, entry: Tagger) -> None:
    """Raise `HepgenError` if an entry asks for a decorrelation that its model cannot do."""
    if is_penalised(entry) and not hasattr(TAGGERS.load(entry.type), "loss"):
        msg = f"tagging.models.{model}.decorrelation: {entry.type} has no loss that could be penalised"
        raise HepgenError(f"{msg}; take planing or quantiles")
    if entry.decorrelation and entry.decorrelation.method == "quantiles" and len(entry.scores) > 1:
        msg = f"tagging.models.{model}.scores: the quantiles of one score are learnt, not of {len(entry.scores)}"
        raise HepgenError(f"{msg}; make an entry for each")


def planed(config: Config, entry: Tagger, tables: Sequence[Table]) -> Sequence[Table]:
    """The events, reweighted so that the observable's spectrum teaches nothing, where that is asked for.

    The classes of a supervised model are given one spectrum, that of all events together; the one class of another
    model is given a flat one. The first table says how; the weights of its classes keep their sums.

    References:
        De Oliveira et al. 2015, arXiv:1511.05190; Chang, Cohen, Ostdiek 2017, arXiv:1709.10106 (planing).
    """
    if entry.decorrelation is None or entry.decorrelation.method != "planing":
        return tables
    supervised, name = is_supervised(entry), observable_of(config, entry)
    edges = np.quantile(_varying(config, entry, tables[0]), np.linspace(0, 1, PLANING_BINS + 1))
    target = np.ones(PLANING_BINS) if supervised else np.diff(edges)

    def places(table: Table) -> tuple[np.ndarray, np.ndarray]:
        """Class and bin of each event."""
        bins = np.searchsorted(edges, table.columns[name], side="right") - 1
        label = table.columns["label"] if supervised else np.zeros(len(table), dtype=np.int8)
        return label, np.clip(bins, 0, PLANING_BINS - 1)

    spectra = np.zeros((2, PLANING_BINS))
    np.add.at(spectra, places(tables[0]), tables[0].columns["weight"])
    factors = np.divide(target, spectra, out=np.zeros_like(spectra), where=spectra > 0)
    sums = (factors * spectra).sum(1, keepdims=True)
    factors *= spectra.sum(1, keepdims=True) / np.where(sums > 0, sums, 1)
    return [
        Table({**t.columns, "weight": t.columns["weight"] * factors[places(t)]}, t.truth, t.constituents)
        for t in tables
    ]


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
        observable = (table.columns[observable_of(config, entry)] - values.mean()) / values.std()
        observable = np.where(_counted(entry, table), observable, np.nan)
        arrays.append([torch.from_numpy(np.tile(observable, number // len(table))).float()])
    strength = entry.decorrelation.strength
    if entry.decorrelation.method == "disco":
        return DisCo(network, strength), Descent, arrays
    batches = entry.training.epochs * math.ceil(rows[0] / entry.training.batch_size)
    return Pivot(network, strength, alone=round(ALONE * batches)), Adversarial, arrays


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
    kind, columns = next(iter(entry.scores), None), []
    for x, table in zip(inputs, tables, strict=True):
        scores = in_batches(lambda x: network.score(x, kind) if kind else network.score(x), x, device)
        scores = scores.reshape(-1, len(table)).mean(0)
        mass = table.columns[observable_of(config, entry)]
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
    name = observable_of(config, entry)
    values = table.columns[name][_counted(entry, table)].astype(np.float64)
    if len(values) == 0 or np.ptp(values) == 0:
        msg = f"tagging: decorrelation of {entry.type} from {name}, which is the same for all {len(values)} events"
        raise HepgenError(f"{msg}; set decorrelation.observable to another one")
    return values
