"""Networks that see the labels of their training events: what anomaly taggers are held against."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from hepgen.errors import HepgenError
from hepgen.models import sets
from hepgen.models.classifiers import MLPClassifier
from hepgen.models.layers import at_least

__all__ = ["ConvClassifier", "DeepSets", "DenseClassifier"]


class Supervised(nn.Module):
    """Score = the logit of being signal; subclasses set `network`, which gives it in shape (n, 1)."""

    supervised = True
    network: nn.Module

    def score(self, x: Tensor) -> Tensor:
        """Logarithm of the odds for signal of each event, shape (n,)."""
        return self.network(x).squeeze(-1)

    def loss(self, x: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Cross-entropy of a batch with labels y (n,), each event counting by its weight (n,)."""
        losses = nn.functional.binary_cross_entropy_with_logits(self.score(x), y, reduction="none")
        return (losses if weight is None else weight * losses).mean()


class DenseClassifier(Supervised):
    """A fully connected network.

    Args:
        shape: Shape of one event's input, flattened inside.
        hidden: Widths of the hidden layers.
        dropout: Probability of dropping a hidden unit in training.
    """

    def __init__(self, shape: tuple[int, ...], *, hidden: tuple[int, ...] = (64, 64), dropout: float = 0.0) -> None:
        super().__init__()
        dense = MLPClassifier(math.prod(shape), hidden=hidden, dropout=dropout)
        self.network = nn.Sequential(nn.Flatten(), dense.network)


class ConvClassifier(Supervised):
    """Strided convolutions, then dense layers, for images.

    Args:
        shape: (channels, pixels, pixels) of one image.
        channels: Channels after each halving of the image.
        hidden: Width of the dense layer.

    References:
        After de Oliveira et al. 2015, arXiv:1511.05190 (Jet-images), with strides in place of pooling.
    """

    def __init__(self, shape: tuple[int, ...], *, channels: tuple[int, ...] = (16, 32, 64), hidden: int = 64) -> None:
        super().__init__()
        if len(shape) != 3:
            msg = f"cnn_classifier: inputs of shape {tuple(shape)}; it takes images (inputs: images)"
            raise HepgenError(msg)
        at_least(1, channels=channels, hidden=hidden)
        widths = (shape[0], *channels)
        layers = [layer for pair in pairwise(widths) for layer in (nn.Conv2d(*pair, 3, 2, 1), nn.ReLU())]
        sides = (-(-side // 2 ** len(channels)) for side in shape[1:])
        flat = widths[-1] * math.prod(sides)
        dense = (nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, 1))
        self.network = nn.Sequential(*layers, nn.Flatten(), *dense).to(memory_format=torch.channels_last)

    def score(self, x: Tensor) -> Tensor:
        """Logarithm of the odds for signal of each image, shape (n,)."""
        return super().score(x.contiguous(memory_format=torch.channels_last))


class DeepSets(Supervised):
    """The encoder of `hepgen.models.sets` with one output.

    Args:
        shape: (number, features) of one jet's constituents; where the first feature is 0, there is none.
        hidden: Widths of the hidden layers of both networks.
        latent_dim: What each constituent becomes.
    """

    def __init__(self, shape: tuple[int, ...], *, hidden: tuple[int, ...] = (64, 64), latent_dim: int = 64) -> None:
        super().__init__()
        if len(shape) != 2:
            msg = f"deep_sets: inputs of shape {tuple(shape)}; it takes constituents (inputs: constituents)"
            raise HepgenError(msg)
        self.network = sets.DeepSets(shape[1], [*hidden, latent_dim], [*hidden, 1])
