"""Ratios of weighted samples by classifiers: the step that all unbinned methods are made of."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from hepgen.config import Training
from hepgen.models import CLASSIFIERS
from hepgen.training import pick_device, train

__all__ = ["LOGIT_LIMIT", "Outcome", "Reweighter"]

# exp(10) = 22,026: a ratio that no sample of this size can establish.
LOGIT_LIMIT = 10.0
VALIDATION_FRACTION = 0.2


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


@dataclass(frozen=True)
class Reweighter:
    """Learns the ratio of two weighted samples of shape (n, d), with a fresh network each time.

    Attributes:
        classifier: A name of `hepgen.models.CLASSIFIERS`.
        settings: Keyword arguments of its constructor.
        training: How it is trained.
        device: Where.
    """

    classifier: str = "mlp"
    settings: dict[str, Any] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    device: str = "auto"

    def __call__(
        self, x: torch.Tensor, y: np.ndarray, w: np.ndarray, points: torch.Tensor, *, seed: int
    ) -> tuple[np.ndarray, int]:
        """Train on labelled events, then evaluate.

        Args:
            x: Standardised inputs, float32, shape (n, d).
            y: Probability of class 1, shape (n,).
            w: Event weights, shape (n,); their scale does not matter.
            points: Where to evaluate, shape (m, d).
            seed: Fixes the network, the split and the order of the batches.

        Returns:
            p(x | 1) / p(x | 0) at the points times the ratio of the classes' weights, float64 of shape (m,),
            and how many logits were clamped.
        """
        device = pick_device(self.device)
        torch.manual_seed(seed)
        model = CLASSIFIERS.load(self.classifier)(x.shape[1], **self.settings).to(device)
        order = torch.randperm(len(x))
        columns = (x, torch.from_numpy(y).float(), torch.from_numpy(w / w.mean()).float())
        held_out = int(VALIDATION_FRACTION * len(x))
        validation, learnt = ([column[part] for column in columns] for part in (order[:held_out], order[held_out:]))
        train(model, learnt, validation, settings=self.training, seed=seed, name=self.classifier, verbose=False)
        logits = model.predict(points).numpy()
        clamped = int(np.sum(np.abs(logits) > LOGIT_LIMIT))
        return np.exp(np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)), clamped
