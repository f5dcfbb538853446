"""Hold one set of generated events against truth: every figure of merit with its error and its p-value."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import t as student_t

from hepgen.generation.results import Odds, Pixels, Scores, Value, View
from hepgen.metrics.amplification import LEAST, amplification
from hepgen.metrics.coverage import prdc
from hepgen.metrics.distances import (
    FEWEST,
    correlations,
    fpd,
    kpd,
    p_value,
    pearson_difference,
    sliced_wasserstein,
    wasserstein,
)
from hepgen.metrics.divergences import effective_events
from hepgen.metrics.histograms import Counts, chi2, count
from hepgen.metrics.intervals import LEVEL
from hepgen.metrics.neighbours import REFERENCES, memorisation
from hepgen.metrics.resampling import Estimate
from hepgen.metrics.two_sample import classifier_test, tails
from hepgen.metrics.weighted import mean_one

__all__ = ["Events", "Truth", "average", "combined_p", "mean"]

BINS = 40
# Events of each side that costly figures of merit are measured on, at most: classifiers, and neighbours.
TESTED, NEIGHBOURS = 50_000, 10_000
CLASSIFIERS = {"c2st_auc": "trees", "c2st_auc_mlp": "mlp"}
# Distances of all observables together: what measures them, the name of their test, and for how many events at most.
DISTANCES = {
    "max_delta_pearson": (pearson_difference, "pearson", 100_000),
    "sliced_wasserstein": (sliced_wasserstein, "sliced_wasserstein", 10_000),
    "fpd": (fpd, "fpd", 50_000),
    "kpd": (kpd, "kpd", 50_000),
}
# Figures of merit that are lower bounds: of several seeds the smallest counts.
BOUNDS = ("amplification",)
# True events that must lie beyond a quantile for its tail to be measured (to a third), and the quantiles.
TAIL, QUANTILES = 10, (0.99, 0.999)
# Share of the true events that counts as those with the largest odds, and how many these are at least.
TOP, TOP_EVENTS = 0.01, 25


@dataclass(frozen=True)
class Events:
    """Events of one set.

    Attributes:
        x: Observables, shape (n, observables).
        conditions: What the generator was told of each, or what a true event has in its place, (n,) by column.
        weight: Event weights of mean 1, shape (n,).
        pixels: Of jets only.
    """

    x: np.ndarray
    conditions: dict[str, np.ndarray]
    weight: np.ndarray
    pixels: Pixels | None = None

    def __getitem__(self, rows: slice) -> "Events":
        x, conditions = self.x[rows], {name: values[rows] for name, values in self.conditions.items()}
        return replace(self, x=x, conditions=conditions, weight=mean_one(x, self.weight[rows]))

    def told(self, names: Iterable[str]) -> "Events":
        """The same with the named conditions alone."""
        return replace(self, conditions={f"condition_{name}": self.conditions[f"condition_{name}"] for name in names})

    def joint(self, conditions: Iterable[str]) -> np.ndarray:
        """Observables and the named columns of conditions side by side."""
        return np.column_stack([self.x, *(self.conditions[name] for name in conditions)])

    @property
    def weights(self) -> np.ndarray | None:
        """The weights, where they differ."""
        return self.weight if np.ptp(self.weight) else None


class Truth:
    """The reference half of the held-out truth, and the bins chosen on it.

    Args:
        view: The kind of events and their observables.
        events: The reference half.
        training: Observables of training events, shape (k, observables), and how many there are in all.
    """

    def __init__(self, view: View, events: Events, training: np.ndarray, trained_on: int) -> None:
        self.view = view
        self.events = events
        self.training = training
        self.trained_on = trained_on
        self.edges = [_edges(view, name, values) for name, values in zip(view.names, events.x.T, strict=True)]
        self.counts = self.count(events)
        self.matrix = correlations(events.x, events.weights)
        inner = np.linspace(0, 1, len(view.names) + 1)[1:-1]
        self.quantiles = np.quantile(events.x, inner, axis=0).T

    @property
    def searched(self) -> int:
        """Training events among which copies are looked for, at most as many as there are held-out ones beside."""
        return min(len(self.training), len(self.events.x), REFERENCES)

    def count(self, events: Events) -> list[Counts]:
        """Histograms of the observables."""
        return [count(values, edges, events.weight) for values, edges in zip(events.x.T, self.edges, strict=True)]

    def compare(self, events: Events, seed: int) -> Scores:
        """Compare equally many events; `seed` fixes folds, networks, subsets, bootstraps and permutations.

        Conditions, where there are any, take part in the classifiers' tests only: these ask for the joint
        distribution of events and conditions.
        """
        counts = self.count(events)
        values = dict(self._each_observable(events, counts, seed))
        values |= dict(self._all_observables(events, seed))
        reference = _first(self.events, TESTED)
        tested = _first(events, TESTED)
        for name, kind in CLASSIFIERS.items():
            test = classifier_test(
                tested.joint(events.conditions), reference.joint(events.conditions), seed, kind=kind,
                x_weight=tested.weights, y_weight=reference.weights,
            )  # fmt: skip
            values[name] = _value(test.auc, test.p_value, len(tested.x))
            if kind == "trees":
                odds = Odds(test.x_scores, tested.weight), Odds(test.y_scores, reference.weight)
        where = self._mean_odds(tested.x, odds[0])
        missing = self._top_share(reference.x, odds[1])
        for name, shares in zip(self.view.names, missing, strict=True):
            values[f"top_weights/{name}"] = Value(float(shares.max()), 0.0, 0.0, None, len(tested.x))
        return Scores(values, counts, correlations(events.x, events.weights), *odds, where, missing, events.pixels)

    def _each_observable(self, events: Events, counts: list[Counts], seed: int) -> Iterator[tuple[str, Value]]:
        n = len(events.x)
        weights = {"x_weight": events.weights, "y_weight": self.events.weights}
        quantiles = [q for q in QUANTILES if n * (1 - q) >= TAIL]
        for k, name in enumerate(self.view.names):
            test = chi2(counts[k], self.counts[k])
            yield f"chi2_ndf/{name}", _value(Estimate(test.per_ndf, test.error), test.p_value, n)
            columns = events.x[:, k], self.events.x[:, k]
            if not np.ptp(columns[1]):
                continue  # a truth of one value has no unit and no tails
            distance = wasserstein(*columns, seed, **weights)
            yield f"w1/{name}", _value(distance, p_value("wasserstein", *columns, seed, **weights), n)
            for q, tail in zip(quantiles, tails(*columns, seed, quantiles=quantiles, **weights), strict=True):
                yield f"tail_{100 * q:g}/{name}", _value(tail.ratio, tail.p_value, n)

    def _all_observables(self, events: Events, seed: int) -> Iterator[tuple[str, Value]]:
        for metric, (distance, test, most) in DISTANCES.items():
            few, known = _first(events, most), _first(self.events, most)
            if min(map(effective_events, (few.weight, known.weight))) < FEWEST:
                continue
            weights = {"x_weight": few.weights, "y_weight": known.weights}
            p = p_value(test, few.x, known.x, seed, **weights)
            yield metric, _value(distance(few.x, known.x, seed, **weights), p, len(few.x))
        few, known = _first(events, NEIGHBOURS), _first(self.events, NEIGHBOURS)
        weights = {"x_weight": few.weights, "y_weight": known.weights}
        if len(few.x) >= FEWEST:
            for metric, share in prdc(few.x, known.x, seed, **weights).items():
                yield metric, _value(share, None, len(few.x))
        nearest = memorisation(*(self._folded(x) for x in (few.x, self.training, self.events.x)), seed)
        yield "memorisation", _value(nearest.share, nearest.p_value, len(few.x))
        if len(self.events.x) >= LEAST:
            weights = {"x_weight": events.weights, "y_weight": self.events.weights}
            least = amplification(events.x, self.events.x, self.trained_on, seed, **weights).factor.low
            yield "amplification", Value(least, 0.0, 0.0, None, len(events.x))

    def _folded(self, x: np.ndarray) -> np.ndarray:
        """Events of which the first η is never negative: a generator may have learnt their mirror images."""
        etas = [k for k, name in enumerate(self.view.names) if name.startswith("eta_")]
        folded = x.copy()
        folded[:, etas] *= np.where(x[:, etas[:1]] < 0, -1, 1)
        return folded

    def _bins(self, x: np.ndarray) -> np.ndarray:
        """The quantile bin of every event in each observable, shape (observables, n)."""
        return np.stack([np.searchsorted(q, values, "right") for q, values in zip(self.quantiles, x.T, strict=True)])

    def _mean_odds(self, x: np.ndarray, odds: Odds) -> np.ndarray:
        size = len(self.view.names)
        both = (odds.weight * odds.log / np.log(10), odds.weight)
        return np.stack([_quotient(*(np.bincount(bins, values, size) for values in both)) for bins in self._bins(x)])

    def _top_share(self, x: np.ndarray, odds: Odds) -> np.ndarray:
        size = len(self.view.names)
        top = np.argsort(-odds.log, kind="stable")[: max(TOP_EVENTS, round(TOP * len(x)))]
        shares = []
        for bins in self._bins(x):
            chosen, known = np.bincount(bins[top], odds.weight[top], size), np.bincount(bins, odds.weight, size)
            shares.append(_quotient(chosen / chosen.sum(), known / known.sum()))
        return np.stack(shares)


def _quotient(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """A quotient that is 0 where the denominator is."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)


def _first(events: Events, number: int) -> Events:
    return events[:number] if len(events.x) > number else events


def _value(estimate: Estimate, p: float | None, n: int) -> Value:
    return Value(estimate.value, estimate.error, estimate.error, p, n)


def _edges(view: View, name: str, values: np.ndarray) -> np.ndarray:
    """Equal bins over the part of the observable's plot range that the truth fills; whole numbers in their middle."""
    low, high = view.describe(name).range_for(values)
    first, last = np.quantile(values, [0.0005, 0.9995])
    low, high = max(low, first), min(high, last)
    if np.array_equal(values, np.round(values)):
        width = max(np.ceil((high - low + 1) / BINS), 1)
        return np.arange(np.floor(low) - 0.5, high + width, width)
    return np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])


def average(scores: Sequence[Scores]) -> Scores:
    """Mean over seeds of comparisons with the same truth; of bounds the smallest one."""
    first = scores[0]
    pixels = None
    if first.pixels:
        image = np.mean([s.pixels.image for s in scores], axis=0)
        pixels = Pixels(image, _average_counts([s.pixels.spectrum for s in scores]))
    return Scores(
        {
            name: (min if name in BOUNDS else mean)([s.values[name] for s in scores])
            for name in first.values
            if all(name in s.values for s in scores)
        },
        [_average_counts(counts) for counts in zip(*(s.counts for s in scores), strict=True)],
        np.mean([s.matrix for s in scores], axis=0),
        _joined([s.generated for s in scores]),
        _joined([s.true for s in scores]),
        np.mean([s.where for s in scores], axis=0),
        np.mean([s.missing for s in scores], axis=0),
        pixels,
    )


def _joined(odds: Sequence[Odds]) -> Odds:
    return Odds(*map(np.concatenate, zip(*odds, strict=True)))


def mean(values: Sequence[Value]) -> Value:
    """The mean over seeds: its spread (Student's t) adds to the error of one comparison, which the truth dominates."""
    numbers = np.array([v.value for v in values])
    spread = _seed_error(numbers)
    down, up = (
        float(np.sqrt(np.mean(np.square(side)) + spread**2)) for side in zip(*(v[1:3] for v in values), strict=True)
    )
    tested = [v.p_value for v in values if v.p_value is not None]
    return Value(float(numbers.mean()), down, up, combined_p(tested) if tested else None, values[0].n)


def combined_p(values: Sequence[float]) -> float:
    """One p-value of several that depend on each other in whatever way, as those of seeds with one truth do.

    K/k times the k-th smallest of K, k being the middle one: a majority of the trainings has to look like truth.

    References:
        Rüger 1978, Metrika 25, 171; Vovk, Wang 2020, arXiv:1212.4966.
    """
    middle = (len(values) + 1) // 2
    return min(1.0, sorted(values)[middle - 1] * len(values) / middle)


def _average_counts(counts: Sequence[Counts]) -> Counts:
    """The mean histogram, with the spread of a single seed in its variance."""
    values = np.array([c.values for c in counts])
    spread = values.var(0, ddof=1) if len(values) > 1 else 0.0
    return Counts(values.mean(0), np.mean([c.variances for c in counts], axis=0) + spread)


def _seed_error(values: np.ndarray) -> float:
    """Half the 68 % interval of the mean over seeds, 0 for a single one."""
    if len(values) == 1:
        return 0.0
    return float(student_t.ppf((1 + LEVEL) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
