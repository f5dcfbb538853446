"""What is compared: the scores of models, cuts and other tools on the test events, and how well they separate."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from hepgen.errors import HepgenError
from hepgen.metrics.intervals import LEVEL, Interval, draw_counts, interval, inverse
from hepgen.metrics.record import Metric
from hepgen.metrics.roc import FLOOR_EVENTS, FLOOR_PUBLISHED, FLOOR_PUBLISHED_EVENTS, Ranking, Roc
from hepgen.plots.figures import Role

__all__ = [
    "EFFICIENCIES",
    "NULLS",
    "Measured",
    "Population",
    "Scorer",
    "auc_difference",
    "passing",
    "separation",
    "weighted_quantile",
]

SIGNAL_EFFICIENCIES = (0.2, 0.3, 0.5)
BACKGROUND_EFFICIENCIES = (0.1, 0.01, 0.001)
# Where curves are kept.
EFFICIENCIES = np.linspace(0.01, 1, 100)
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

    def metric(self, scorer: Scorer, name: str, value: Interval, null: float, floor: float | None, n: int) -> Metric:
        """The record of a figure of merit of a scorer on these events."""
        return Metric(
            analysis="tagging", sample=self.sample, model=scorer.name, metric=name, **value._asdict(),
            null=null, floor=floor, n=n, seeds=len(scorer.scores),
        )  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """The ROC of each training of a scorer in short.

    Attributes:
        scorer: The scorer.
        background: Background efficiency at EFFICIENCIES, shape (trainings, 100).
        events: Effective number of background events.
        auc: AUC on the events as they are, shape (trainings,).
        resampled: AUC on each bootstrap replica, which all scorers share, shape (replicas, trainings).
    """

    scorer: Scorer
    background: np.ndarray
    events: float
    auc: np.ndarray
    resampled: np.ndarray

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
    # The task and its inverse draw the same events.
    counts = draw_counts(label != label[0], seed=seed)
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
        background = np.array([roc.background_at(EFFICIENCIES) for roc in rocs])
        yield Measured(scorer, background, events, nominal[:, 0], replicas[..., 0]), metrics


def auc_difference(population: Population, one: Measured, reference: Measured, name: str) -> Metric:
    """By how much the AUC of a scorer exceeds that of another, training by training on the same replicas.

    Both see the same test events, so that their difference is known better than their intervals suggest.
    """
    difference, resampled = one.auc - reference.auc, one.resampled - reference.resampled
    value = interval(difference, resampled, seed=population.seed, support=(-1, 1))
    return population.metric(one.scorer, name, value, 0.0, None, len(population.label))


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


def passing(score: np.ndarray, weight: np.ndarray, rejection: float) -> np.ndarray:
    """Which events are left by the cut that rejects a fraction of their summed weight, shape (n,)."""
    return score >= weighted_quantile(score, weight, rejection)


def weighted_quantile(values: np.ndarray, weight: np.ndarray, fraction: float) -> float:
    """The weighted quantile; numpy's takes no weights before version 2."""
    order = np.argsort(values)
    cumulative = np.cumsum(weight[order])
    return float(np.interp(fraction, (cumulative - weight[order] / 2) / cumulative[-1], values[order]))
