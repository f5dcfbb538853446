"""Scores that do not know an observable: penalties while training, and a transformation afterwards."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from hepgen.errors import HepgenError

__all__ = ["ConditionalRank", "DisCo", "Pivot", "distance_correlation"]


def distance_correlation(a: Tensor, b: Tensor, weight: Tensor | None = None) -> Tensor:
    """Squared distance correlation of two observables, between 0 (independent) and 1 (a linear function).

    Args:
        a: Shape (n,).
        b: Shape (n,).
        weight: Event weights, not negative, shape (n,).

    References:
        Székely, Rizzo, Bakirov 2007, arXiv:0803.4101; Kasieczka, Shih 2020, arXiv:2001.05310 (DisCo).
    """
    weight = torch.ones_like(a) if weight is None else weight
    weight = weight / weight.sum()
    first, second = (_centered(x, weight) for x in (a, b))

    def product(p: Tensor, q: Tensor) -> Tensor:
        return weight @ (p * q) @ weight

    variance = product(first, first) * product(second, second)
    return product(first, second) / variance.clamp_min(1e-20).sqrt()


def _centered(x: Tensor, weight: Tensor) -> Tensor:
    distances = (x[:, None] - x[None, :]).abs()
    rows = distances @ weight
    return distances - rows[:, None] - rows[None, :] + weight @ rows


class DisCo(nn.Module):
    """A tagger's loss plus λ times the distance correlation of its score and an observable of the background.

    Args:
        tagger: A network with ``loss(*batch)`` and ``score(x)``.
        strength: λ.

    References:
        Kasieczka, Shih 2020, arXiv:2001.05310.
    """

    def __init__(self, tagger: nn.Module, strength: float) -> None:
        super().__init__()
        self.tagger = tagger
        self.strength = strength

    def loss(self, *batch: Tensor) -> Tensor:
        """The penalised loss of a batch whose last array is the observable, shape (n,), NaN where it does not count."""
        *inputs, observable = batch
        counted = ~observable.isnan()
        penalty = distance_correlation(self.tagger.score(inputs[0][counted]), observable[counted])
        return self.tagger.loss(*inputs) + self.strength * penalty


class Pivot(nn.Module):
    """A tagger against an adversary that infers an observable of the background from the score.

    The adversary models the observable's distribution given the score by a mixture of Gaussians; the tagger minimises
    its own loss minus λ times the adversary's.

    Args:
        tagger: A network with ``loss(*batch)`` and ``score(x)``.
        strength: λ.
        components: Gaussians of the mixture.
        hidden: Width of the adversary's two layers.

    References:
        Louppe, Kagan, Cranmer 2017, arXiv:1611.01046 (Learning to pivot); ATL-PHYS-PUB-2018-014.
    """

    def __init__(self, tagger: nn.Module, strength: float, components: int = 5, hidden: int = 64) -> None:
        super().__init__()
        self.generator = tagger
        self.strength = strength
        self.discriminator = nn.Sequential(
            nn.BatchNorm1d(1, affine=False), nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 3 * components),
        )  # fmt: skip

    def discriminator_loss(self, *batch: Tensor) -> Tensor:
        """−log p(observable | score) of the background, a scalar; its last array is the observable."""
        *inputs, observable = batch
        counted = ~observable.isnan()
        with torch.no_grad():
            score = self.generator.score(inputs[0][counted])
        return self._surprise(score, observable[counted])

    def generator_loss(self, *batch: Tensor) -> Tensor:
        """The tagger's loss minus λ times the adversary's."""
        *inputs, observable = batch
        counted = ~observable.isnan()
        surprise = self._surprise(self.generator.score(inputs[0][counted]), observable[counted])
        return self.generator.loss(*inputs) - self.strength * surprise

    def _surprise(self, score: Tensor, observable: Tensor) -> Tensor:
        logit, mean, log_sigma = self.discriminator(score[:, None]).chunk(3, dim=1)
        log_sigma = log_sigma.clamp(-4, 4)
        pull = (observable[:, None] - mean) / log_sigma.exp()
        terms = logit.log_softmax(1) - log_sigma - pull.square() / 2 - math.log(2 * math.pi) / 2
        return -terms.logsumexp(1).mean()


class ConditionalRank(nn.Module):
    """Replaces a score by its quantile among background events of about the same mass.

    At each of `knots` masses the quantiles of the score are those of the nearest background events; between knots
    they are interpolated. A cut on the result rejects the same fraction of background at every mass.

    Args:
        knots: Masses at which the quantiles are kept, at equal steps of the background's distribution.
        levels: Quantiles kept at each.

    References:
        Fixed-efficiency regression, ATL-PHYS-PUB-2018-014; Koenker, Bassett, Econometrica 46 (1978) 33.
    """

    def __init__(self, knots: int = 33, levels: int = 101) -> None:
        super().__init__()
        self.register_buffer("masses", torch.linspace(0, 1, knots, dtype=torch.float64))
        self.register_buffer("quantiles", torch.linspace(0, 1, levels, dtype=torch.float64).expand(knots, -1).clone())

    def fit(self, score: np.ndarray, mass: np.ndarray, weight: np.ndarray) -> "ConditionalRank":
        """Learn the quantiles from background events, arrays of shape (n,).

        Raises:
            HepgenError: if there are fewer events than quantiles.
        """
        knots, levels = self.quantiles.shape
        if len(score) < levels:
            msg = f"decorrelation by quantiles: {len(score)} events cannot fix {levels} quantiles; give more events"
            raise HepgenError(msg)
        order = np.argsort(mass, kind="stable")
        score, mass, weight = (np.asarray(values, dtype=np.float64)[order] for values in (score, mass, weight))
        window = max(levels, len(score) // (knots // 2))
        starts = np.linspace(0, len(score) - window, knots).round().astype(np.int64)
        fractions = np.linspace(0, 1, levels)
        for number, start in enumerate(starts):
            near = slice(start, start + window)
            self.masses[number] = float(np.average(mass[near], weights=weight[near]))
            self.quantiles[number] = torch.from_numpy(_weighted_quantiles(score[near], weight[near], fractions))
        return self

    def forward(self, score: Tensor, mass: Tensor) -> Tensor:
        """Quantiles of scores at their masses, shape (n,): from 0 to 1, and linearly on beyond the known scores."""
        score, mass = score.double(), mass.double()
        upper = torch.searchsorted(self.masses, mass).clamp(1, len(self.masses) - 1)
        low, high = self.masses[upper - 1], self.masses[upper]
        share = ((mass - low) / (high - low).clamp_min(1e-300)).clamp(0, 1)[:, None]
        curve = torch.lerp(self.quantiles[upper - 1], self.quantiles[upper], share)
        steps = curve.diff(dim=1).clamp_min(1e-12 * curve.abs().amax(1, keepdim=True).clamp_min(1e-300))
        position = (score[:, None] - curve[:, :-1]) / steps
        inside = position.clamp(0, 1).sum(1)
        below, above = position[:, 0].clamp(max=0), (position[:, -1] - 1).clamp(min=0)
        return (inside + below + above) / steps.shape[1]


def _weighted_quantiles(values: np.ndarray, weight: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    order = np.argsort(values)
    cumulative = np.cumsum(weight[order])
    return np.interp(fractions, (cumulative - weight[order] / 2) / cumulative[-1], values[order])
