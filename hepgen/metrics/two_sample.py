"""Two-sample tests: how far two sets of events are from having one parent."""

import math
import warnings
from typing import NamedTuple

import numpy as np
from scipy.special import betainc, logit
from scipy.stats import norm
from sklearn.base import ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier

from hepgen.errors import HepgenError
from hepgen.metrics.divergences import effective_events
from hepgen.metrics.resampling import Estimate
from hepgen.metrics.weighted import matrix, mean_one, quantile, standardise

__all__ = ["ClassifierTest", "Tail", "auc", "classifier_test", "tails"]

FOLDS = 5
# A likelihood ratio of 3·10⁶ is more than any sample can tell, and its exponential is still finite.
SATURATION = 15.0


class ClassifierTest(NamedTuple):
    """How well a classifier tells generated events from the truth.

    Attributes:
        auc: Area under the ROC curve of the scores: 0.5 where they cannot be told apart, 1 where they do not overlap.
        p_value: Probability of such an area if both have one parent (one-sided).
        x_scores: Log-odds for the truth of the generated events, shape (n,), at equal sums of weights: their
            exponentials are the likelihood ratios that would reweight the generated events to the truth.
        y_scores: The same of the true events, shape (m,). All are cut back to ±15.
    """

    auc: Estimate
    p_value: float
    x_scores: np.ndarray
    y_scores: np.ndarray


class Tail(NamedTuple):
    """Generated over true shares beyond a quantile, and the two-sided p-value of a difference."""

    ratio: Estimate
    p_value: float


def classifier_test(
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    *,
    kind: str = "trees",
    x_weight: np.ndarray | None = None,
    y_weight: np.ndarray | None = None,
) -> ClassifierTest:
    """Train a classifier to tell generated events from the truth.

    Every event is scored by a classifier that was trained on the other folds. Without a difference the scores of two
    folds depend on each other's chance fluctuations in the same way: their sum over pairs of folds counts each pair
    twice, which doubles the variance that the area would have with a classifier trained elsewhere. The error holds
    this factor, which is the largest one: it is an upper limit where the difference is clear, as the classifier no
    longer follows chance, and for the MLP.

    Args:
        x: Generated events of shape (n, d).
        y: The truth, shape (m, d).
        seed: Fixes the folds and the classifier.
        kind: ``trees`` (gradient boosting) or ``mlp`` (two hidden layers of 64).
        x_weight: Event weights of shape (n,); None for equal ones. Each side gets half of the total.
        y_weight: The same of the truth, shape (m,).

    Raises:
        HepgenError: if a set has fewer events than there are folds.

    References:
        Lopez-Paz, Oquab, Revisiting Classifier Two-Sample Tests, 2016, arXiv:1610.06545; Das et al., How to
        understand limitations of generative networks, 2023, arXiv:2305.16774 (the distribution of the weights).
    """
    if min(len(x), len(y)) < FOLDS:
        msg = f"a classifier test needs at least {FOLDS} events on each side, found {len(x)} and {len(y)}"
        raise HepgenError(msg)
    weight = np.concatenate([w / w.sum() for w in (mean_one(x, x_weight), mean_one(y, y_weight))])
    label = np.repeat([0, 1], [len(x), len(y)])
    events = np.concatenate([matrix(x), matrix(y)])
    if kind == "mlp":
        events = standardise(events, events, weight)[0].astype(np.float32)
    scores = _cross_fitted(kind, events, label, weight * len(label) / 2, seed)
    found = auc(scores, label, weight)
    area = Estimate(found.value, math.sqrt(2) * found.error)
    # Mann and Whitney's variance of equal parents, doubled alike.
    null_error = math.sqrt(sum(1 / effective_events(weight[label == side]) for side in (0, 1)) / 12 * 2)
    x_scores, y_scores = np.split(scores.clip(-SATURATION, SATURATION), [len(x)])
    return ClassifierTest(area, float(norm.sf((area.value - 0.5) / null_error)), x_scores, y_scores)


def _cross_fitted(kind: str, events: np.ndarray, label: np.ndarray, weight: np.ndarray, seed: int) -> np.ndarray:
    """Log-odds of label 1 from classifiers that were trained on the other folds, shape (n,)."""
    scores = np.empty(len(events))
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(events, label):
        with warnings.catch_warnings():
            # The network may use all the passes that it is given.
            warnings.simplefilter("ignore", ConvergenceWarning)
            # Of fewer events than a batch holds, all are one.
            warnings.filterwarnings("ignore", "Got `batch_size`", UserWarning)
            # Weights double the time, even equal ones.
            given = weight[train] if np.ptp(weight) > 1e-9 else None
            classifier = CLASSIFIERS[kind](seed).fit(events[train], label[train], given)
        # A probability of exactly 0 or 1 gives infinite odds, which are cut back like all that saturate.
        scores[test] = logit(classifier.predict_proba(events[test])[:, 1])
    return scores


def _trees(seed: int) -> ClassifierMixin:
    return HistGradientBoostingClassifier(
        max_iter=100, learning_rate=0.05, min_samples_leaf=50, early_stopping=False, random_state=seed
    )


def _mlp(seed: int) -> ClassifierMixin:
    return MLPClassifier(
        (64, 64), batch_size=1024, learning_rate_init=2e-3, max_iter=20, early_stopping=True, n_iter_no_change=4,
        random_state=seed,
    )  # fmt: skip


CLASSIFIERS = {"trees": _trees, "mlp": _mlp}


def auc(scores: np.ndarray, label: np.ndarray, weight: np.ndarray | None = None) -> Estimate:
    """Area under the ROC curve of scores, shape (n,), for labels 0 and 1, and its error for given scores.

    References:
        DeLong, DeLong, Clarke-Pearson (the variance), 1988, Biometrics 44, 837.
    """
    weight = np.ones(len(scores)) if weight is None else weight
    sides = [(scores[label == side], weight[label == side]) for side in (0, 1)]
    below = _placements(sides[1][0], *sides[0])
    above = 1 - _placements(sides[0][0], *sides[1])
    area = float(np.average(below, weights=sides[1][1]))
    variance = 0.0
    for placements, (_, w) in zip((above, below), sides, strict=True):
        variance += np.sum((w * (placements - area)) ** 2) / w.sum() ** 2 * len(w) / (len(w) - 1)
    return Estimate(area, math.sqrt(variance))


def _placements(scores: np.ndarray, other: np.ndarray, other_weight: np.ndarray) -> np.ndarray:
    """The share of the other side's weight that lies below each score, ties counting half."""
    order = np.argsort(other)
    cumulative = np.concatenate([[0.0], np.cumsum(other_weight[order])])
    below, reached = (cumulative[np.searchsorted(other[order], scores, side=side)] for side in ("left", "right"))
    return (below + reached) / 2 / cumulative[-1]


def tails(
    x: np.ndarray,
    y: np.ndarray,
    seed: int,
    *,
    quantiles: tuple[float, ...] = (0.99, 0.999),
    x_weight: np.ndarray | None = None,
    y_weight: np.ndarray | None = None,
) -> list[Tail]:
    """What share of the generated events lies above upper quantiles of the truth, over the truth's share: 1 is perfect.

    The error is that of both counts, for none beyond that of a single event. The p-value is binomial, given how many
    events of both sides lie beyond: a share n/(n + m) of them would be generated. Weighted ones count as the effective
    events there, each of which stands for the share of its side that it has.

    Args:
        x: One number per event, shape (n,).
        y: The same of the truth, shape (m,).
        seed: Not needed, as nothing is drawn; here so that all figures of merit are called alike.
        quantiles: Shares of the truth that lie below; events at the quantile count as beyond.
        x_weight: Event weights of shape (n,); None for equal ones.
        y_weight: The same of the truth, shape (m,).
    """
    (x,), (y,) = matrix(x).T, matrix(y).T
    x_weight, y_weight = mean_one(x, x_weight), mean_one(y, y_weight)
    ratios = []
    for level in quantiles:
        threshold = quantile(y, y_weight, level)
        (share, error), (true, true_error) = _beyond(x >= threshold, x_weight), _beyond(y >= threshold, y_weight)
        ratio = share / true
        estimate = Estimate(ratio, math.hypot(error, ratio * true_error) / true)
        found, known = (share / error) ** 2, (true / true_error) ** 2
        # The share of its side that an effective event stands for; without any there that of the mean event.
        one, true_one = (error**2 / share if share else error), true_error**2 / true
        chance = true_one / (one + true_one)
        above = betainc(found, known + 1, chance) if found else 1.0
        below = 1 - betainc(found + 1, known, chance)
        ratios.append(Tail(estimate, float(min(1, 2 * min(above, below)))))
    return ratios


def _beyond(passing: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Share of the weight that passes and its error."""
    total, squares = weight.sum(), weight**2
    variance = max(squares[passing].sum(), squares.mean())
    return float(weight[passing].sum() / total), float(math.sqrt(variance) / total)
