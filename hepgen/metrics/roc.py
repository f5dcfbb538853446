"""How well a score separates signal from background: ROC curve, AUC, rejection, SIC."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hepgen.errors import HepgenError
from hepgen.metrics.intervals import binned_sums

__all__ = ["FLOOR_EVENTS", "FLOOR_PUBLISHED", "FLOOR_PUBLISHED_EVENTS", "Ranking", "Roc"]

# LHC Olympics studies cut their SIC curves here (Hallin et al. 2109.00546), where about 6 of their 340 000 background
# events are left; of fewer events it would be less than one, so that both must hold.
FLOOR_PUBLISHED = 1.84e-5
FLOOR_PUBLISHED_EVENTS = 6
# Fewer background events than this know their own number no better than to 20 %.
FLOOR_EVENTS = 25


@dataclass(frozen=True)
class Roc:
    """Efficiencies at every threshold, from the tightest cut to none at all: one curve, or one for each replica.

    Attributes:
        signal: Signal efficiency εS, shape (..., t), rising from 0 to 1.
        background: Background efficiency εB, shape (..., t).
        passing: Effective number (Σw)²/Σw² of background events that pass, shape (..., t).
    """

    signal: np.ndarray
    background: np.ndarray
    passing: np.ndarray

    @property
    def auc(self) -> np.ndarray:
        """Area under εS as a function of εB, shape (...): 0.5 for a random score, 1 for a perfect one."""
        heights = self.signal[..., 1:] + self.signal[..., :-1]
        return (np.diff(self.background) * heights).sum(-1) / 2

    def background_at(self, efficiency: np.ndarray | float) -> np.ndarray:
        """Background efficiency of the tightest cuts that reach the given k signal efficiencies, shape (..., k)."""
        reached = _along(lambda signal: np.searchsorted(signal, efficiency, side="left"), self.signal)
        return np.take_along_axis(self.background, reached, -1)

    def signal_at(self, efficiency: np.ndarray | float) -> np.ndarray:
        """Signal efficiency of the loosest cuts that keep the given k background efficiencies, shape (..., k)."""
        kept = _along(lambda background: np.searchsorted(background, efficiency, side="right") - 1, self.background)
        return np.take_along_axis(self.signal, kept, -1)

    def rejection(self, efficiency: np.ndarray | float) -> np.ndarray:
        """1/εB at the given k signal efficiencies, shape (..., k).

        Where less than one background event passes, one is counted: a lower bound.
        """
        return 1 / np.maximum(self.background_at(efficiency), 1 / self.passing[..., -1:])

    def sic(self) -> np.ndarray:
        """Significance improvement εS/√εB (Gallicchio et al. 1001.2522), shape (..., t); 0 where εB is 0."""
        root = np.sqrt(np.maximum(self.background, 0))
        return np.divide(self.signal, root, out=np.zeros_like(root), where=root > 0)

    def max_sic(self, *, efficiency: float = 0.0, events: float = 0.0) -> np.ndarray:
        """The largest SIC among thresholds that leave enough background, or 1, no cut at all; shape (...).

        Args:
            efficiency: Smallest background efficiency.
            events: Smallest effective number of background events.
        """
        allowed = (self.background >= efficiency) & (self.passing >= events)
        return np.where(allowed, self.sic(), 0.0).max(-1, initial=1.0)


class Ranking:
    """Events sorted by score once, so that their ROC is quick to recompute for many resamplings.

    Args:
        score: Anomaly scores, shape (n,), higher is more anomalous; equal scores share a threshold.
        label: 1 for signal and 0 for background, shape (n,).
        weight: Event weights, shape (n,); all 1 without them.

    Raises:
        HepgenError: if a score is not finite, all are equal, or a class is missing.
    """

    def __init__(self, score: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None) -> None:
        _check(score, label)
        order = np.argsort(-score, kind="stable")
        ordered = score[order]
        self.ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(score) - 1)
        self.position = np.empty(len(score), dtype=np.int64)
        self.position[order] = np.arange(len(score))
        self.label = (label == 1).astype(np.int64)
        self.weight = np.ones(len(score)) if weight is None else weight.astype(np.float64)

    def roc(self) -> Roc:
        """The ROC of the events as they are, with every threshold there is."""
        roc = self._curves(self.ends, np.ones((len(self.label), 1)))
        return Roc(roc.signal[0], roc.background[0], roc.passing[0])

    def replicas(self, counts: np.ndarray) -> Roc:
        """The ROCs with each event taken as often as `counts`, shape (n, replicas), says; arrays (replicas, t).

        Neighbouring thresholds whose background and signal efficiencies differ by less than 1 % and 0.001 are merged:
        the spread of figures of merit is far larger.
        """
        roc = self.roc()
        steps = np.floor([np.log(roc.background + 1 / roc.passing[-1]) / 0.01, roc.signal / 0.001])[:, 1:]
        kept = np.append((np.diff(steps) != 0).any(0), True)
        return self._curves(self.ends[kept], counts)

    def _curves(self, ends: np.ndarray, counts: np.ndarray) -> Roc:
        """ROCs with thresholds behind the given positions in the sorted list."""
        rows = np.searchsorted(ends, self.position) + len(ends) * self.label

        def cumulate(weight: np.ndarray) -> np.ndarray:
            sums = binned_sums(rows, weight, 2 * len(ends), counts).reshape(-1, 2, len(ends))
            return np.pad(np.cumsum(sums, -1), ((0, 0), (0, 0), (1, 0))).swapaxes(0, 1)

        background, signal = cumulate(self.weight)
        # Of equal weights, Σw² follows from Σw.
        equal = np.ptp(self.weight) == 0
        squares = background * self.weight[0] if equal else cumulate(self.weight**2)[0]
        passing = np.divide(background**2, squares, out=np.zeros_like(squares), where=squares > 0)
        return Roc(signal / signal[:, -1:], background / background[:, -1:], passing)


def _along(function: Callable[[np.ndarray], np.ndarray], curves: np.ndarray) -> np.ndarray:
    """A function of one curve (t,), with a result of shape (k,), for curves of shape (..., t)."""
    results = [np.atleast_1d(function(curve)) for curve in curves.reshape(-1, curves.shape[-1])]
    return np.reshape(results, (*curves.shape[:-1], -1))


def _check(score: np.ndarray, label: np.ndarray) -> None:
    if not np.isfinite(score).all():
        msg = (
            f"{np.count_nonzero(~np.isfinite(score))} of {len(score)} scores are not finite; did the training diverge?"
        )
        raise HepgenError(msg)
    for value, name in ((0, "background"), (1, "signal")):
        if not np.any(label == value):
            msg = f"no {name} events (label {value}) among the {len(label)} test events; add a sample that has some"
            raise HepgenError(msg)
    if np.ptp(score) == 0:
        msg = f"all {len(score)} scores equal {score[0]}; the model has learnt nothing, or its input is constant"
        raise HepgenError(msg)
