"""Hold generated events against truth that no model has seen."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import norm

from hepgen.config import Config, Generation
from hepgen.errors import HepgenError
from hepgen.generation.columns import as_generated
from hepgen.generation.dataset import Part, read_split, title
from hepgen.generation.figures import make_figures
from hepgen.generation.jets import mean_image, spectrum
from hepgen.generation.results import Pixels, Results, Scores, Value, View, views_of
from hepgen.generation.sample import Generated, read_generated
from hepgen.generation.speed import SIMULATION, simulated_events, simulation_rate
from hepgen.generation.verdict import Events, Truth, average, mean
from hepgen.metrics.divergences import effective_events
from hepgen.metrics.record import Metric, write_metrics
from hepgen.metrics.weighted import mean_one
from hepgen.plots.figures import write_figure
from hepgen.provenance import seed_for
from hepgen.table import Table

__all__ = ["BASELINE", "REWEIGHTED", "evaluate"]

BASELINE = "shuffled_columns"
REWEIGHTED = "{}, reweighted"
# Jets of each set that are looked into, at most.
JETS = 20_000
SIGNED = ("nll", "fpd", "kpd")
AGAINST_NULL = ("precision", "recall", "density", "coverage")


def evaluate(
    config: Config,
    paths: dict[str, list[Path]],
    generated: Sequence[Path],
    output: Path,
    simulation_benchmarks: Sequence[Path] = (),
) -> None:
    """Compare every model over its seeds with held-out truth and write metrics and figures.

    The held-out truth is cut in two: one half is the reference, the other, compared in the same way, gives
    the null value of every figure of merit. All sets are of the same size. Generators of features, of images and of
    constituents have different truths: each kind has its own metrics and figures.

    Args:
        config: The run.
        paths: Observables of all chunks of each sample, in order.
        generated: Events of all models and seeds.
        output: Folder for ``metrics.json`` and ``figures/``.
        simulation_benchmarks: Snakemake's benchmark files of the jobs that simulated the whole sample and clustered
            its jets; without them, or for events drawn by a GPU, the speed is not compared.

    Raises:
        HepgenError: if generated events of a model are missing or have other features, or benchmarks are missing.
    """
    parts = read_split(config, paths, config.generation.models)
    drawn = _by_model(config, read_generated(generated))
    simulation = simulation_rate(config, simulation_benchmarks)
    metrics, figures = [], {}
    for view in views_of(config):
        entries = {name: drawn[name] for name in view.models}
        results = _compare(config, view, parts, entries, simulation)
        metrics += [*_metrics(results), *_metrics_of_files(results, entries)]
        figures |= make_figures(results)
    metrics += _speed_metrics(config, drawn, simulation)
    for name, figure in figures.items():
        write_figure(output / "figures" / f"{name}.json", figure)
    write_metrics(output / "metrics.json", metrics)


def _by_model(config: Config, generated: Sequence[Generated]) -> dict[str, list[Generated]]:
    """Generated events of each configured model by rising seed; every seed must be there once."""
    block = config.generation
    drawn = {model: sorted((g for g in generated if g.model == model), key=lambda g: g.seed) for model in block.models}
    for model, entries in drawn.items():
        if [g.seed for g in entries] != sorted(block.seeds):
            found = ", ".join(str(g.seed) for g in entries) or "none"
            msg = f"generation.models.{model}: expected events of seeds {sorted(block.seeds)}, found {found}"
            raise HepgenError(msg)
    return drawn


def _compare(
    config: Config,
    view: View,
    parts: dict[Part, Table],
    drawn: dict[str, list[Generated]],
    simulation: dict[str, list[float]],
) -> Results:
    """The verdict on all models of one view."""
    block = config.generation
    seed = seed_for(config.seed, title(block), "evaluate", view.inputs)
    most = len(parts["test"]) if view.inputs == "features" else JETS
    size = min(len(parts["test"]) // 2, most, *(len(g.table) for entries in drawn.values() for g in entries))
    reference, other, training = _truths(config, view, parts, size)
    truth = Truth(view, reference, training.x, len(parts["train"]))
    rng = np.random.default_rng(seed)
    drawn_again = rng.choice(len(training.x), size, p=training.weight / training.weight.sum())
    shuffled = rng.permuted(training.x[drawn_again], axis=0)
    nulls: dict[tuple[str, ...], Scores] = {(): truth.compare(other.told(()), seed)}
    models, against = {}, {}
    for name, entries in drawn.items():
        told = tuple(block.models[name].conditions)
        if told not in nulls:
            nulls[told] = truth.compare(other.told(told), seed)
        for called, weighted in _names_of(config, name).items():
            sets = (_events(config, view, g.table[:size], g.weights[:size] if weighted else None) for g in entries)
            models[called] = average([truth.compare(events.told(told), seed) for events in sets])
            against[called] = nulls[told]
            if weighted:
                weights = other.weight * rng.permutation(entries[0].weights[:size])
                events = replace(other, weight=mean_one(other.x, weights))
                against[called] = truth.compare(events.told(told), seed)
    return Results(
        generation=block,
        view=view,
        size=size,
        truth=truth,
        null=nulls[()],
        baseline=truth.compare(Events(shuffled, {}, np.ones(size)), seed),
        models=models,
        nulls=against,
        rates={name: _rates(entries) for name, entries in drawn.items()} | simulation,
        devices=sorted({g.device for entries in drawn.values() for g in entries}),
        histories={name: {g.seed: g.history for g in entries} for name, entries in drawn.items()},
    )


def _names_of(config: Config, model: str) -> dict[str, bool]:
    """What a model's events are called without and with their weights, where they have some."""
    names = {model: False}
    return names | {REWEIGHTED.format(model): True} if config.generation.models[model].reweighting else names


def _truths(config: Config, view: View, parts: dict[Part, Table], size: int) -> list[Events]:
    """The reference, the other half of the held-out truth, and training events, as the generators would make them."""
    block = config.generation
    told = {condition for name in view.models for condition in block.models[name].conditions}
    entry = block.models[view.models[0]].model_copy(update={"conditions": sorted(told)})
    tables = (parts["test"][:size], parts["test"][size : 2 * size], parts["train"][:size])
    return [_events(config, view, as_generated(entry, block, table), table.columns["weight"]) for table in tables]


def _events(config: Config, view: View, table: Table, weights: np.ndarray | None) -> Events:
    """What is compared of a table in the columns of generated events."""
    x = table.matrix(view.names)
    weights = mean_one(x, weights)
    conditions = {name: values for name, values in table.columns.items() if name.startswith("condition_")}
    pixels = None
    if table.constituents:
        jets = table.constituents[0]
        pixels = Pixels(mean_image(jets, config.generation.images, weights), spectrum(jets, weights))
    return Events(x, conditions, weights, pixels)


def _rates(entries: Sequence[Generated]) -> list[float]:
    return [len(g.table) / g.seconds for g in entries]


def _metrics(results: Results) -> Iterator[Metric]:
    """Every figure of merit of all models, of single observables last."""
    for model, scores in {**results.models, BASELINE: results.baseline}.items():
        null = results.nulls.get(model, results.null)
        seeds = len(results.generation.seeds) if model in results.models else 1
        for name, value in sorted(scores.values.items(), key=lambda item: "/" in item[0]):
            known = null.values.get(name)
            if name in AGAINST_NULL:
                value = value._replace(p_value=_differs(value, known))
            yield _metric(results.generation, model, name, value, known.value if known else None, seeds)


def _differs(value: Value, null: Value) -> float:
    """p-value of a difference from the null value, whichever its sign, both being normal and independent."""
    error = float(np.hypot((value.up + value.down) / 2, (null.up + null.down) / 2))
    return float(2 * norm.sf(abs(value.value - null.value) / error)) if error > 0 else 1.0


def _metrics_of_files(results: Results, drawn: dict[str, list[Generated]]) -> Iterator[Metric]:
    """What the generated files say of themselves: likelihood of held-out events, effective events."""
    block = results.generation
    for model, entries in drawn.items():
        n, seeds = len(entries[0].table), len(entries)
        if all(g.nll for g in entries):
            nll = _over_seeds([g.nll for g in entries], entries[0].held_out)
            yield _metric(block, model, "nll", nll, None, seeds)
        if block.models[model].reweighting:
            shares = [(effective_events(g.weights) / len(g.table), 0.0) for g in entries]
            yield _metric(block, REWEIGHTED.format(model), "effective_share", _over_seeds(shares, n), 1.0, seeds)


def _over_seeds(estimates: Sequence[tuple[float, float]], n: int) -> Value:
    return mean([Value(value, error, error, None, n) for value, error in estimates])


def _speed_metrics(
    config: Config, drawn: dict[str, list[Generated]], simulation: dict[str, list[float]]
) -> Iterator[Metric]:
    """Events per second and, where the simulation's speed is known and both ran on CPUs, the ratio to it."""
    block = config.generation
    for model, found in {**{name: _rates(entries) for name, entries in drawn.items()}, **simulation}.items():
        n = simulated_events(config) if model == SIMULATION else block.events
        rate = _over_seeds([(value, 0.0) for value in found], n)
        yield _metric(block, model, "events_per_second", rate, None, len(found))
        if simulation and model != SIMULATION and all(g.device == "cpu" for g in drawn[model]):
            ratio = _over_seeds([(value / simulation[SIMULATION][0], 0.0) for value in found], n)
            yield _metric(block, model, "speed_up", ratio, 1.0, len(found))


def _metric(block: Generation, model: str, name: str, value: Value, null: float | None, seeds: int) -> Metric:
    low = value.value - value.down
    return Metric(
        analysis="generation", sample=title(block), model=model, metric=name, value=value.value,
        low=low if name in SIGNED else max(low, 0.0), high=value.value + value.up, null=null,
        p_value=value.p_value, n=value.n, seeds=seeds,
    )  # fmt: skip
