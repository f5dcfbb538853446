"""How well a score separates signal from background: ROC curve, AUC, rejection, SIC."""

from dataclasses import dataclass

import numpy as np
from scipy.integrate import trapezoid

from hepgen.errors import HepgenError

__all__ = ["FLOOR_EVENTS", "FLOOR_PUBLISHED", "FLOOR_PUBLISHED_EVENTS", "Ranking", "Roc"]

# LHC Olympics studies cut their SIC curves here (Hallin et al. 2109.00546), where about 6 of their 340 000 background
# events are left; of fewer events it would be less than one, so that both must hold.
FLOOR_PUBLISHED = 1.84e-5
FLOOR_PUBLISHED_EVENTS = 6
# Fewer background events than this know their own number no better than to 20 %.
FLOOR_EVENTS = 25


@dataclass(frozen=True)
class Roc:
    """Efficiencies at every threshold, from the tightest cut to none at all.

    Attributes:
        signal: Signal efficiency εS, shape (t,), rising from 0 to 1.
        background: Background efficiency εB, shape (t,).
        passing: Effective number (Σw)²/Σw² of background events that pass, shape (t,).
    """

    signal: np.ndarray
    background: np.ndarray
    passing: np.ndarray

    @property
    def auc(self) -> float:
        """Area under εS as a function of εB: 0.5 for a random score, 1 for a perfect one."""
        return float(trapezoid(self.signal, self.background))

    def background_at(self, efficiency: np.ndarray | float) -> np.ndarray:
        """Background efficiency of the tightest cuts that reach the given signal efficiencies."""
        return self.background[np.searchsorted(self.signal, efficiency, side="left")]

    def rejection(self, efficiency: np.ndarray | float) -> np.ndarray:
        """1/εB at the given signal efficiencies.

        Where less than one background event passes, one is counted: a lower bound.
        """
        return 1 / np.maximum(self.background_at(efficiency), 1 / self.passing[-1])

    def sic(self) -> np.ndarray:
        """Significance improvement characteristic εS/√εB (Gallicchio et al. 1001.2522), shape (t,); 0 where εB is 0."""
        root = np.sqrt(np.maximum(self.background, 0))
        return np.divide(self.signal, root, out=np.zeros_like(root), where=root > 0)

    def max_sic(self, *, efficiency: float = 0.0, events: float = 0.0) -> float:
        """The largest SIC among thresholds that leave enough background, or 1, no cut at all.

        Args:
            efficiency: Smallest background efficiency.
            events: Smallest effective number of background events.
        """
        allowed = (self.background >= efficiency) & (self.passing >= events)
        return float(self.sic()[allowed].max(initial=1.0))


class Ranking:
    """Events sorted by score once, so that their ROC is quick to recompute with other weights.

    Args:
        score: Anomaly scores, shape (n,), higher is more anomalous; equal scores share a threshold.
        label: 1 for signal and 0 for background, shape (n,).
        weight: Event weights, shape (n,); all 1 without them.

    Raises:
        HepgenError: if a score is not finite, all are equal, or a class is missing.
    """

    def __init__(self, score: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None) -> None:
        _check(score, label)
        self.score = score
        self.order = np.argsort(-score, kind="stable")
        ordered = score[self.order]
        self.ends = np.append(np.flatnonzero(ordered[1:] != ordered[:-1]), len(score) - 1)
        self.is_signal = label[self.order] == 1
        self.weight = np.ones(len(score)) if weight is None else weight[self.order].astype(np.float64)

    def roc(self, counts: np.ndarray | None = None) -> Roc:
        """The ROC, each event taken `counts` times (shape (n,), in the order of the scores given); once by default."""
        weight = self.weight if counts is None else self.weight * counts[self.order]
        squares = weight * self.weight
        signal = self._cumulate(np.where(self.is_signal, weight, 0.0))
        background = self._cumulate(np.where(self.is_signal, 0.0, weight))
        spread = self._cumulate(np.where(self.is_signal, 0.0, squares))
        passing = np.divide(background**2, spread, out=np.zeros_like(spread), where=spread > 0)
        return Roc(signal / signal[-1], background / background[-1], passing)

    def _cumulate(self, weight: np.ndarray) -> np.ndarray:
        return np.append(0.0, np.cumsum(weight)[self.ends])


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
