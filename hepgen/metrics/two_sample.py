"""Two-sample tests: how far two sets of events are from having one parent."""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata, wasserstein_distance
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold

from hepgen.errors import HepgenError

__all__ = ["Estimate", "auc", "classifier_auc", "pearson_difference", "wasserstein"]

FOLDS = 5


class Estimate(NamedTuple):
    """A value and its standard deviation."""

    value: float
    error: float


def classifier_auc(first: np.ndarray, second: np.ndarray, seed: int) -> Estimate:
    """Area under the ROC curve of gradient-boosted trees that tell two sets of events apart.

    Every event is scored by trees that were trained on the other folds. 0.5 means that they cannot be told
    apart, 1 that they do not overlap.

    Args:
        first: Events of shape (n, d).
        second: Events of shape (m, d); take n = m.
        seed: Fixes the folds and the trees.

    Raises:
        HepgenError: if a set has fewer events than there are folds.

    References:
        Lopez-Paz, Oquab, Revisiting Classifier Two-Sample Tests, 2016, arXiv:1610.06545.
    """
    if min(len(first), len(second)) < FOLDS:
        msg = f"a classifier test needs at least {FOLDS} events on each side, found {len(first)} and {len(second)}"
        raise HepgenError(msg)
    x = np.concatenate([first, second])
    label = np.repeat([0, 1], [len(first), len(second)])
    scores = np.empty(len(x))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(x, label):
        scores[test] = _trees(seed).fit(x[train], label[train]).predict_proba(x[test])[:, 1]
    return auc(scores, label)


def _trees(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_iter=100, learning_rate=0.05, min_samples_leaf=50, early_stopping=False, random_state=seed
    )


def auc(scores: np.ndarray, label: np.ndarray) -> Estimate:
    """Area under the ROC curve of scores, shape (n,), for labels 0 and 1.

    References:
        DeLong, DeLong, Clarke-Pearson (the variance), 1988, Biometrics 44, 837.
    """
    ranks = rankdata(scores)
    placements = []
    for side in (0, 1):
        own = label == side
        placements.append((ranks[own] - rankdata(scores[own])) / np.sum(~own))
    variance = sum(np.var(p, ddof=1) / len(p) for p in placements)
    return Estimate(float(placements[1].mean()), float(np.sqrt(variance)))


def wasserstein(sample: np.ndarray, reference: np.ndarray, seed: int, replicas: int = 25) -> Estimate:
    """First Wasserstein distance in units of the reference's standard deviation, with its bootstrap error.

    Args:
        sample: One number per event, shape (n,).
        reference: The same of the reference, shape (m,).
        seed: Fixes the replicas.
        replicas: Bootstrap replicas of both sides; with 25 the error is known to 14 %.
    """
    rng = np.random.default_rng(seed)
    scale = reference.std()
    first, second = (sample - reference.mean()) / scale, (reference - reference.mean()) / scale
    spread = [wasserstein_distance(_resample(first, rng), _resample(second, rng)) for _ in range(replicas)]
    return Estimate(float(wasserstein_distance(first, second)), float(np.std(spread, ddof=1)))


def pearson_difference(sample: np.ndarray, reference: np.ndarray, seed: int, replicas: int = 25) -> Estimate:
    """Largest absolute difference of two sets' correlation coefficients, with its bootstrap error.

    Args:
        sample: Events of shape (n, d).
        reference: Events of shape (m, d).
        seed: Fixes the replicas.
        replicas: Bootstrap replicas of both sides.
    """
    rng = np.random.default_rng(seed)

    def largest(first: np.ndarray, second: np.ndarray) -> float:
        return float(np.abs(np.corrcoef(first, rowvar=False) - np.corrcoef(second, rowvar=False)).max())

    spread = [largest(_resample(sample, rng), _resample(reference, rng)) for _ in range(replicas)]
    return Estimate(largest(sample, reference), float(np.std(spread, ddof=1)))


def _resample(values: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return values[rng.integers(0, len(values), len(values))]
