"""Ratios of weighted samples by classifiers: the step that all unbinned methods are made of."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import expit, ndtri
from torch import Tensor

from hepgen import checkpoints
from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.models import CLASSIFIERS
from hepgen.progress import Log
from hepgen.training import pick_device, train

__all__ = ["LOGIT_LIMIT", "Outcome", "Ratio", "Reweighter", "normal_scores", "report"]

# exp(10) = 22,026: a ratio that no sample of this size can establish.
LOGIT_LIMIT = 10.0
VALIDATION_FRACTION = 0.2
CALIBRATION_BINS = 10


class Outcome(NamedTuple):
    """What an unbinned method makes of n simulated events in K iterations.

    Attributes:
        weights: Factors that multiply the simulation's own weights, a function of the truth, shape (K, n); one for
            fakes. Their mean over the weighted events that pass at both levels is one, so that the shape is unfolded
            and the yield is left to the caller.
        about: What else is to be kept, by name, arrays with K rows, e.g. ``clamped``, how many logits were cut off.
    """

    weights: np.ndarray
    about: dict[str, np.ndarray]


class Ratio(NamedTuple):
    """What a classifier makes of two samples.

    Attributes:
        values: p(x | 1)/p(x | 0) at the points times the ratio of the classes' weights, float64 of shape (m,).
        clamped: How many of their logits were cut off at ±`LOGIT_LIMIT`.
        calibration: Mean prediction, mean label and its error of the events held out, in bins of as many events each by
            rising prediction, shape (bins, 3); NaN in bins without events, of which there are some if events are few.
    """

    values: np.ndarray
    clamped: int
    calibration: np.ndarray


@dataclass(frozen=True)
class Reweighter:
    """Learns the ratio of two weighted samples, with a fresh classifier each time.

    Attributes:
        classifier: A name of `hepgen.models.CLASSIFIERS`.
        settings: Keyword arguments of its constructor.
        training: How it is trained, if it has a loss.
        device: Where.
        constituents: Whether it sees the leading jet's constituents beside the observables.
    """

    classifier: str = "mlp"
    settings: dict[str, Any] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    device: str = "auto"
    constituents: bool = False

    def __call__(
        self, x: Sequence[Tensor], y: np.ndarray, w: np.ndarray, points: Sequence[Tensor], *, seed: int, copies: int = 1
    ) -> Ratio:
        """Train on labelled events, then evaluate.

        Events without weight are left out. Of the others a fifth is held out, which decides when to stop.

        Args:
            x: Observables, float32 of order one, shape (n, d), and the constituents that the classifier sees, if any.
            y: Probability of class 1, shape (n,).
            w: Event weights, shape (n,); their scale does not matter.
            points: Where to evaluate, the same of m events.
            seed: Fixes the classifier, the split and the order of the batches.
            copies: How many rows one after the other, of the same weight, are one event; all of them are held out or
                none.

        Raises:
            HepgenError: if there is nothing to learn from, or the training diverges.
        """
        torch.manual_seed(seed)
        model = CLASSIFIERS.load(self.classifier)(x[0].shape[1], **self.settings)
        order = torch.from_numpy(np.flatnonzero(w).reshape(-1, copies))
        if len(order) < 2:
            msg = f"unfolding: {len(order)} events of positive weight for {self.classifier} to learn from"
            raise HepgenError(f"{msg}; check the selection and the weights")
        order = order[torch.randperm(len(order))]
        columns = (*x, torch.from_numpy(y).float(), torch.from_numpy(w / w[w > 0].mean()).float())
        few = math.ceil(VALIDATION_FRACTION * len(order))
        sides = order[:few].ravel(), order[few:].ravel()
        validation, learnt = ([column[part] for column in columns] for part in sides)
        if hasattr(model, "fit"):
            checkpoints.fit(model, *learnt, validation=validation, seed=seed)
        else:
            model.to(pick_device(self.device))
            train(model, learnt, validation, settings=self.training, seed=seed, name=self.classifier, verbose=False)
        logits = model.predict(*points).numpy()
        clamped = int(np.sum(np.abs(logits) > LOGIT_LIMIT))
        values = np.exp(np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT))
        *inputs, label, weight = validation
        held_out = (column.double().numpy() for column in (model.predict(*inputs), label, weight))
        return Ratio(values, clamped, _calibration(*held_out))


def normal_scores(values: np.ndarray) -> Tensor:
    """Every column of observables, shape (n, d), made normal by its ranks, float32; equal values stay equal.

    A network then sees the bulk and the tails of any spectrum at the same scale. No ratio of densities depends on it.

    References:
        After van der Waerden, "Order tests for the two-sample problem and their power", 1952.
    """
    scores = torch.empty(values.shape)
    for column, numbers in zip(scores.T, values.T, strict=True):
        _, which, counts = np.unique(numbers, return_inverse=True, return_counts=True)
        column[:] = torch.from_numpy(ndtri((np.cumsum(counts) - counts / 2) / len(numbers))[which])
    return scores


def report(step: str, nu: np.ndarray, more: str) -> None:
    """Log the range of the factors that an iteration ends with, shape (n,), and what else there is to say."""
    low, high = np.quantile(nu, [0.005, 0.995])
    Log()(f"{step}  99 % of weights in {low:.3g} to {high:.3g}  {more}")


def _calibration(logits: np.ndarray, label: np.ndarray, weight: np.ndarray) -> np.ndarray:
    rows = np.full((CALIBRATION_BINS, 3), np.nan)
    bins = np.array_split(np.argsort(logits, kind="stable"), CALIBRATION_BINS)
    for row, part in zip(rows, filter(len, bins), strict=False):
        share = weight[part] / weight[part].sum()
        observed = share @ label[part]
        row[:] = share @ expit(logits[part]), observed, np.sqrt(share**2 @ (label[part] - observed) ** 2)
    return rows
