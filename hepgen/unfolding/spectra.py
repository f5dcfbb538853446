"""The binned spectra that unfolding reports: one observable, or two together."""

from dataclasses import dataclass
from math import prod
from typing import Literal

import h5py
import numpy as np

from hepgen.config import Unfolding
from hepgen.metrics.histograms import Counts
from hepgen.observables import describe

__all__ = ["At", "Spectrum", "bin_edges", "make_spectra", "read_bins", "write_bins"]

At = Literal["truth", "reco"]

# Bins, low and high edge of the figures of merit on Z + jet events (arXiv:2503.09720).
ZJET_BINS = {
    "mass": (50, 0.0, 75.0),
    "multiplicity": (80, 0.0, 80.0),
    "width": (50, 0.0, 0.6),
    "tau21": (50, 0.0, 1.2),
    "zg": (50, 0.0, 0.5),
    "ln_rho": (50, -14.0, -2.0),
}


@dataclass(frozen=True)
class Spectrum:
    """A binning of one or two of the d unfolded observables.

    Cells are bins of one observable, or pairs of bins of two in the order of a C array. Under- and overflow have
    bins of their own, so that no event is lost; those that are neither are inner cells.

    Attributes:
        name: The observable, or the plane's name.
        observables: Names of its observables.
        columns: Their places among the d observables.
        truth: Bin edges at particle level of each.
        reco: Bin edges at detector level of each.
    """

    name: str
    observables: tuple[str, ...]
    columns: tuple[int, ...]
    truth: tuple[np.ndarray, ...]
    reco: tuple[np.ndarray, ...]

    @property
    def same_bins(self) -> bool:
        """Whether the bins are the same at both levels, so that these can be compared."""
        return all(map(np.array_equal, self.truth, self.reco))

    def edges(self, at: At) -> tuple[np.ndarray, ...]:
        """The bin edges of every observable at a level."""
        return self.truth if at == "truth" else self.reco

    def shape(self, at: At) -> tuple[int, ...]:
        """Bins of every observable, without under- and overflow."""
        return tuple(len(edges) - 1 for edges in self.edges(at))

    def size(self, at: At) -> int:
        """How many cells there are, under- and overflow included."""
        return prod(bins + 2 for bins in self.shape(at))

    def inner(self, at: At) -> np.ndarray:
        """The numbers of the inner cells, rising."""
        shape = self.shape(at)
        cells = np.arange(self.size(at)).reshape([bins + 2 for bins in shape])
        return cells[tuple(slice(1, -1) for _ in shape)].ravel()

    def cells(self, values: np.ndarray, at: At) -> np.ndarray:
        """The cell of every event, shape (n,), from observables of shape (n, d); any one where these are NaN."""
        number = np.zeros(len(values), np.int64)
        for column, edges in zip(self.columns, self.edges(at), strict=True):
            number = number * (len(edges) + 1) + np.searchsorted(edges, values[:, column], side="right")
        return number

    def count(self, values: np.ndarray, weights: np.ndarray, at: At) -> Counts:
        """Contents of the inner cells and their variances."""
        cells, size, inner = self.cells(values, at), self.size(at), self.inner(at)
        return Counts(np.bincount(cells, weights, size)[inner], np.bincount(cells, weights**2, size)[inner])


def make_spectra(block: Unfolding, truth: np.ndarray) -> list[Spectrum]:
    """The spectra of a configuration: every observable, then every plane.

    Args:
        block: The unfolding block.
        truth: Particle-level observables of the simulation, shape (n, d), which bins that are not given depend on.
    """
    spectra = []
    for column, name in enumerate(block.observables):
        given = block.binning.get(name)
        edges = np.array(given.edges) if given else bin_edges(name, block.bins, truth[:, column])
        reco = np.array(given.reco) if given and given.reco else edges
        spectra.append(Spectrum(name, (name,), (column,), (edges,), (reco,)))
    for name, plane in block.planes.items():
        columns = tuple(block.observables.index(observable) for observable in plane)
        edges = tuple(np.array(bins.edges) for bins in plane.values())
        reco = tuple(np.array(bins.reco or bins.edges) for bins in plane.values())
        spectra.append(Spectrum(name, tuple(plane), columns, edges, reco))
    return spectra


def write_bins(group: h5py.Group, spectrum: Spectrum) -> None:
    """Store the bins in an HDF5 group: the attribute ``observables`` and ``edges/LEVEL/OBSERVABLE``."""
    group.attrs["observables"] = list(spectrum.observables)
    for at in ("truth", "reco"):
        for name, edges in zip(spectrum.observables, spectrum.edges(at), strict=True):
            group.create_dataset(f"edges/{at}/{name}", data=edges, track_times=False)


def read_bins(group: h5py.Group) -> tuple[tuple[str, ...], dict[At, tuple[np.ndarray, ...]]]:
    """What `write_bins` stored: the observables, and the bin edges of each by level."""
    names = tuple(map(str, group.attrs["observables"]))
    return names, {at: tuple(group["edges"][at][name][:] for name in names) for at in ("truth", "reco")}


def bin_edges(name: str, bins: int, values: np.ndarray) -> np.ndarray:
    """Edges of an observable's bins, shape (number + 1,).

    The published binning of Z + jet events where the observable has one and it holds 90 % of the simulation,
    else `bins` bins over the observable's plot range.

    Args:
        name: Observable, e.g. ``mass_j1``.
        bins: Bins of an observable without a published binning.
        values: Truth-level values of the simulation, shape (n,).
    """
    number, low, high = ZJET_BINS.get(name.rsplit("_j", 1)[0], (0, 0.0, 0.0))
    if number and np.mean((values >= low) & (values <= high)) >= 0.9:
        return np.linspace(low, high, number + 1)
    return np.linspace(*describe(name).range_for(values), bins + 1)
