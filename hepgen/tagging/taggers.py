"""Taggers from their configuration or their file: network, preprocessing and what stands behind a score."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepgen.config import Config, Tagger
from hepgen.errors import HepgenError
from hepgen.models import TAGGERS
from hepgen.models.decorrelation import ConditionalRank
from hepgen.models.files import load_model
from hepgen.preprocessing import Scaler
from hepgen.registry import look_up, unknown_name
from hepgen.tagging.dataset import make_scaler
from hepgen.training import Indexable

__all__ = ["Trained", "build", "first_scores", "in_batches", "is_supervised", "load_tagger", "restore", "score_kinds"]

BATCH = 512


@dataclass(frozen=True)
class Trained:
    """A trained tagger.

    Attributes:
        entry: Its configuration.
        network: The model, in evaluation mode.
        scaler: Its preprocessing.
        rank: What replaces an event's score by its quantile among background of the same mass, if anything.
        card: What its file says of it: name, seed, shape, history.
    """

    entry: Tagger
    network: Any
    scaler: Scaler
    rank: ConditionalRank | None
    card: dict[str, Any]

    def scores(self, inputs: Indexable, kind: str, device: torch.device) -> np.ndarray:
        """Scores of one kind of scaled inputs, shape (n,): one for each event, or for each jet."""
        return in_batches(lambda x: self.network.score(x, kind) if kind else self.network.score(x), inputs, device)


def first_scores(entry: Tagger, network: Any, inputs: Indexable, device: torch.device) -> np.ndarray:
    """Scores of the kind that is the tagger's, of scaled inputs, shape (n,)."""
    return in_batches(lambda x: network.score(x, *entry.scores[:1]), inputs, device)


def build(name: str, entry: Tagger, shape: tuple[int, ...]) -> Any:
    """An untrained model for inputs of the given shape.

    Raises:
        HepgenError: if its settings do not suit the inputs, or its entry asks for what it cannot do.
    """
    network = TAGGERS.load(entry.type)(shape, **entry.settings)
    for kind in entry.scores:
        if kind not in score_kinds(network):
            where = f"tagging.models.{name}.scores"
            raise HepgenError(f"{where}: {unknown_name(f'score of this {entry.type}', kind, score_kinds(network))}")
    return network


def score_kinds(network: Any) -> tuple[str, ...]:
    """The kinds of score that a model offers, its own first; none where it has just one."""
    return getattr(network, "kinds", ())


def is_supervised(entry: Tagger) -> bool:
    """Whether a tagger learns from labels, or from classes of samples."""
    return getattr(TAGGERS.load(entry.type), "supervised", False)


def load_tagger(config: Config, path: Path) -> Trained:
    """A trained tagger from its file.

    Raises:
        HepgenError: if the file is damaged or not of this configuration.
    """
    parts, card = load_model(path)
    return restore(path, look_up("entry of tagging.models", card["name"], config.tagging.entries), parts, card)


def restore(path: Path, entry: Tagger, parts: dict[str, dict[str, Any]], card: dict[str, Any]) -> Trained:
    """A trained tagger from its configuration and what `load_model` found in its file.

    Raises:
        HepgenError: if the two do not belong together.
    """
    network = build(card["name"], entry, tuple(card["shape"]))
    scaler = make_scaler(entry)
    rank = ConditionalRank() if "decorrelation" in parts else None
    try:
        network.load_state_dict(parts["model"])
        scaler.load_state_dict(parts["preprocessing"])
        if rank:
            rank.load_state_dict(parts["decorrelation"])
    except RuntimeError as error:
        msg = f"{path}: was trained with other settings than tagging.models.{card['name']}; train it again"
        raise HepgenError(msg) from error
    if isinstance(network, nn.Module):
        network.eval()
    return Trained(entry, network, scaler, rank, card)


def in_batches(function: Callable[[Tensor], Tensor], inputs: Indexable, device: torch.device) -> np.ndarray:
    """A function of any number of inputs, without gradients, float32."""
    values = np.empty(0)
    with torch.no_grad():
        for index in torch.arange(len(inputs)).split(BATCH):
            found = function(inputs[index].to(device)).cpu().numpy()
            # Made once: small results, each kept among the large arrays of its batch, would leave memory in pieces.
            if len(values) == 0:
                values = np.empty((len(inputs), *found.shape[1:]), np.float32)
            values[index.numpy()] = found
    return values
