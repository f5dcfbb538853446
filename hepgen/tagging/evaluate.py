"""Compare all taggers, cuts and other tools over all trainings: figures of merit and the numbers behind the figures."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hepgen.config import Config
from hepgen.metrics.record import Metric, write_metrics
from hepgen.observables import describe
from hepgen.plots.figures import Axis, Figure, write_figure
from hepgen.plots.histories import training_curves
from hepgen.provenance import seed_for
from hepgen.table import Table
from hepgen.tagging import figures, latent, studies
from hepgen.tagging.dataset import held_out_samples, load
from hepgen.tagging.figures import inputs_in_use, inputs_of, profiled, with_codes
from hepgen.tagging.results import Results, read_results, scorers_of
from hepgen.tagging.scorers import Measured, Population, Scorer, auc_difference, separation
from hepgen.tagging.sculpting import RandomCuts, sculpting

__all__ = ["evaluate"]


def evaluate(config: Config, paths: dict[str, list[Path]], score_files: list[Path], output: Path) -> list[Metric]:
    """Write ``metrics.json`` and ``figures/*.json`` into a folder, once all are computed; returns the metrics.

    Figures of merit are those of `separation` and `sculpting`: on the main test samples, for an inverse task with
    the classes exchanged, and on each further signal of `tagging.transfer` with the main background. Each training
    of a scan has its AUC's difference to that of the scan's first value besides.

    Raises:
        HepgenError: if scores are missing, constant or not finite, or the test events are of one class only.
    """
    tagging = config.tagging
    columns = sorted({*profiled(config), *(cut.observable for cut in tagging.cuts.values())})
    (table,) = load(config, paths, columns, ("test",))
    results = read_results(config, score_files, len(table))
    scorers = scorers_of(config, results, table)
    main, *others = _populations(config, table)
    measured: list[Measured] = []
    metrics: list[Metric] = []
    inverse = [scorer for scorer in scorers if scorer.exchanged]
    for population, members in ((main, _usual(scorers)), (main.exchanged(), inverse)):
        for one, records in separation(population, members):
            measured.append(one)
            metrics += records
    metrics += _differences(config, main, measured)
    for population in others:
        shown = [scorer for scorer in _usual(scorers) if not scorer.scanned]
        metrics += [metric for _, records in separation(population, shown) for metric in records]
    random: dict[str, RandomCuts] = {}
    for name in profiled(config):
        random[name], records = sculpting(main, _usual(scorers), name, table.columns[name])
        metrics += records
        if inverse:
            metrics += sculpting(main.exchanged(), inverse, name, table.columns[name])[1]
    drawn = dict(_figures(config, main, measured, metrics, results, table, random[tagging.mass]))
    for name, figure in drawn.items():
        write_figure(Path(output) / "figures" / f"{name}.json", figure)
    write_metrics(Path(output) / "metrics.json", metrics)
    return metrics


def _differences(config: Config, main: Population, measured: list[Measured]) -> Iterator[Metric]:
    """What each training of a scan has gained over the first value."""
    found = {one.scorer.name: one for one in measured}
    for scan, settings in config.tagging.scans.items():
        for model in settings.models:
            first, *others = (found[name] for name, _, _ in config.tagging.points(scan, model))
            for one in others:
                yield auc_difference(main, one, first, studies.difference_in(scan))


def _usual(scorers: list[Scorer]) -> list[Scorer]:
    return [scorer for scorer in scorers if not scorer.exchanged]


def _populations(config: Config, table: Table) -> list[Population]:
    """The main test events, then each further signal with the main background."""
    label, weight, sample = (table.columns[name] for name in ("label", "weight", "sample"))
    names = held_out_samples(config)
    main = sample < len(names)
    background = [name for number, name in enumerate(names) if np.any(label[sample == number] == 0)]
    chosen = {"+".join(names): main}
    for number, name in enumerate(config.tagging.transfer, len(names)):
        chosen["+".join([*background, name])] = (main & (label == 0)) | ((sample == number) & (label == 1))
    return [
        Population(name, np.flatnonzero(which), label[which], weight[which], seed_for(config.seed, "tagging", name))
        for name, which in chosen.items()
    ]


def _figures(
    config: Config,
    main: Population,
    measured: list[Measured],
    metrics: list[Metric],
    results: dict[str, Results],
    table: Table,
    random: RandomCuts,
) -> Iterator[tuple[str, Figure]]:
    tagging, seeds = config.tagging, config.tagging.seeds
    records = studies.Records(metrics, main.sample)
    compared = [one for one in measured if not one.scorer.scanned]
    for kind in inputs_in_use(config):
        shown = figures.of_inputs(compared, kind)
        yield f"roc_{kind}", figures.roc_curves(shown, kind)
        yield f"sic_{kind}", figures.sic_curves(shown, kind)
    scorers = [one.scorer for one in compared]
    for name, figure in studies.merits(config, scorers, records).items():
        yield f"merits_{name}", figure
    yield "pareto", studies.pareto(config, [one.scorer for one in measured if one.scorer.first], records, random)
    for name in tagging.scans:
        for kind, figure in studies.scan(config, name, records).items():
            yield f"{kind}_{name}", figure
    if tagging.transfer:
        yield "transfer", studies.transfer(_usual(scorers), records)
    axes = {name: Axis(label=describe(name).axis_label) for name in profiled(config)}
    for name, axis in axes.items():
        values = table.columns[name].astype(np.float64)
        chosen = [scorer for scorer in _usual(scorers) if scorer.first]
        yield f"profile_{name}", figures.profile(main, chosen, values, axis)
        yield f"passing_{name}", figures.passing_fractions(main, chosen, values, axis)
    for kind in inputs_in_use(config):
        members = [name for name, entry in tagging.models.items() if inputs_of(entry) == kind]
        yield f"training_{kind}", training_curves({name: results[name].history for name in members})
    own = {scorer.name: scorer for scorer in scorers}
    mass = table.columns[tagging.mass].astype(np.float64)
    for name in tagging.models:
        events = main.exchanged() if own[name].exchanged else main
        yield f"scores_{name}", figures.score_histograms(main, own[name], seeds[0])
        yield f"mass_sculpting_{name}", figures.mass_spectra(events, own[name], mass, axes[tagging.mass])
    for name in with_codes(config):
        yield f"latent_{name}", latent.corner(name, results[name].latent, seeds[0])
        normal = 1 if own[name].exchanged else 0
        yield f"collapse_{name}", latent.collapse(name, results[name].latent, normal)
    images = {name: results[name].images for name, entry in tagging.models.items() if entry.inputs == "images"}
    width = tagging.images.width
    for name, arrays in images.items():
        yield f"reconstruction_{name}", latent.reconstructions(name, seeds[0], arrays, width)
        if name in with_codes(config):
            yield f"interpolation_{name}", latent.interpolation(name, seeds[0], arrays, width)
    if images:
        yield "images", latent.mean_images(next(iter(images.values())), width)
