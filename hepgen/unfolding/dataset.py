"""What unfolding reads from the tables: pairs of the simulation, the measured data, and their binning."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hepgen.config import Unfolding
from hepgen.errors import HepgenError
from hepgen.observables import describe
from hepgen.progress import Log
from hepgen.table import Table, read_tables

__all__ = ["Level", "Simulation", "bin_edges", "read_data", "read_data_truth", "read_simulation", "warn_uncovered"]

Paths = Sequence[str | Path]

# Bins, low and high edge of the figures of merit on Z + jet events (arXiv:2503.09720).
ZJET_BINS = {
    "mass": (50, 0.0, 75.0),
    "multiplicity": (80, 0.0, 80.0),
    "width": (50, 0.0, 0.6),
    "tau21": (50, 0.0, 1.2),
    "zg": (50, 0.0, 0.5),
    "ln_rho": (50, -14.0, -2.0),
}
# Fewer lie beyond the last of an equally large simulation by chance (ten with a probability of 2^-10).
UNCOVERED_EVENTS = 10


class Level(NamedTuple):
    """Events at one level: observables of shape (n, d) in the order of the configuration, weights of shape (n,)."""

    values: np.ndarray
    weights: np.ndarray


class Simulation(NamedTuple):
    """Simulated pairs: the same events at particle and at detector level, both of shape (n, d)."""

    truth: np.ndarray
    reco: np.ndarray
    weights: np.ndarray


def read_simulation(block: Unfolding, paths: Paths) -> Simulation:
    """Read the simulation's pairs.

    Raises:
        HepgenError: if there is no event or no truth level, an observable is missing, or a number is unusable.
    """
    table = read_tables(paths)
    truth = _level(table, block.observables, "truth", f"unfolding.simulation {block.simulation!r}")
    reco = _level(table, block.observables, "columns", f"unfolding.simulation {block.simulation!r}")
    return Simulation(truth.values, reco.values, truth.weights)


def read_data(block: Unfolding, paths: Paths) -> Level:
    """Read the data at detector level; a truth level is not looked at.

    Raises:
        HepgenError: as in `read_simulation`.
    """
    return _level(read_tables(paths), block.observables, "columns", f"unfolding.data {block.data!r}")


def read_data_truth(block: Unfolding, paths: Paths) -> Level:
    """Read the truth level of simulated data, which only the scoring may know.

    Raises:
        HepgenError: as in `read_simulation`.
    """
    return _level(read_tables(paths), block.observables, "truth", f"unfolding.data {block.data!r}")


def _level(table: Table, names: Sequence[str], level: str, where: str) -> Level:
    if len(table) == 0:
        msg = f"{where}: no events; is the selection too tight?"
        raise HepgenError(msg)
    if level == "truth" and not table.truth:
        msg = f"{where}: has no particle level; unfolding needs a sample whose source provides one"
        raise HepgenError(msg)
    values = table.matrix(names, level)
    for name, column in zip(names, values.T, strict=True):
        bad = ~np.isfinite(column)
        if bad.any():
            msg = f"{where}: {bad.sum()} of {len(bad)} values of {name} ({level}) are not finite; repair the sample"
            raise HepgenError(msg)
    weights = table.columns.get("weight", np.ones(len(table))).astype(np.float64)
    if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.sum() > 0):
        msg = f"{where}: event weights must be finite, not negative and not all zero; found {_worst(weights)}"
        raise HepgenError(msg)
    return Level(values, weights)


def _worst(weights: np.ndarray) -> float:
    return float(weights[~np.isfinite(weights)][0]) if not np.isfinite(weights).all() else float(weights.min())


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


def warn_uncovered(names: Sequence[str], edges: Sequence[np.ndarray], simulation: Simulation, data: Level) -> list[str]:
    """Report where the data have events and the simulation has none: no weight can unfold those.

    Args:
        names: Observables, d of them.
        edges: Edges of each one's bins, in which gaps are looked for.
        simulation: The pairs; events of zero weight do not count.
        data: The data.

    Returns:
        The warnings, which are also logged.
    """
    lines = []
    for index, (name, cuts) in enumerate(zip(names, edges, strict=True)):
        simulated = simulation.reco[simulation.weights > 0, index]
        values = data.values[data.weights > 0, index]
        below, above = values < simulated.min(), values > simulated.max()
        empty = np.bincount(np.searchsorted(cuts, simulated, "right"), minlength=len(cuts) + 1) == 0
        gaps = empty[np.searchsorted(cuts, values, "right")] & ~below & ~above
        for lost in (values[below], values[gaps], values[above]):
            if len(lost) >= UNCOVERED_EVENTS:
                region = f"{lost.min():.4g} and {lost.max():.4g} {describe(name).unit}".rstrip()
                lines.append(
                    f"warning: {name}: {len(lost)} data events between {region} lie where the simulation has none; "
                    "they cannot be unfolded"
                )
    for line in lines:
        Log()(line)
    return lines
