"""Unfold the data with one method and one seed, from the simulation and the data's detector level alone."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from hepgen.config import Config, UnfoldingMethod
from hepgen.metrics.histograms import count
from hepgen.plan import provenance
from hepgen.registry import look_up
from hepgen.storage import create_h5
from hepgen.unfolding.dataset import Level, Pairs, bin_edges, read_data, read_simulation, warn_uncovered
from hepgen.unfolding.ibu import ibu, response_matrix, simulation_covariance
from hepgen.unfolding.omnifold import Reweighter, omnifold
from hepgen.unfolding.results import KIND

__all__ = ["unfold"]


def unfold(
    config: Config,
    method: str,
    seed: int,
    simulation_paths: Sequence[Path],
    data_paths: Sequence[Path],
    output: Path,
    device: str = "auto",
) -> None:
    """Write one method's result for every iteration.

    OmniFold leaves ``weights`` (iterations, n), the full weights of the simulated events, which multiply their
    truth level to give the data's in shape, and in yield after multiplication by the attribute ``normalisation``;
    those of fakes, which have no truth level, count at detector level only.
    IBU leaves a group per observable with ``edges``, ``unfolded`` (iterations, bins + 2), its ``covariance`` and
    ``refolded``, the first and last bin being the underflow and the overflow.

    Args:
        config: The run.
        method: An entry of ``unfolding.methods``.
        seed: Fixes the networks, or the bootstrap of the response.
        simulation_paths: Observables of all chunks of the simulation, in order.
        data_paths: The same of the data; their truth level, if any, is not read.
        output: HDF5 file to write.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        HepgenError: if the method is unknown or the events are unfit, see `hepgen.unfolding.dataset`.
    """
    block = config.unfolding
    settings = look_up("unfolding method", method, block.methods)
    simulation, data = read_simulation(block, simulation_paths), read_data(block, data_paths)
    truth = simulation.truth[simulation.pass_truth]
    edges = [bin_edges(name, block.bins, x) for name, x in zip(block.observables, truth.T, strict=True)]
    warn_uncovered(block.observables, edges, simulation, data)
    with create_h5(output, KIND, provenance(config, "unfolding_unfold", method)) as file:
        file.attrs.update(method=method, seed=seed, type=settings.type)
        if settings.type == "omnifold":
            _omnifold(file, settings, simulation, data, seed, device)
        else:
            for index, name in enumerate(block.observables):
                _ibu(file.create_group(name), settings, simulation, data, index, edges[index], seed)


def _omnifold(
    file: h5py.File, settings: UnfoldingMethod, simulation: Pairs, data: Level, seed: int, device: str
) -> None:
    result = omnifold(
        simulation.truth,
        simulation.reco,
        data.values,
        iterations=settings.iterations,
        simulation_weights=simulation.weights,
        data_weights=data.weights,
        pass_truth=simulation.pass_truth,
        pass_reco=simulation.pass_reco,
        reweighter=Reweighter(settings.classifier, settings.settings, settings.training, device),
        seed=seed,
    )
    file.create_dataset("weights", data=simulation.weights * result.weights, track_times=False)
    file.create_dataset("clamped", data=result.clamped, track_times=False)
    file.attrs["normalisation"] = data.weights.sum() / simulation.seen_weights.sum()


def _ibu(
    group: h5py.Group,
    settings: UnfoldingMethod,
    simulation: Pairs,
    data: Level,
    index: int,
    edges: np.ndarray,
    seed: int,
) -> None:
    causes, effects = (np.searchsorted(edges, x[:, index], "right") for x in (simulation.truth, simulation.reco))
    measured = count(data.values[:, index], edges, data.weights)
    passed = {"pass_truth": simulation.pass_truth, "pass_reco": simulation.pass_reco}
    response = response_matrix(causes, effects, simulation.weights, len(edges) + 1, **passed)
    result = ibu(measured.values, *response, iterations=settings.iterations, data_variance=measured.variances)
    covariance = result.covariance + simulation_covariance(
        causes, effects, simulation.weights, measured.values, iterations=settings.iterations, seed=seed, **passed
    )
    parts = {"edges": edges, "unfolded": result.unfolded, "covariance": covariance, "refolded": result.refolded}
    for name, values in parts.items():
        group.create_dataset(name, data=values, track_times=False)
