"""Hold generated events against truth that no model has seen."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import t as student_t

from hepgen.config import Config, Generation
from hepgen.errors import HepgenError
from hepgen.generation.dataset import derive, derived_names, read_split, title
from hepgen.generation.figures import make_figures
from hepgen.generation.sample import Generated, read_generated
from hepgen.metrics.histograms import Counts, chi2, count
from hepgen.metrics.intervals import LEVEL
from hepgen.metrics.record import Metric, write_metrics
from hepgen.metrics.two_sample import Estimate, classifier_auc, pearson_difference, wasserstein
from hepgen.observables import describe
from hepgen.plots.figures import write_figure
from hepgen.provenance import seed_for
from hepgen.samples import PythiaSample

__all__ = ["BASELINE", "SIMULATION", "Results", "Scores", "Truth", "evaluate", "simulation_rate"]

BINS = 40
BASELINE = "shuffled_columns"
SIMULATION = "simulation"


@dataclass(frozen=True)
class Scores:
    """How a set of events compares with the reference half of the truth; lists run over the observables."""

    counts: list[Counts]
    chi2: list[Estimate]
    wasserstein: list[Estimate]
    auc: Estimate
    correlation: Estimate
    matrix: np.ndarray


@dataclass(frozen=True)
class Results:
    """Everything that the metrics and the figures are made of.

    Attributes:
        generation: The config's block.
        names: Observables: the features, then what is derived from them.
        truth: The reference half of the truth.
        null: The other half of the truth.
        baseline: Training events with every feature shuffled on its own: right shapes, no correlations.
        models: Averages over seeds.
        rates: Events per second of every seed, and of the full simulation where that is known.
        histories: Losses of every seed.
    """

    generation: Generation
    names: list[str]
    truth: "Truth"
    null: Scores
    baseline: Scores
    models: dict[str, Scores]
    rates: dict[str, list[float]]
    histories: dict[str, dict[int, dict[str, list[float]]]]


class Truth:
    """The reference half of the held-out truth, and the bins chosen on it.

    Args:
        x: Observables of shape (n, len(names)).
        names: Names of the columns.
    """

    def __init__(self, x: np.ndarray, names: Sequence[str]) -> None:
        self.x = x
        self.edges = [_edges(name, values) for name, values in zip(names, x.T, strict=True)]
        self.counts = self._count(x)
        self.matrix = np.corrcoef(x, rowvar=False)

    def compare(self, x: np.ndarray, seed: int) -> Scores:
        """Compare equally many events, shape (n, len(names)); `seed` fixes folds, trees and bootstraps."""
        counts = self._count(x)
        tests = [chi2(a, b) for a, b in zip(counts, self.counts, strict=True)]
        return Scores(
            counts,
            [Estimate(test.per_ndf, test.error) for test in tests],
            [wasserstein(a, b, seed) for a, b in zip(x.T, self.x.T, strict=True)],
            classifier_auc(self.x, x, seed),
            pearson_difference(x, self.x, seed),
            np.corrcoef(x, rowvar=False),
        )

    def _count(self, x: np.ndarray) -> list[Counts]:
        return [count(values, edges) for values, edges in zip(x.T, self.edges, strict=True)]


def _edges(name: str, values: np.ndarray) -> np.ndarray:
    """Equal bins over the part of the observable's plot range that the truth fills."""
    low, high = describe(name).range_for(values)
    first, last = np.quantile(values, [0.0005, 0.9995])
    return np.linspace(max(low, first), min(high, last), BINS + 1)


def evaluate(
    config: Config,
    paths: dict[str, list[Path]],
    generated: Sequence[Path],
    output: Path,
    simulation_benchmarks: Sequence[Path] = (),
) -> None:
    """Compare every model over its seeds with held-out truth and write metrics and figures.

    The held-out truth is cut in two: one half is the reference, the other, compared in the same way, gives
    the null value of every figure of merit. All sets are of the same size.

    Args:
        config: The run.
        paths: Observables of all chunks of each sample, in order.
        generated: Events of all models and seeds.
        output: Folder for ``metrics.json`` and ``figures/``.
        simulation_benchmarks: Snakemake's benchmark files of the jobs that simulated the whole sample;
            without them the speed is not compared.

    Raises:
        HepgenError: if generated events of a model are missing or have other features.
    """
    generation = config.generation
    parts = read_split(config, paths, generation.models)
    held_out, learnt = (parts[part].matrix(generation.features) for part in ("test", "train"))
    drawn = _by_model(generation, read_generated(generated))
    features = generation.features
    size = min(len(held_out) // 2, *(len(g.table) for entries in drawn.values() for g in entries))
    seed = seed_for(config.seed, title(generation), "evaluate")
    truth = Truth(_observables(held_out[:size], features), [*features, *derived_names(features)])
    shuffled = np.random.default_rng(seed).permuted(learnt[np.arange(size) % len(learnt)], axis=0)
    rates = {model: [len(g.table) / g.seconds for g in entries] for model, entries in drawn.items()}
    results = Results(
        generation,
        [*features, *derived_names(features)],
        truth,
        null=truth.compare(_observables(held_out[size : 2 * size], features), seed),
        baseline=truth.compare(_observables(shuffled, features), seed),
        models={
            model: _average(
                [truth.compare(_observables(g.table.matrix(features)[:size], features), seed) for g in entries]
            )
            for model, entries in drawn.items()
        },
        rates=rates | simulation_rate(config, simulation_benchmarks),
        histories={model: {g.seed: g.history for g in entries} for model, entries in drawn.items()},
    )
    write_metrics(output / "metrics.json", _metrics(results) + _speed_metrics(results, simulated_events(config)))
    for name, figure in make_figures(results).items():
        write_figure(output / "figures" / f"{name}.json", figure)


def _observables(x: np.ndarray, features: Sequence[str]) -> np.ndarray:
    return np.hstack([x, derive(x, features)])


def _by_model(generation: Generation, generated: Sequence[Generated]) -> dict[str, list[Generated]]:
    """Generated events of each configured model by rising seed; every seed must be there once."""
    drawn = {
        model: sorted((g for g in generated if g.model == model), key=lambda g: g.seed) for model in generation.models
    }
    for model, entries in drawn.items():
        if [g.seed for g in entries] != sorted(generation.seeds):
            found = ", ".join(str(g.seed) for g in entries) or "none"
            msg = f"generation.models.{model}: expected events of seeds {sorted(generation.seeds)}, found {found}"
            raise HepgenError(msg)
    return drawn


def _average(scores: list[Scores]) -> Scores:
    """Mean over seeds of all comparisons with the same truth."""
    return Scores(
        [_average_counts(counts) for counts in zip(*(s.counts for s in scores), strict=True)],
        [_mean(e) for e in zip(*(s.chi2 for s in scores), strict=True)],
        [_mean(e) for e in zip(*(s.wasserstein for s in scores), strict=True)],
        _mean([s.auc for s in scores]),
        _mean([s.correlation for s in scores]),
        np.mean([s.matrix for s in scores], axis=0),
    )


def _mean(estimates: Sequence[Estimate]) -> Estimate:
    """The mean over seeds: its spread (Student's t) adds to the error of one comparison, which the truth dominates."""
    values, errors = np.array(estimates).T
    return Estimate(float(values.mean()), float(np.sqrt(np.mean(errors**2) + _seed_error(values) ** 2)))


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


def simulation_rate(config: Config, benchmarks: Sequence[Path]) -> dict[str, list[float]]:
    """Events per second of the jobs that simulated the sample, or nothing where it was not simulated here.

    Raises:
        HepgenError: if a file is not a Snakemake benchmark.
    """
    events = simulated_events(config)
    return {SIMULATION: [events / sum(_seconds(path) for path in benchmarks)]} if benchmarks and events else {}


def simulated_events(config: Config) -> int | None:
    """How many events were simulated here, or None where a sample comes from elsewhere."""
    entries = [config.samples[name] for name in config.generation.samples]
    known = all(isinstance(entry, PythiaSample) for entry in entries)
    return sum(entry.events for entry in entries) if known else None


def _seconds(path: Path) -> float:
    """Mean wall time over a benchmark's repeats."""
    try:
        with path.open(newline="") as file:
            return float(np.mean([float(row["s"]) for row in csv.DictReader(file, delimiter="\t")]))
    except (OSError, KeyError, ValueError) as error:
        msg = f"{path}: not a readable Snakemake benchmark ({error!r}); it should have a column 's' of seconds"
        raise HepgenError(msg) from error


def _metrics(results: Results) -> list[Metric]:
    null = results.null
    metrics = []
    for model, scores in {**results.models, BASELINE: results.baseline}.items():
        seeds = len(results.generation.seeds) if model in results.models else 1
        metrics += [
            _metric(results, model, name, estimate, known.value, len(results.truth.x), seeds)
            for name, estimate, known in (
                ("c2st_auc", scores.auc, null.auc),
                ("max_delta_pearson", scores.correlation, null.correlation),
                *zip((f"chi2_ndf/{n}" for n in results.names), scores.chi2, null.chi2, strict=True),
                *zip((f"w1/{n}" for n in results.names), scores.wasserstein, null.wasserstein, strict=True),
            )
        ]
    return metrics


def _speed_metrics(results: Results, simulated: int | None) -> list[Metric]:
    """Events per second and, where the simulation's speed is known, the ratio to it."""
    metrics = []
    simulation = results.rates.get(SIMULATION)
    for model, rates in results.rates.items():
        n = simulated if model == SIMULATION else results.generation.events
        rate = Estimate(float(np.mean(rates)), _seed_error(np.array(rates)))
        metrics.append(_metric(results, model, "events_per_second", rate, None, n, len(rates)))
        if simulation and model != SIMULATION:
            ratio = Estimate(rate.value / simulation[0], rate.error / simulation[0])
            metrics.append(_metric(results, model, "speed_up", ratio, 1.0, n, len(rates)))
    return metrics


def _metric(
    results: Results, model: str, name: str, estimate: Estimate, null: float | None, n: int, seeds: int
) -> Metric:
    value, error = estimate
    return Metric(
        analysis="generation", sample=title(results.generation), model=model, metric=name, value=value,
        low=max(value - error, 0.0), high=value + error, null=null, n=n, seeds=seeds,
    )  # fmt: skip
