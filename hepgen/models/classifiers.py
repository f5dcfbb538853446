"""Classifiers that tell two weighted samples apart: their logit estimates the log of the density ratio."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MLPClassifier"]


class MLPClassifier(nn.Module):
    """A fully connected network with one output, the logit of belonging to class 1.

    Trained with the weighted cross-entropy on classes of equal total weight, the logit tends to
    log p(x | 1)/p(x | 0).

    Args:
        features: Inputs per event; they should be of order one.
        hidden: Widths of the hidden layers.
        dropout: Probability of dropping a hidden unit in training.

    References:
        Cranmer, Pavez, Louppe, "Approximating likelihood ratios with calibrated discriminative classifiers",
        2015, arXiv:1506.02169.
    """

    sees_observables = True

    def __init__(self, features: int, *, hidden: Sequence[int] = (100, 100, 100), dropout: float = 0.0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in hidden:
            layers += [nn.Linear(features, width), nn.SiLU(), nn.Dropout(dropout)]
            features = width
        self.network = nn.Sequential(*layers, nn.Linear(features, 1))

    def logit(self, x: Tensor) -> Tensor:
        """Logits of shape (n,) for inputs of shape (n, features)."""
        return self.network(x).squeeze(-1)

    def loss(self, x: Tensor, y: Tensor, w: Tensor) -> Tensor:
        """Weighted binary cross-entropy, a scalar.

        Args:
            x: Inputs, shape (n, features).
            y: Probability of class 1 in [0, 1], shape (n,); 0 or 1 for events of one class.
            w: Event weights of mean one over the sample, not over this batch, shape (n,).
        """
        return (w * functional.binary_cross_entropy_with_logits(self.logit(x), y, reduction="none")).mean()

    @torch.no_grad()
    def predict(self, x: Tensor, *, batch_size: int = 1 << 16) -> Tensor:
        """Logits of any number of events, shape (n,), without gradients, on the CPU in float64."""
        device = next(self.parameters()).device
        parts = [self.logit(part.to(device)).cpu().double() for part in x.split(batch_size)]
        return torch.cat(parts)
