"""Which of the taggers' events and scores a decorrelation acts on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepgen.config import Config, Tagger
from hepgen.errors import HepgenError
from hepgen.models.decorrelation import ConditionalRank, DisCo, Pivot
from hepgen.table import Table
from hepgen.tagging.taggers import in_batches
from hepgen.training import Adversarial, Descent, Indexable

__all__ = ["after_training", "in_training", "observable_of", "planed", "refuse_in_training"]

PENALTIES = {"disco": (DisCo, Descent), "adversary": (Pivot, Adversarial)}
PLANING_BINS = 50


def observable_of(config: Config, entry: Tagger) -> str:
    """What the entry's score must not know."""
    return (entry.decorrelation and entry.decorrelation.observable) or config.tagging.mass


def planed(config: Config, entry: Tagger, table: Table) -> Table:
    """The events, reweighted so that each class has a flat spectrum in the observable, where that is asked for.

    The weights keep their sum in each class.

    References:
        De Oliveira et al. 2016, arXiv:1511.05190; Chang, Cohen, Ostdiek 2018, arXiv:1709.10106 (planing).
    """
    if entry.decorrelation is None or entry.decorrelation.method != "planing":
        return table
    values, weight = table.columns[observable_of(config, entry)], table.columns["weight"].astype(np.float64)
    edges = np.quantile(values, np.linspace(0, 1, PLANING_BINS + 1))
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, PLANING_BINS - 1)
    flat = np.zeros(len(values))
    for label in np.unique(table.columns["label"]):
        which = table.columns["label"] == label
        density = np.bincount(bins[which], weight[which], PLANING_BINS) / np.maximum(np.diff(edges), 1e-300)
        flat[which] = weight[which] / density[bins[which]]
        flat[which] *= weight[which].sum() / flat[which].sum()
    return Table({**table.columns, "weight": flat}, {}, table.constituents)


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
    """
    if entry.decorrelation is None or entry.decorrelation.method not in PENALTIES:
        return network, Descent, [[] for _ in tables]
    penalty, method = PENALTIES[entry.decorrelation.method]
    name = observable_of(config, entry)
    values = [table.columns[name].astype(np.float64) for table in tables]
    mean, deviation = values[0].mean(), values[0].std()
    supervised = getattr(network, "supervised", False)
    arrays = []
    for table, value, number in zip(tables, values, rows, strict=True):
        standard = (value - mean) / (deviation or 1.0)
        if supervised:
            standard = np.where(table.columns["label"] == 0, standard, np.nan)
        arrays.append([torch.from_numpy(np.tile(standard, number // len(table))).float()])
    return penalty(network, entry.decorrelation.strength), method, arrays


def refuse_in_training(model: str, entry: Tagger) -> None:
    """Raise `HepgenError` if a penalty is asked for in the training of a model that is not trained by batches."""
    if entry.decorrelation and entry.decorrelation.method in PENALTIES:
        msg = f"tagging.models.{model}.decorrelation: {entry.type} has no loss that could be penalised"
        raise HepgenError(f"{msg}; take planing or quantiles")


def after_training(
    config: Config, entry: Tagger, network: Any, inputs: Indexable, table: Table, device: torch.device
) -> dict[str, ConditionalRank]:
    """The transformation of the trained tagger's score, fitted on the background that it was trained on, if any."""
    if entry.decorrelation is None or entry.decorrelation.method != "quantiles":
        return {}
    kind = entry.scores[0] if entry.scores else None
    scores = in_batches(lambda x: network.score(x, kind) if kind else network.score(x), inputs, device)
    scores = scores.reshape(-1, len(table)).mean(0)
    background = table.columns["label"] == 0
    mass = table.columns[observable_of(config, entry)]
    rank = ConditionalRank().fit(scores[background], mass[background], table.columns["weight"][background])
    return {"decorrelation": rank}
