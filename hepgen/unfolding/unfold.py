"""Unfold the data, or a variation of them, with one method and one seed, from what a measurement may know."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np

from hepgen.config import Config, Unfolding, UnfoldingMethod
from hepgen.plan import provenance
from hepgen.provenance import seed_for
from hepgen.registry import look_up
from hepgen.storage import create_h5
from hepgen.table import Table, read_tables, write_table
from hepgen.unfolding import METHODS
from hepgen.unfolding.dataset import Problem, Tables, read_pairs, read_problem, warn_empty, warn_uncovered
from hepgen.unfolding.ibu import ibu, response_matrix, simulation_covariance
from hepgen.unfolding.pseudodata import Varied, vary
from hepgen.unfolding.spectra import Spectrum, make_spectra, write_bins
from hepgen.unfolding.variations import UNFOLDED, Variation, find

__all__ = ["unfold"]


def unfold(
    config: Config, method: str, variation: str, seed: int, tables: Tables, output: Path, device: str = "auto"
) -> None:
    """Write one method's result for every iteration.

    An unbinned method leaves ``weights`` (iterations, n), the weights of the simulated events that make their truth
    level the data's, in shape and yield; those of fakes, which have no truth level, count at detector level only.
    IBU leaves a group ``spectra/NAME`` per spectrum with ``unfolded`` (iterations, cells), ``refolded``, of the
    measurement its ``covariance``, and the ``edges`` of the bins; the cells are those of
    `hepgen.unfolding.spectra.Spectrum`, under- and overflow included.
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
    jets = settings.inputs == "constituents"
    with _poisoned(block, tables, jets) if wanted.kind == "leakage" else nullcontext(tables) as given:
        problem = read_problem(block, given, particles=jets)
        spectra = make_spectra(block, problem.simulation.truth[problem.simulation.pass_truth])
        varied, target = _varied(config, problem, given, wanted, jets)
    warn_uncovered(spectra, varied)
    warn_empty(spectra, varied.simulation)
    made_from = provenance(config, "unfolding_unfold", method)
    keeping = nullcontext()
    if settings.type != "ibu":
        # Here, because binned unfolding needs no torch.
        from hepgen.checkpoints import resumable

        keeping = resumable(output, made_from, variation, seed, inputs=chain.from_iterable(tables.values()))
    with keeping, create_h5(output, UNFOLDED, made_from) as file:
        file.attrs.update(method=method, variation=variation, seed=seed, type=settings.type)
        if target is not None:
            file.create_dataset("target", data=target.astype(np.float32), track_times=False)
        if settings.type == "ibu":
            for spectrum in spectra:
                _ibu(file.create_group(f"spectra/{spectrum.name}"), settings, varied, spectrum, seed, wanted)
        else:
            _unbinned(file, settings, varied, block.observables, seed, device)


@contextmanager
def _poisoned(block: Unfolding, tables: Tables, jets: bool) -> Iterator[Tables]:
    """The tables with nonsense for the truth of the data, which nothing that is measured may depend on."""
    table = read_tables(tables[block.data], constituents=jets)
    rng = np.random.default_rng(seed_for("poison"))
    truth = {name: rng.permutation(values) * 1e3 for name, values in table.truth.items()}
    columns = dict(table.columns)
    if "pass_truth" in columns:
        columns["pass_truth"] = rng.random(len(table)) < 0.5
    with TemporaryDirectory() as folder:
        path = Path(folder, "poisoned.h5")
        write_table(path, [Table(columns, truth, table.constituents)])
        yield {**tables, block.data: [path]}


def _varied(config: Config, problem: Problem, tables: Tables, variation: Variation, jets: bool) -> Varied:
    block, sample, alternative = config.unfolding, variation.sample, None
    if variation.kind == "systematic":
        problem = replace(problem, simulation=read_pairs(block, tables, sample, particles=jets))
    elif variation.kind == "alternative":
        alternative = read_pairs(block, tables, sample, particles=jets)
    return vary(config, problem, variation, alternative)


def _unbinned(
    file: h5py.File, settings: UnfoldingMethod, problem: Problem, observables: Sequence[str], seed: int, device: str
) -> None:
    simulation = problem.simulation
    drawn = np.flatnonzero(simulation.weights > 0)
    smaller = Problem(simulation.rows(drawn), problem.data, problem.background)
    outcome = METHODS.load(settings.type)(smaller, settings, observables, seed=seed, device=device)
    weights = np.zeros((settings.iterations, len(simulation.weights)), np.float32)
    scale = problem.signal / simulation.seen_weights.sum()
    weights[:, drawn] = outcome.weights * simulation.weights[drawn] * scale
    file.create_dataset("weights", data=weights, track_times=False)
    for name, values in outcome.about.items():
        file.create_dataset(name, data=values, track_times=False)


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
    measured = problem.measured(spectrum)
    # No method can make sense of a cell that holds less than nothing.
    contents = np.maximum(measured.values, 0.0)
    response = response_matrix(causes, effects, simulation.weights, size, **passed)
    result = ibu(contents, *response, iterations=settings.iterations, data_variance=measured.variances)
    parts = {"unfolded": result.unfolded, "refolded": result.refolded}
    if variation.kind == "nominal":
        parts["covariance"] = result.covariance + simulation_covariance(
            causes, effects, simulation.weights, contents, size, iterations=settings.iterations, seed=seed, **passed
        )
    write_bins(group, spectrum)
    for name, values in parts.items():
        group.create_dataset(name, data=values, track_times=False)
