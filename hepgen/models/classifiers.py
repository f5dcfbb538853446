"""Networks that tell two weighted samples apart: their logit estimates the log of the density ratio."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hepgen.errors import HepgenError
from hepgen.models import sets
from hepgen.models.layers import at_least

__all__ = ["Classifier", "DeepSetsClassifier", "MLPClassifier"]

# Events whose hidden layers fit in a processor's cache.
PART = 1 << 12


class Classifier(nn.Module):
    """A network with one output, the logit of belonging to class 1.

    Trained with the weighted cross-entropy on classes of equal total weight, the logit tends to
    log p(x | 1)/p(x | 0).

    References:
        Cranmer, Pavez, Louppe, "Approximating likelihood ratios with calibrated discriminative classifiers",
        2015, arXiv:1506.02169.
    """

    def logit(self, *inputs: Tensor) -> Tensor:
        """Logits of shape (n,)."""
        raise NotImplementedError

    def loss(self, *columns: Tensor) -> Tensor:
        """Weighted binary cross-entropy, a scalar.

        Args:
            columns: The inputs of `logit`; the probability of class 1 in [0, 1], 0 or 1 for events of one class, shape
                (n,); and event weights of mean one over the sample, not over this batch, shape (n,).
        """
        *inputs, y, w = columns
        return functional.binary_cross_entropy_with_logits(self.logit(*inputs), y, weight=w)

    @torch.no_grad()
    def predict(self, *inputs: Tensor) -> Tensor:
        """Logits of any number of events, shape (n,), without gradients, on the CPU in float64."""
        device = next(self.parameters()).device
        parts = zip(*(column.split(PART) for column in inputs), strict=True)
        return torch.cat([self.logit(*(column.to(device) for column in part)).cpu().double() for part in parts])


class MLPClassifier(Classifier):
    """A fully connected network.

    Args:
        features: Inputs per event; they should be of order one.
        hidden: Widths of the hidden layers.
        dropout: Probability of dropping a hidden unit in training.
    """

    sees_observables = True

    def __init__(self, features: int, *, hidden: Sequence[int] = (64, 64, 64), dropout: float = 0.0) -> None:
        super().__init__()
        at_least(1, hidden=[1, *hidden])
        if not 0 <= dropout < 1:
            msg = f"dropout is {dropout}; it must be at least 0 and less than 1"
            raise HepgenError(msg)
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(features, width), nn.SiLU(), nn.Dropout(dropout)]
            features = width
        self.network = nn.Sequential(*layers, nn.Linear(features, 1))

    def logit(self, x: Tensor) -> Tensor:
        """Logits of shape (n,) for inputs of shape (n, features)."""
        return self.network(x).squeeze(-1)


class DeepSetsClassifier(Classifier):
    """What a set network makes of a jet's constituents is seen by a fully connected network beside the observables.

    Args:
        features: Observables per event; they should be of order one.
        particle: Widths of the layers that see one constituent.
        summary: Numbers that the constituents become.
        hidden: Widths of the hidden layers that see these and the observables.
        dropout: Probability of dropping one of their units in training.

    References:
        Those of `hepgen.models.sets.DeepSets`.
    """

    sees_constituents = True

    def __init__(
        self,
        features: int,
        *,
        particle: Sequence[int] = (64, 64),
        summary: int = 16,
        hidden: Sequence[int] = (64, 64, 64),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        at_least(1, summary=summary)
        self.encoder = sets.DeepSets(3, particle, [summary])
        self.classifier = MLPClassifier(features + summary, hidden=hidden, dropout=dropout)

    def logit(self, x: Tensor, particles: Tensor) -> Tensor:
        """Logits of shape (n,).

        Args:
            x: Observables, shape (n, features).
            particles: (pT, η, φ) of constituents, shape (n, any number, 3); padding has pT = 0.
        """
        return self.classifier.logit(torch.cat([x, self.encoder(particles)], dim=1))
