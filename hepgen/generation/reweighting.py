"""Weights of generated events by the odds that a classifier gives them for being true."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hepgen import checkpoints
from hepgen.config import Training
from hepgen.metrics.divergences import effective_events
from hepgen.models import TAGGERS
from hepgen.preprocessing import Standard
from hepgen.table import Table
from hepgen.training import train

__all__ = ["Reweighter", "fit"]

# Numbers of trees to choose from: twice as many as long as the validation loss falls.
ROUNDS = [10 * 2**k for k in range(8)]
# The epochs of a network are chosen by its validation loss; this is how many there are at most.
TRAINING = Training(epochs=100, batch_size=512, patience=10)


@dataclass(frozen=True)
class Reweighter:
    """A classifier of truth against generated events.

    Attributes:
        scaler: Preprocessing of the events' columns.
        classifier: A supervised tagger.
        about: ``limit``, the largest log-odds that are believed, ``log_mean``, what makes the mean weight 1, and how
            well the reweighting does: see `fit`.

    References:
        Diefenbacher et al. 2020, "DCTRGAN", arXiv:2009.03796.
    """

    scaler: Standard
    classifier: Any
    about: dict[str, float]

    def weights(self, events: Table) -> np.ndarray:
        """Weights of generated events, shape (n,), float64; their mean is 1 over many events."""
        return np.exp(self.log_odds(events).clip(-self.about["limit"], self.about["limit"]) - self.about["log_mean"])

    def log_odds(self, events: Table) -> np.ndarray:
        """The logarithm of the odds for truth, shape (n,), float64."""
        with torch.no_grad():
            return self.classifier.score(self.scaler(_matrix(events))).double().numpy()


class _Classes(NamedTuple):
    """Truth, y = 1, and generated events, y = 0: x of shape (n, columns), y and weights of shape (n,)."""

    x: Tensor
    y: Tensor
    weight: Tensor


def fit(
    kind: str,
    truth: Sequence[Table],
    weights: Sequence[np.ndarray],
    made: Sequence[Table],
    fresh: Iterable[Table],
    seed: int,
) -> Reweighter:
    """Learn to tell truth from generated events, no further than it helps with events that are not learnt from.

    Log-odds beyond the logarithm of the number of true events to learn from are not believed; a classifier that is
    no better than a coin gives no event a weight but 1. What `Reweighter.about` says further: the ``validation_loss``
    (log 2 is a coin's), over fresh events the ``effective_share``, (Σw)²/(nΣw²), and how many were ``clamped``, of
    how many ``events``.

    Args:
        kind: ``gradient_boosting`` or ``mlp_classifier``.
        truth: Events to learn from, and events of the validation part.
        weights: Theirs.
        made: As many generated events of each, in the same columns.
        fresh: Further generated events, in batches, to normalise the weights with.
        seed: Fixes the classifier's random numbers.
    """
    scaler = Standard(len(truth[0].columns)).fit(torch.cat([_matrix(truth[0]), _matrix(made[0])]))
    data, held_out = (_classes(scaler, *part) for part in zip(truth, weights, made, strict=True))
    classifier, loss = (_network if TAGGERS.offers(kind, "loss") else _trees)(kind, data, held_out, seed)
    limit = math.log(len(truth[0])) if loss < math.log(2) else 0.0
    unscaled = Reweighter(scaler, classifier, {"limit": limit, "log_mean": 0.0})
    log_odds = np.concatenate([unscaled.log_odds(events) for events in fresh])
    odds = np.exp(log_odds.clip(-limit, limit))
    about = {
        "limit": limit,
        "log_mean": math.log(odds.mean()),
        "validation_loss": loss,
        "effective_share": effective_events(odds) / len(odds),
        "clamped": int((np.abs(log_odds) > limit).sum()) if limit else 0,
        "events": len(odds),
    }
    return Reweighter(scaler, classifier, about)


def _matrix(events: Table) -> Tensor:
    """All columns side by side, shape (n, columns), float64."""
    return torch.from_numpy(events.matrix(list(events.columns)))


def _classes(scaler: Standard, truth: Table, weight: np.ndarray, made: Table) -> _Classes:
    """Both classes with a mean weight of 1: one is as likely as the other before an event is seen."""
    x = torch.cat([scaler(_matrix(truth)), scaler(_matrix(made))])
    y = torch.cat([torch.ones(len(truth)), torch.zeros(len(made))])
    return _Classes(x, y, torch.cat([torch.from_numpy(weight / weight.mean()).float(), torch.ones(len(made))]))


def _trees(kind: str, data: _Classes, held_out: _Classes, seed: int) -> tuple[Any, float]:
    """The boosted trees with the smallest validation loss, and that loss."""
    best, least = None, math.inf
    for rounds in ROUNDS:
        model = TAGGERS.load(kind)(data.x.shape[1:], rounds=rounds)
        checkpoints.fit(model, data.x, data.y, data.weight, seed=seed)
        scores, y, weight = model.score(held_out.x), held_out.y.double(), held_out.weight.double()
        loss = float(functional.binary_cross_entropy_with_logits(scores, y, weight=weight))
        if loss >= least:
            break
        best, least = model, loss
    return best, least


def _network(kind: str, data: _Classes, held_out: _Classes, seed: int) -> tuple[Any, float]:
    """A network with the weights of its best epoch, and the validation loss of that."""
    torch.manual_seed(seed)
    model = TAGGERS.load(kind)(data.x.shape[1:])
    history = train(model, data, held_out, settings=TRAINING, seed=seed, name="reweighting", verbose=False)
    return model, min(history.validation)
