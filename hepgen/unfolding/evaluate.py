"""Hold all unfolding methods against each other: scores where the truth is known, and all figures."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hepgen.config import Config, Unfolding
from hepgen.errors import HepgenError
from hepgen.metrics.record import Metric, write_metrics
from hepgen.plots.figures import Figure, write_figure
from hepgen.provenance import seed_for
from hepgen.storage import open_h5
from hepgen.unfolding import result_figures as results
from hepgen.unfolding.comparison import Spectra, side_by_side
from hepgen.unfolding.dataset import Problem, Tables, read_pairs, read_problem
from hepgen.unfolding.detector import detector_figure, measure, response_figure
from hepgen.unfolding.figures import has_truth
from hepgen.unfolding.iterations import average, study
from hepgen.unfolding.results import read_weights, results_of
from hepgen.unfolding.scores import Scores, score
from hepgen.unfolding.variations import UNFOLDED, studied

__all__ = ["evaluate"]


def evaluate(config: Config, tables: Tables, measured: Sequence[Path], files: Sequence[Path], output: Path) -> None:
    """Write ``metrics.json`` and the figures' numbers.

    The figure of merit is the triangular discriminator ×10³ between the unfolded and the true spectrum of the
    data, both of unit area within the bins (`hepgen.unfolding.spectra`), beside that of the prior and
    of the data as measured, and the floor of two independent samples where the estimate and the truth are such.
    The truth is that of all data events that pass at particle level, seen or not. Data without a truth are not scored.

    Args:
        config: The run.
        tables: Observables of all chunks of each sample, in order.
        measured: Products of `hepgen.unfolding.results.combine`, one for each method.
        files: Products of `hepgen.unfolding.unfold.unfold` of the measurement, every method and seed.
        output: Folder to write into.

    Raises:
        HepgenError: if the samples are unfit or do not belong to the results, or a result is incomplete.
    """
    block = config.unfolding
    problem = read_problem(block, tables)
    truth = read_pairs(block, tables, block.data) if has_truth(config) else None
    spectra = side_by_side(block, measured, truth)
    singles, planes = spectra[: len(block.observables)], spectra[len(block.observables) :]
    weights = _weights(block, files, spectra[0].chosen, len(problem.simulation.weights))
    calibrations = _calibrations(block, files, spectra[0].chosen)
    metrics = _uncertainties(block, singles, len(problem.data.weights))
    figures = _of_observables(block, problem, singles)
    figures |= {f"plane_{one.spectrum.name}": results.plane_figure(block, one) for one in planes}
    if block.toys:
        figures["toys"] = _toys(block, spectra)
    if truth:
        scores = score(problem, truth, singles, weights, seed_for(config.seed, "unfolding_evaluate"))
        metrics += scores.metrics(block.data)
        figures |= _scored(block, singles, scores)
    if weights:
        true = problem.simulation.true_weights > 0
        figures["weights"] = results.weights_figure({name: rows[:, true] for name, rows in weights.items()})
    if calibrations:
        figures["calibration"] = results.calibration_figure(calibrations)
    write_metrics(output / "metrics.json", metrics)
    for name, figure in figures.items():
        write_figure(output / "figures" / f"{name}.json", figure)


def _of_observables(block: Unfolding, problem: Problem, spectra: Sequence[Spectra]) -> dict[str, Figure]:
    """The figures that every observable has."""
    figures: dict[str, Figure] = {}
    for one in spectra:
        name, detector = one.spectrum.name, measure(one.spectrum, problem.simulation)
        figures[f"response_{name}"] = response_figure(one.spectrum, detector)
        figures[f"detector_{name}"] = detector_figure(one.spectrum, detector)
        figures[f"unfolded_{name}"] = results.unfolded_figure(block, one)
        figures[f"refolded_{name}"] = results.refolded_figure(block, one)
        if block.replicas:
            figures[f"uncertainty_{name}"] = results.uncertainty_figure(one, studied(block))
            figures[f"correlation_{name}"] = results.correlation_figure(one, studied(block))
    return figures


def _toys(block: Unfolding, spectra: Sequence[Spectra]) -> Figure:
    averages = {name: average([study(one.results[name]) for one in spectra]) for name in studied(block)}
    return results.toys_figure(averages, spectra[0].chosen, block.toys)


def _scored(block: Unfolding, spectra: Sequence[Spectra], scores: Scores) -> dict[str, Figure]:
    return {
        "triangular": results.triangular_figure(block, spectra, scores),
        "iterations": results.iterations_figure(spectra, scores),
    }


def _weights(block: Unfolding, files: Sequence[Path], chosen: dict[str, int], events: int) -> dict[str, np.ndarray]:
    """Event weights of the unbinned methods' chosen iterations, shape (S, n)."""
    found = {}
    for name, method in block.methods.items():
        if method.type != "ibu":
            paths = results_of(block, name, files, ("nominal",)).values()
            found[name] = np.stack([read_weights(path, events, chosen[name]) for path in paths])
    return found


def _calibrations(block: Unfolding, files: Sequence[Path], chosen: dict[str, int]) -> dict[str, np.ndarray]:
    """Mean over seeds of the calibration of OmniFold's classifiers at the chosen iteration, shape (2, bins, 3)."""
    found = {}
    for name, method in block.methods.items():
        if method.type == "omnifold":
            tables = []
            for path in results_of(block, name, files, ("nominal",)).values():
                with open_h5(path, UNFOLDED) as file:
                    if "calibration" not in file:
                        msg = f"{path}: how far the classifiers are calibrated was not kept; unfold again"
                        raise HepgenError(msg)
                    tables.append(file["calibration"][chosen[name]])
            found[name] = np.mean(tables, axis=0)
    return found


def _uncertainties(block: Unfolding, spectra: Sequence[Spectra], events: int) -> list[Metric]:
    """The reported iteration, counted from 1, and the relative uncertainties by source, of the studied methods.

    A relative uncertainty is the sum of the bins' standard deviations over the sum of their contents, its mean over
    the observables.
    """
    records = []
    for name in studied(block):
        budgets = [one.budgets[name] for one in spectra]
        values = {"iteration": spectra[0].chosen[name] + 1.0}
        for source in ("total", *budgets[0].components):
            matrices = [b.total if source == "total" else b.components[source] for b in budgets]
            shares = [np.sqrt(np.diag(m)).sum() / b.central.sum() for m, b in zip(matrices, budgets, strict=True)]
            values[f"uncertainty/{source}"] = float(np.mean(shares))
        about = {"analysis": "unfolding", "sample": block.data, "model": name, "n": events}
        seeds = len(spectra[0].results[name].nominal)
        records += [
            Metric(metric=metric, value=value, low=value, high=value, seeds=seeds, **about)
            for metric, value in values.items()
        ]
    return records
