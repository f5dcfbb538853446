"""Unfold the data, or a variation of them, with one method and one seed, from what a measurement may know."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np

from hepgen.config import Config, UnfoldingMethod
from hepgen.plan import provenance
from hepgen.provenance import seed_for
from hepgen.registry import look_up
from hepgen.storage import create_h5
from hepgen.table import Table, read_tables, write_table
from hepgen.unfolding.dataset import Problem, Tables, read_pairs, read_problem, warn_uncovered
from hepgen.unfolding.ibu import ibu, response_matrix, simulation_covariance
from hepgen.unfolding.pseudodata import vary
from hepgen.unfolding.reweighting import Outcome
from hepgen.unfolding.spectra import Spectrum, make_spectra
from hepgen.unfolding.variations import Variation, find

__all__ = ["KIND", "unfold"]

KIND = "unfolded"


def unfold(
    config: Config, method: str, variation: str, seed: int, tables: Tables, output: Path, device: str = "auto"
) -> None:
    """Write one method's result for every iteration.

    An unbinned method leaves ``weights`` (iterations, n), the weights of the simulated events that make their truth
    level the data's, in shape and yield; those of fakes, which have no truth level, count at detector level only.
    IBU leaves a group per spectrum with ``unfolded`` (iterations, cells), ``refolded`` and, of the measurement, its
    ``covariance``; the cells are those of `hepgen.unfolding.spectra.Spectrum`, under- and overflow included.
    Where the truth is known, ``target`` holds the weights that make the simulation's truth the pseudo-data's.

    Args:
        config: The run.
        method: An entry of ``unfolding.methods``.
        variation: The name of one of its `hepgen.unfolding.variations`.
        seed: Fixes the networks, or the bootstrap of the response.
        tables: Observables of all chunks of each sample, in order; the truth of the data, if any, is not read.
        output: HDF5 file to write.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        HepgenError: if the method or the variation is unknown or the events are unfit, see
            `hepgen.unfolding.dataset`.
    """
    block = config.unfolding
    settings = look_up("unfolding method", method, block.methods)
    wanted = find(block, method, variation)
    with _poisoned(tables, block.data) if wanted.kind == "leakage" else _as_they_are(tables) as given:
        problem = read_problem(block, given)
        spectra = make_spectra(block, problem.simulation.truth[problem.simulation.pass_truth])
        varied, target = _varied(config, problem, given, wanted)
    warn_uncovered(spectra, varied)
    with create_h5(output, KIND, provenance(config, "unfolding_unfold", method)) as file:
        file.attrs.update(method=method, variation=variation, seed=seed, type=settings.type)
        if target is not None:
            file.create_dataset("target", data=target.astype(np.float32), track_times=False)
        if settings.type == "ibu":
            for spectrum in spectra:
                _ibu(file.create_group(spectrum.name), settings, varied, spectrum, seed, wanted)
        else:
            _unbinned(file, settings, varied, seed, device)


@contextmanager
def _as_they_are(tables: Tables) -> Iterator[Tables]:
    yield tables


@contextmanager
def _poisoned(tables: Tables, sample: str) -> Iterator[Tables]:
    """The tables with nonsense for the truth of one sample, which nothing that is measured may depend on."""
    table = read_tables(tables[sample])
    rng = np.random.default_rng(seed_for("poison"))
    truth = {name: rng.permutation(values) * 1e3 for name, values in table.truth.items()}
    columns = dict(table.columns)
    if "pass_truth" in columns:
        columns["pass_truth"] = rng.random(len(table)) < 0.5
    with TemporaryDirectory() as folder:
        path = Path(folder, f"{sample}.h5")
        write_table(path, [Table(columns, truth)])
        yield {**tables, sample: [path]}


def _varied(
    config: Config, problem: Problem, tables: Tables, variation: Variation
) -> tuple[Problem, np.ndarray | None]:
    if variation.kind == "systematic":
        other = read_problem(config.unfolding, tables, variation.sample)
        return vary(config, other, variation)
    alternative = read_pairs(config.unfolding, tables, variation.sample) if variation.kind == "alternative" else None
    return vary(config, problem, variation, alternative)


def _unbinned(file: h5py.File, settings: UnfoldingMethod, problem: Problem, seed: int, device: str) -> None:
    simulation = problem.simulation
    drawn = np.flatnonzero(simulation.weights > 0)
    smaller = Problem(simulation.rows(drawn), problem.data, problem.background)
    outcome = _solve(smaller, settings, seed, device)
    weights = np.zeros((settings.iterations, len(simulation.weights)), np.float32)
    scale = problem.signal / simulation.seen_weights.sum()
    weights[:, drawn] = outcome.weights * simulation.weights[drawn] * scale
    file.create_dataset("weights", data=weights, track_times=False)
    for name, values in outcome.about.items():
        file.create_dataset(name, data=values, track_times=False)


def _solve(problem: Problem, settings: UnfoldingMethod, seed: int, device: str) -> Outcome:
    """What the configured unbinned method makes of a problem."""
    # torch, which binned unfolding does without.
    from hepgen.unfolding.omnifold import omnifold
    from hepgen.unfolding.reweighting import Reweighter

    if settings.type == "omnifold":
        reweighter = Reweighter(settings.model or "mlp", settings.settings, settings.training, device)
        return omnifold(problem, iterations=settings.iterations, reweighter=reweighter, seed=seed)
    from hepgen.unfolding.conditional_flow import conditional_flow
    from hepgen.unfolding.neural_bayes import neural_bayes

    method = conditional_flow if settings.type == "conditional_flow" else neural_bayes
    return method(problem, settings, seed=seed, device=device)


def _ibu(
    group: h5py.Group,
    settings: UnfoldingMethod,
    problem: Problem,
    spectrum: Spectrum,
    seed: int,
    variation: Variation,
) -> None:
    simulation, size = problem.simulation, (spectrum.size("reco"), spectrum.size("truth"))
    causes, effects = spectrum.cells(simulation.truth, "truth"), spectrum.cells(simulation.reco, "reco")
    passed = {"pass_truth": simulation.pass_truth, "pass_reco": simulation.pass_reco}
    measured, variance = _without_background(problem, spectrum)
    response = response_matrix(causes, effects, simulation.weights, size, **passed)
    result = ibu(measured, *response, iterations=settings.iterations, data_variance=variance)
    parts = {"unfolded": result.unfolded, "refolded": result.refolded}
    if variation.kind == "nominal":
        parts["covariance"] = result.covariance + simulation_covariance(
            causes, effects, simulation.weights, measured, size, iterations=settings.iterations, seed=seed, **passed
        )
    for name, values in parts.items():
        group.create_dataset(name, data=values, track_times=False)


def _without_background(problem: Problem, spectrum: Spectrum) -> tuple[np.ndarray, np.ndarray]:
    """Contents and variances of the data's cells after the background is subtracted, nowhere negative."""
    size, values, variance = spectrum.size("reco"), 0.0, 0.0
    for level, sign in ((problem.data, 1), (problem.background, -1)):
        cells = spectrum.cells(level.values, "reco")
        values = values + sign * np.bincount(cells, level.weights, size)
        variance = variance + np.bincount(cells, level.weights**2, size)
    return np.maximum(values, 0.0), variance
