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

__all__ = ["Level", "Pairs", "bin_edges", "read_data", "read_data_pairs", "read_simulation", "warn_uncovered"]

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


class Pairs(NamedTuple):
    """The same n events at particle and at detector level.

    Attributes:
        truth: Particle-level observables, shape (n, d); without meaning for fakes, which do not pass there.
        reco: Detector-level observables, shape (n, d); without meaning for misses, which do not pass there.
        weights: Event weights, shape (n,), as all that follow.
        pass_truth: Which events have their jets at particle level.
        pass_reco: Which events have their jets at detector level.
    """

    truth: np.ndarray
    reco: np.ndarray
    weights: np.ndarray
    pass_truth: np.ndarray
    pass_reco: np.ndarray

    @property
    def true_weights(self) -> np.ndarray:
        """The weights, 0 for fakes."""
        return self.weights * self.pass_truth

    @property
    def seen_weights(self) -> np.ndarray:
        """The weights, 0 for misses."""
        return self.weights * self.pass_reco


def read_simulation(block: Unfolding, paths: Paths) -> Pairs:
    """Read the simulation's pairs.

    Raises:
        HepgenError: if there is no event or no truth level, an observable is missing, or a number is unusable.
    """
    return _pairs(block.observables, paths, f"unfolding.simulation {block.simulation!r}")


def read_data(block: Unfolding, paths: Paths) -> Level:
    """Read the data at detector level, misses left out; a truth level is not looked at.

    Raises:
        HepgenError: as in `read_simulation`.
    """
    return _level(read_tables(paths), block.observables, "columns", f"unfolding.data {block.data!r}")


def read_data_pairs(block: Unfolding, paths: Paths) -> Pairs:
    """Read both levels of simulated data, which only the scoring may know.

    Raises:
        HepgenError: as in `read_simulation`.
    """
    return _pairs(block.observables, paths, f"unfolding.data {block.data!r}")


def _pairs(names: Sequence[str], paths: Paths, where: str) -> Pairs:
    table = read_tables(paths, unseen=True)
    truth, reco = (_level(table, names, level, where) for level in ("truth", "columns"))
    return Pairs(truth.values, reco.values, truth.weights, table.passed("truth"), table.passed())


def _level(table: Table, names: Sequence[str], level: str, where: str) -> Level:
    passed = table.passed(level)
    if not passed.any():
        msg = f"{where}: no events; is the selection too tight?"
        raise HepgenError(msg)
    if level == "truth" and not table.truth:
        msg = f"{where}: has no particle level; unfolding needs a sample whose source provides one"
        raise HepgenError(msg)
    values = table.matrix(names, level)
    for name, column in zip(names, values.T, strict=True):
        bad = ~np.isfinite(column[passed])
        if bad.any():
            msg = f"{where}: {bad.sum()} of {len(bad)} values of {name} ({level}) are not finite; repair the sample"
            raise HepgenError(msg)
    return Level(values, table.weights(where))


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


def warn_uncovered(names: Sequence[str], edges: Sequence[np.ndarray], simulation: Pairs, data: Level) -> list[str]:
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
        simulated = simulation.reco[simulation.seen_weights > 0, index]
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
