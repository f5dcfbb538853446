"""What is compared: the scores of models, cuts and other tools on the test events, and how they are measured."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from hepgen.errors import HepgenError
from hepgen.metrics.divergences import jensen_shannon
from hepgen.metrics.intervals import LEVEL, Interval, binned_sums, draw_counts, interval, inverse
from hepgen.metrics.record import Metric
from hepgen.metrics.roc import FLOOR_EVENTS, FLOOR_PUBLISHED, FLOOR_PUBLISHED_EVENTS, Ranking, Roc
from hepgen.plots.figures import Role

__all__ = [
    "BINS",
    "EFFICIENCIES",
    "NULLS",
    "REJECTIONS",
    "Measured",
    "Population",
    "RandomCuts",
    "Scorer",
    "edges_of",
    "passing",
    "random_cuts",
    "sculpting",
    "separation",
    "weighted_quantile",
]

SIGNAL_EFFICIENCIES = (0.2, 0.3, 0.5)
BACKGROUND_EFFICIENCIES = (0.1, 0.01, 0.001)
# Fractions of the background that are rejected where the sculpting of an observable is measured.
REJECTIONS = (0.5, 0.9, 0.99)
# Where curves are kept.
EFFICIENCIES = np.linspace(0.01, 1, 100)
BINS = 30
TRIALS = 200
# The figures of merit and what a random score gives on infinitely many events.
NULLS = {
    "auc": 0.5,
    **{f"rejection/{efficiency}": 1 / efficiency for efficiency in SIGNAL_EFFICIENCIES},
    **{f"signal_efficiency/{efficiency}": efficiency for efficiency in BACKGROUND_EFFICIENCIES},
    "max_sic/published": 1.0,
    f"max_sic/{FLOOR_EVENTS}_events": 1.0,
}


@dataclass(frozen=True)
class Scorer:
    """A model, a cut or another tool with what it gave on the test events.

    Attributes:
        name: The entry's name, with the kind of score in brackets where it is not the entry's first.
        role: How it is drawn.
        scores: Scores of each training, shape (trainings, n).
        inputs: ``observables``, ``images`` or ``constituents`` for a model.
        first: Whether this is the entry's first score.
        scanned: Whether it is a training of a scan, which stands in the scan's figures only.
        exchanged: Whether it learnt the signal, so that background is what it looks for.
    """

    name: str
    role: Role
    scores: np.ndarray
    inputs: str = ""
    first: bool = True
    scanned: bool = False
    exchanged: bool = False

    @property
    def label(self) -> str:
        """What figures call it."""
        return f"{self.name}, inverse" if self.exchanged else self.name


@dataclass(frozen=True)
class Population:
    """Test events that scores are measured on.

    Attributes:
        sample: What they are called in records.
        rows: Their places among the test events, shape (m,).
        label: 1 for what is looked for and 0 for the rest, shape (m,).
        weight: Event weights, shape (m,).
        seed: Fixes the resampling.
    """

    sample: str
    rows: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    seed: int

    def exchanged(self) -> "Population":
        """The inverse task: background is looked for in signal."""
        return Population(self.sample, self.rows, 1 - self.label, self.weight, self.seed)

    def metric(self, scorer: Scorer, name: str, value: Interval, null: float, floor: float, n: int) -> Metric:
        """The record of a figure of merit of a scorer on these events."""
        return Metric(
            analysis="tagging", sample=self.sample, model=scorer.name, metric=name, **value._asdict(),
            null=null, floor=float(floor), n=n, seeds=len(scorer.scores),
        )  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """The ROC of each training of a scorer in short.

    Attributes:
        scorer: The scorer.
        background: Background efficiency at EFFICIENCIES, shape (trainings, 100).
        events: Effective number of background events.
    """

    scorer: Scorer
    background: np.ndarray
    events: float

    @property
    def shown(self) -> np.ndarray:
        """At which EFFICIENCIES background passes in each training, shape (100,)."""
        return (self.background > 0).all(0)

    @property
    def rejection(self) -> np.ndarray:
        """Background rejection there, shape (trainings, shown); no more than there are events."""
        return 1 / np.maximum(self.background[:, self.shown], 1 / self.events)


def separation(population: Population, scorers: Iterable[Scorer]) -> Iterator[tuple[Measured, list[Metric]]]:
    """How well each score finds what is looked for; all share the bootstrap's events.

    Each figure of merit has a 68 % interval over events and trainings, its value for a random score and, as its
    floor, what random scores of the same events exceed in 16 % of cases. A signal efficiency is left out where less
    than one background event would pass.

    Raises:
        HepgenError: if scores are constant or not finite, or the events are of one class only.
    """
    label, weight, seed = population.label, population.weight, population.seed
    counts = draw_counts(label, seed=seed)
    floors: np.ndarray | None = None
    for scorer in scorers:
        try:
            rankings = [Ranking(score[population.rows], label, weight) for score in scorer.scores]
        except HepgenError as error:
            msg = f"tagging: {scorer.name} on {population.sample}: {error}"
            raise HepgenError(msg) from error
        rocs = [ranking.roc() for ranking in rankings]
        events = rocs[0].passing[-1]
        floors = _floors(label, weight, seed) if floors is None else floors
        nominal = np.array([_merits(roc) for roc in rocs])
        replicas = np.stack([_merits(ranking.replicas(counts)) for ranking in rankings], axis=1)
        metrics = []
        for index, (name, null) in enumerate(NULLS.items()):
            if name.startswith("signal_efficiency") and null * events < 1:
                continue
            value = _interval(name, nominal[:, index], replicas[..., index], events, seed)
            metrics.append(population.metric(scorer, name, value, null, floors[index], len(label)))
        yield Measured(scorer, np.array([roc.background_at(EFFICIENCIES) for roc in rocs]), events), metrics


def _merits(roc: Roc) -> np.ndarray:
    """The figures of merit, in the order of NULLS, shape (..., merits)."""
    single = [
        roc.auc,
        roc.max_sic(efficiency=FLOOR_PUBLISHED, events=FLOOR_PUBLISHED_EVENTS),
        roc.max_sic(events=FLOOR_EVENTS),
    ]
    auc, *sic = (np.asarray(values)[..., None] for values in single)
    rejection, efficiency = roc.rejection(SIGNAL_EFFICIENCIES), roc.signal_at(BACKGROUND_EFFICIENCIES)
    return np.concatenate([auc, rejection, efficiency, *sic], axis=-1)


def _interval(name: str, nominal: np.ndarray, replicas: np.ndarray, background: float, seed: int) -> Interval:
    """A figure of merit with its interval; rejections are averaged as the efficiencies that were measured."""
    if name.startswith("rejection/"):
        return inverse(interval(1 / nominal, 1 / replicas, seed=seed), background)
    return interval(nominal, replicas, seed=seed, support=(1, np.inf) if name.startswith("max_sic") else (0, 1))


def _floors(label: np.ndarray, weight: np.ndarray, seed: int, trials: int = 100) -> np.ndarray:
    """What random scores of these events exceed in 16 % of cases, for each figure of merit."""
    rng = np.random.default_rng(seed)
    merits = [_merits(Ranking(rng.random(len(label)), label, weight).roc()) for _ in range(trials)]
    return np.quantile(merits, (1 + LEVEL) / 2, axis=0)


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


def passing(score: np.ndarray, weight: np.ndarray, rejection: float) -> np.ndarray:
    """Which events are left by the cut that rejects a fraction of their summed weight, shape (n,)."""
    return score >= weighted_quantile(score, weight, rejection)


def weighted_quantile(values: np.ndarray, weight: np.ndarray, fraction: float) -> float:
    """The weighted quantile; numpy's takes no weights before version 2."""
    order = np.argsort(values)
    cumulative = np.cumsum(weight[order])
    return float(np.interp(fraction, (cumulative - weight[order] / 2) / cumulative[-1], values[order]))
