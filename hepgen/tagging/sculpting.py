"""How far cuts on scores shape the background's spectrum of an observable, beside what random cuts do."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from hepgen.metrics.divergences import jensen_shannon
from hepgen.metrics.intervals import LEVEL, binned_sums, draw_counts, interval
from hepgen.metrics.record import Metric
from hepgen.tagging.scorers import Population, Scorer, passing

__all__ = ["BINS", "REJECTIONS", "RandomCuts", "edges_of", "random_cuts", "sculpting"]

# Fractions of the background that are rejected.
REJECTIONS = (0.5, 0.9, 0.99)
BINS = 30
TRIALS = 200


@dataclass(frozen=True)
class RandomCuts:
    """Jensen–Shannon divergence of random cuts, which is what finitely many events allow.

    Attributes:
        fraction: Fractions of the background that pass, rising, shape (f,).
        quantiles: The 16, 50 and 84 % quantiles of the divergence, shape (3, f).
    """

    fraction: np.ndarray
    quantiles: np.ndarray

    def at(self, fraction: float) -> float:
        """What a random cut that keeps a fraction exceeds in 16 % of cases."""
        return float(np.interp(np.log(fraction), np.log(self.fraction), self.quantiles[2]))


def random_cuts(bins: np.ndarray, weight: np.ndarray, seed: int) -> RandomCuts:
    """Cut on random scores, down to two events that pass; `bins` holds each background event's."""
    rng = np.random.default_rng(seed)
    lowest = min(2 / len(bins), 0.1)
    fraction = np.unique([*(1 - np.array(REJECTIONS)), *np.geomspace(lowest, 0.95, 25)])
    drawn = []
    for _ in range(TRIALS):
        # How many of the cuts, the loosest first, an event passes.
        passed = len(fraction) - np.searchsorted(fraction, rng.random(len(bins)))
        sums = np.bincount(passed * BINS + bins, weight, (len(fraction) + 1) * BINS)
        drawn.append(_divergences(sums.reshape(1, -1, BINS))[0, ::-1])
    # Where in some trials no event passes, the others count.
    return RandomCuts(fraction, np.nanquantile(drawn, [(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], axis=0))


def _divergences(sums: np.ndarray) -> np.ndarray:
    """Divergences between the spectra that pass and fail each of k nested cuts.

    Args:
        sums: Spectra of the events that pass 0, 1, ... k of the cuts, shape (replicas, k + 1, bins).

    Returns:
        Shape (replicas, k), the loosest cut first.
    """
    left = np.cumsum(sums[:, ::-1], axis=1)[:, ::-1][:, 1:]
    return jensen_shannon(left, np.cumsum(sums, axis=1)[:, :-1])


def sculpting(
    population: Population, scorers: Iterable[Scorer], name: str, values: np.ndarray
) -> tuple[RandomCuts, list[Metric]]:
    """How far the background's spectrum of an observable moves when cuts on the scores reject most of it.

    Jensen–Shannon divergence in bits of the spectra that pass and fail the cuts that reject 50, 90 and 99 % of the
    background, and the cut that keeps half of the signal; 0 if the score does not know the observable. The floor is
    what random cuts exceed in 16 % of cases. A cut that leaves no background has no figure.

    Args:
        population: The events.
        scorers: The scorers.
        name: The observable's.
        values: The observable of all test events.
    """
    background = population.label == 0
    weight, rows = population.weight[background], population.rows[background]
    observable = values[rows].astype(np.float64)
    bins = np.clip(np.searchsorted(edges_of(observable), observable, side="right") - 1, 0, BINS - 1)
    random = random_cuts(bins, weight, population.seed)
    counts = np.c_[np.ones(len(rows), dtype=np.float32), draw_counts(np.zeros(len(rows)), seed=population.seed)]
    names = [f"{name}_jsd/{rejection}_rejected" for rejection in REJECTIONS] + [f"{name}_jsd/0.5_signal"]
    metrics = []
    for scorer in scorers:
        found, kept = [], []
        for score in scorer.scores:
            cuts = _cuts(score, population)
            share = cuts @ weight / weight.sum()
            order = np.argsort(-share, kind="stable")
            spectra = binned_sums(cuts.sum(0) * BINS + bins, weight, (len(cuts) + 1) * BINS, counts)
            divergences = np.empty((counts.shape[1], len(cuts)))
            divergences[:, order] = _divergences(spectra.reshape(-1, len(cuts) + 1, BINS))
            found.append(divergences)
            kept.append(share)
        values_of, share = np.stack(found, axis=1), np.mean(kept, axis=0)
        for index, metric in enumerate(names):
            nominal, replicas = values_of[0, :, index], values_of[1:, :, index]
            if not np.isfinite(nominal).all():
                continue
            # A replica without the few events that pass says nothing of them.
            replicas = replicas[np.isfinite(replicas).all(1)]
            value = interval(nominal, replicas, seed=population.seed, support=(0, 1))
            metrics.append(population.metric(scorer, metric, value, 0.0, random.at(share[index]), len(rows)))
    return random, metrics


def _cuts(score: np.ndarray, population: Population) -> np.ndarray:
    """Which background events pass the cuts of `sculpting`, boolean of shape (4, background)."""
    score, background = score[population.rows], population.label == 0
    signal, weight = score[~background], population.weight[~background]
    order = np.argsort(-signal, kind="stable")
    reached = np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)
    masks = [passing(score[background], population.weight[background], rejection) for rejection in REJECTIONS]
    return np.array([*masks, score[background] >= signal[order][min(reached, len(order) - 1)]])


def edges_of(values: np.ndarray) -> np.ndarray:
    """Bin edges that leave out the outermost 0.2 % on either side, which belong to the outermost bins."""
    low, high = np.quantile(values, [0.002, 0.998])
    return np.linspace(low, high if high > low else low + 1, BINS + 1)
