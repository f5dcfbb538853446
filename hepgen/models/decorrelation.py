"""Scores that do not know an observable: penalties while training, and a transformation afterwards."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hepgen.errors import HepgenError

__all__ = ["ConditionalRank", "DisCo", "Pivot", "distance_correlation"]

LARGEST = 2048
TINY = 1e-20
SMALLEST = 1e-300
# Share of the background that the quantiles at one mass are taken from.
WINDOW = 1 / 4
# Quantiles of the scores at which outliers are cut, and the least spread at a mass in units of its mean.
OUTLIERS = (0.005, 0.995)
LEAST_SPREAD = 0.2


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
    weight = weight / weight.sum().clamp_min(TINY)
    (a, b), spreads = zip(*(_standardised(x, weight) for x in (a, b)), strict=True)
    first, second = ((x[:, None] - x[None, :]).abs() for x in (a, b))
    rows = first @ weight, second @ weight
    means = [weight @ row for row in rows]
    # The centred distances of the definition, multiplied out: their squares need no matrix at all.
    covariance = weight @ (first * second) @ weight + means[0] * means[1] - 2 * weight @ (rows[0] * rows[1])
    variances = [2 * s + mean**2 - 2 * weight @ row.square() for s, mean, row in zip(spreads, means, rows, strict=True)]
    return covariance / (variances[0] * variances[1]).clamp_min(TINY).sqrt()


def _standardised(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Values of mean 0 and deviation 1, and their variance: 1, or 0 where all are equal."""
    x = x - weight @ x
    x = x / (weight @ x.square()).clamp_min(TINY).sqrt()
    return x, weight @ x.square()


class DisCo(nn.Module):
    """A tagger's loss plus λ times the squared distance correlation of its score and an observable of the background.

    Args:
        tagger: A network with ``loss(*batch)`` and ``score(x)``.
        strength: λ.
        kind: Which of its scores is penalised; its own without it.

    References:
        Kasieczka, Shih 2020, arXiv:2001.05310.
    """

    def __init__(self, tagger: nn.Module, strength: float, kind: str = "") -> None:
        super().__init__()
        self.tagger = tagger
        self.strength = strength
        self.kind = kind

    def loss(self, *batch: Tensor) -> Tensor | None:
        """The penalised loss of a batch whose last array is the observable, shape (n,), NaN where it does not count.

        None where the tagger has none, as some have not for validation.
        """
        own = self.tagger.loss(*batch[:-1])
        if own is None:
            return None
        counted = _counted(self.tagger, self.kind, batch)
        # The matrices of distances take memory with the square of the events: large batches are compared in parts.
        parts = max(1, math.ceil(len(counted[0]) / LARGEST))
        penalty = sum(distance_correlation(*part) for part in zip(*(x.chunk(parts) for x in counted), strict=True))
        return own + self.strength * penalty / parts


class Pivot(nn.Module):
    """A tagger against an adversary that infers an observable of the background from the score.

    The adversary models the observable's distribution given the score by a mixture of Gaussians; the tagger minimises
    its own loss minus λ times the adversary's. The adversary sees scores in units of their spread in the batch:
    shrinking them hides nothing.

    Args:
        tagger: A network with ``loss(*batch)`` and ``score(x)``.
        strength: λ.
        kind: Which of its scores the adversary sees; its own without it.
        alone: Batches that the tagger learns from before the adversary's loss counts; the adversary learns too.
        components: Gaussians of the mixture.
        hidden: Width of the adversary's two layers.

    Attributes:
        discriminator_steps: Updates of the adversary before each one of the tagger.

    References:
        Louppe, Kagan, Cranmer 2017, arXiv:1611.01046 (Learning to pivot); ATL-PHYS-PUB-2018-014.
    """

    discriminator_steps = 3

    def __init__(
        self,
        tagger: nn.Module,
        strength: float,
        kind: str = "",
        *,
        alone: int = 0,
        components: int = 5,
        hidden: int = 64,
    ) -> None:
        super().__init__()
        self.generator = tagger
        self.strength = strength
        self.kind = kind
        self.alone = alone
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.discriminator = nn.Sequential(
            nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 3 * components)
        )

    def discriminator_loss(self, *batch: Tensor) -> Tensor:
        """−log p(observable | score) of the background, a scalar; the batch's last array is the observable."""
        with torch.no_grad():
            counted = _counted(self.generator, self.kind, batch)
        return self._surprise(*counted)

    def generator_loss(self, *batch: Tensor) -> Tensor:
        """The tagger's loss minus λ times the adversary's."""
        self.batches += 1
        loss = self.generator.loss(*batch[:-1])
        if self.batches <= self.alone:
            return loss
        return loss - self.strength * self._surprise(*_counted(self.generator, self.kind, batch))

    def _surprise(self, score: Tensor, observable: Tensor, weight: Tensor) -> Tensor:
        share = weight / weight.sum().clamp_min(TINY)
        score = score - share @ score
        score = score / (share @ score.square()).clamp_min(TINY).sqrt()
        logit, mean, log_sigma = self.discriminator(score[:, None]).chunk(3, dim=1)
        log_sigma = log_sigma.clamp(-4, 4)
        pull = (observable[:, None] - mean) / log_sigma.exp()
        terms = logit.log_softmax(1) - log_sigma - pull.square() / 2 - math.log(2 * math.pi) / 2
        return -share @ terms.logsumexp(1)


def _counted(tagger: nn.Module, kind: str, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, observables and weights of a batch's events that have an observable: inputs, (labels), (weights), it."""
    x, *others, observable = batch
    weights = others[1:] if getattr(tagger, "supervised", False) else others
    weight = weights[0] if weights else torch.ones_like(observable)
    counted = ~observable.isnan()
    score = tagger.score(x, kind) if kind else tagger.score(x)
    return tuple(values[counted] for values in (score, observable, weight))


class ConditionalRank(nn.Module):
    """Replaces a score by its quantile among background events of about the same mass.

    At each of `knots` masses the quantiles of the score are those of the nearest quarter of the background, less the
    farther an event is, after its score was moved to where it would be at that mass, by a location and a spread that
    are linear in the mass there. Between knots they are interpolated; the first and the last one are at the ends of the
    spectrum, beyond which the quantiles stay. A cut on the result rejects the same share of background at every mass.

    Args:
        knots: Masses at which the quantiles are kept, at equal steps of the background's distribution.
        levels: Quantiles kept at each, closer to each other at high scores.

    References:
        Fixed-efficiency regression with k nearest neighbours, ATL-PHYS-PUB-2018-014; here they are weighted and on a
        line as in Cleveland 1979, "Robust locally weighted regression", JASA 74, 829.
    """

    def __init__(self, knots: int = 33, levels: int = 101) -> None:
        super().__init__()
        fractions = 1 - (1 - torch.linspace(0, 1, levels, dtype=torch.float64)).square()
        self.register_buffer("masses", torch.linspace(0, 1, knots, dtype=torch.float64))
        self.register_buffer("fractions", fractions, persistent=False)
        self.register_buffer("quantiles", fractions.expand(knots, -1).clone())

    def fit(self, score: np.ndarray, mass: np.ndarray, weight: np.ndarray) -> "ConditionalRank":
        """Learn the quantiles from background events with weights that are not negative, arrays of shape (n,).

        Raises:
            HepgenError: if there are fewer events than quantiles.
        """
        knots, levels = self.quantiles.shape
        order = np.argsort(mass, kind="stable")
        order = order[weight[order] > 0]
        if len(order) < levels:
            msg = f"decorrelation by quantiles: {len(order)} events cannot fix {levels} quantiles; give more events"
            raise HepgenError(msg)
        score, mass, weight = (np.asarray(values, dtype=np.float64)[order] for values in (score, mass, weight))
        window = max(levels, round(WINDOW * len(score)))
        for number, place in enumerate(np.linspace(0, len(score) - 1, knots).round().astype(np.int64)):
            start = min(max(0, place - window // 2), len(score) - window)
            near = np.arange(start, start + window)
            distance = np.abs(near - place)
            close = weight[near] * (1 - distance / (distance.max() + 1))
            moved = _moved(score[near], mass[near] - mass[place], close)
            self.masses[number] = mass[place]
            self.quantiles[number] = _weighted_quantiles(moved, close, self.fractions)
        return self

    def forward(self, score: Tensor, mass: Tensor) -> Tensor:
        """Quantiles of scores at their masses, shape (n,), float64.

        They are from 0 to 1 for scores among those of the background, and go on towards −1 and 2 beyond, so that the
        order of the scores at a mass is kept. There are no branches: the graph can be exported.
        """
        score, mass = score.double(), mass.double()
        shares = (mass[:, None] - self.masses[:-1]) / (self.masses[1:] - self.masses[:-1]).clamp_min(SMALLEST)
        curve = self.quantiles[0] + shares.clamp(0, 1) @ (self.quantiles[1:] - self.quantiles[:-1])
        low, high = curve[:, 0], curve[:, -1]
        steps = torch.maximum(curve[:, 1:] - curve[:, :-1], 1e-12 * (high - low)[:, None]).clamp_min(SMALLEST)
        inside = ((score[:, None] - curve[:, :-1]) / steps).clamp(0, 1) @ (self.fractions[1:] - self.fractions[:-1])
        above, below = (score - high).clamp_min(0), (low - score).clamp_min(0)
        return inside + (above - below) / (above + below + high - low).clamp_min(SMALLEST)


def _moved(score: np.ndarray, distance: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Where scores would be at distance 0, if their location and their spread are linear in the distance."""
    location = np.zeros_like(score)
    # Rare scores far off would turn the line, so that they are cut: those of all scores first, then those off the line.
    for _ in range(2):
        rest = score - location
        at_0, location = _line(distance, location + rest.clip(*np.quantile(rest, OUTLIERS)), weight)
    rest = score - location
    spread_at_0, spread = _line(distance, np.abs(rest.clip(*np.quantile(rest, OUTLIERS))), weight)
    least = LEAST_SPREAD * np.average(spread, weights=weight) + SMALLEST
    return at_0 + rest * max(spread_at_0, least) / spread.clip(min=least)


def _line(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> tuple[float, np.ndarray]:
    """The straight line of least squares through points: its value at x = 0 and those at all x."""
    middle, height = np.average(x, weights=weight), np.average(y, weights=weight)
    slope = (weight * (x - middle)) @ (y - height) / max(weight @ (x - middle) ** 2, SMALLEST)
    return height - slope * middle, height + slope * (x - middle)


def _weighted_quantiles(values: np.ndarray, weight: np.ndarray, fractions: Tensor) -> Tensor:
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weight[order])
    middle = (cumulative - weight[order] / 2) / cumulative[-1]
    return torch.from_numpy(np.interp(fractions.numpy(), middle, values[order]))
