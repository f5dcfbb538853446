"""Unfolded results from disk, as spectra of every observable in common bins."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hepgen.config import Unfolding
from hepgen.errors import HepgenError
from hepgen.metrics.histograms import Counts, count
from hepgen.storage import open_h5
from hepgen.unfolding.dataset import Pairs, bin_edges
from hepgen.unfolding.figures import Spectra, Unfolded

__all__ = ["KIND", "Samples", "read_results"]

KIND = "unfolded"


@dataclass(frozen=True)
class Samples:
    """What the methods are scored on.

    Attributes:
        block: The configuration's unfolding block.
        simulation: The pairs that the methods learnt from.
        data: The data with their truth; the methods saw the detector level of the events that pass there.
    """

    block: Unfolding
    simulation: Pairs
    data: Pairs

    @cached_property
    def edges(self) -> list[np.ndarray]:
        """Edges of every observable's bins."""
        columns = zip(self.block.observables, self.simulation.truth[self.simulation.pass_truth].T, strict=True)
        return [bin_edges(name, self.block.bins, x) for name, x in columns]

    @cached_property
    def bins(self) -> list[tuple[np.ndarray, ...]]:
        """Bins of truth and reco of the simulation, then of the data, by observable; any bin for misses and fakes."""
        levels = (self.simulation.truth, self.simulation.reco, self.data.truth, self.data.reco)
        return [tuple(np.searchsorted(e, x[:, i], "right") for x in levels) for i, e in enumerate(self.edges)]


def read_results(samples: Samples, files: Sequence[Path]) -> tuple[dict[str, np.ndarray], list[Spectra]]:
    """Gather the products of `hepgen.unfolding.unfold.unfold`.

    Args:
        samples: The samples that they were made from.
        files: One for every method and seed.

    Returns:
        Event weights of the methods that give them, for S seeds and K iterations of shape (S, K, n), scaled to
        the data's yield; and the spectra of every observable.

    Raises:
        HepgenError: if a method has no result, or one was made from other samples or in other bins.
    """
    by_method: dict[str, dict[int, Path]] = {}
    for path in files:
        with open_h5(path, KIND) as file:
            by_method.setdefault(str(file.attrs["method"]), {})[int(file.attrs["seed"])] = path
    missing = [name for name in samples.block.methods if name not in by_method]
    if missing:
        msg = f"unfolding.methods: no result of {', '.join(missing)} was given; run `hepgen unfolding unfold` first"
        raise HepgenError(msg)
    weights: dict[str, np.ndarray] = {}
    results: dict[str, list[Unfolded]] = {}
    for name, method in samples.block.methods.items():
        paths = [path for _, path in sorted(by_method[name].items())]
        if method.type == "omnifold":
            weights[name] = np.stack([_read_weights(path, samples, method.iterations) for path in paths])
            results[name] = [_from_weights(samples, weights[name], i) for i in range(len(samples.edges))]
        else:
            results[name] = [
                _read_spectra(paths, *pair) for pair in zip(samples.block.observables, samples.edges, strict=True)
            ]
    return weights, [_spectra(samples, i, {m: of[i] for m, of in results.items()}) for i in range(len(samples.edges))]


def _read_weights(path: Path, samples: Samples, iterations: int) -> np.ndarray:
    with open_h5(path, KIND) as file:
        weights, normalisation = file["weights"][:], file.attrs["normalisation"]
    if weights.shape != (iterations, len(samples.simulation.weights)):
        msg = f"{path}: its weights do not belong to this simulation or these settings; unfold again"
        raise HepgenError(msg)
    return weights * normalisation


def _read_spectra(paths: Sequence[Path], name: str, edges: np.ndarray) -> Unfolded:
    inner = slice(1, -1)
    parts = []
    for path in paths:
        with open_h5(path, KIND) as file:
            if name not in file or not np.array_equal(file[name]["edges"], edges):
                msg = f"{path}: {name} was unfolded in other bins or not at all; unfold again"
                raise HepgenError(msg)
            group = file[name]
            variances = np.diagonal(group["covariance"][:], axis1=1, axis2=2)
            parts.append([group["unfolded"][:, inner], variances[:, inner], group["refolded"][:, inner]])
    return Unfolded(*(np.stack(part) for part in zip(*parts, strict=True)))


def _from_weights(samples: Samples, weights: np.ndarray, index: int) -> Unfolded:
    """Spectra of the reweighted simulation.

    The variance is that of the weighted simulation, plus the data's as if the detector were perfect, which is
    the least that they can contribute: the networks are not trained anew on resampled data.
    """
    truth, reco = samples.bins[index][:2]
    bins, simulation = len(samples.edges[index]) + 1, samples.simulation
    values, squares, refolded = (
        np.array([[np.bincount(b, passed * w**power, bins)[1:-1] for w in of_seed] for of_seed in weights])
        for b, passed, power in (
            (truth, simulation.pass_truth, 1),
            (truth, simulation.pass_truth, 2),
            (reco, simulation.pass_reco, 1),
        )
    )
    measured = samples.data.seen_weights
    return Unfolded(values, squares + values * (np.square(measured).sum() / measured.sum()), refolded)


def _spectra(samples: Samples, index: int, methods: dict[str, Unfolded]) -> Spectra:
    def inner(values: np.ndarray, weights: np.ndarray) -> Counts:
        return Counts(*(part[1:-1] for part in count(values[:, index], samples.edges[index], weights)))

    simulation, data = samples.simulation, samples.data
    return Spectra(
        samples.block.observables[index],
        samples.edges[index],
        inner(data.truth, data.true_weights),
        inner(data.reco, data.seen_weights),
        inner(simulation.truth, simulation.true_weights),
        inner(simulation.reco, simulation.seen_weights),
        methods,
    )
