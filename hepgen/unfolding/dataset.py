"""What unfolding reads from the tables: pairs of the simulation, the measured data, and what else these hold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import awkward as ak
import numpy as np

from hepgen.config import Constituents, Unfolding
from hepgen.errors import HepgenError
from hepgen.metrics.histograms import Counts
from hepgen.observables import describe
from hepgen.progress import Log
from hepgen.table import Table, read_tables
from hepgen.unfolding.spectra import Spectrum

__all__ = ["Level", "Pairs", "Problem", "Tables", "read_pairs", "read_problem", "warn_empty", "warn_uncovered"]

Tables = dict[str, list[Path]]

# The spread of a single event is not known, nor can it be on either side of a validation split.
FEWEST_EVENTS = 2
# Fewer lie beyond the last of an equally large simulation by chance (ten with a probability of 2^-10).
UNCOVERED_EVENTS = 10


class Level(NamedTuple):
    """Events at detector level.

    Attributes:
        values: Observables in the order of the configuration, shape (n, d).
        weights: Event weights, shape (n,).
        particles: The leading jet's constituents, see `hepgen.constituents`, float32 of shape (n, number, 3), where a
            method looks at them.
    """

    values: np.ndarray
    weights: np.ndarray
    particles: np.ndarray | None = None

    @staticmethod
    def join(levels: Sequence["Level"]) -> "Level":
        """One after the other."""
        columns = zip(*levels, strict=True)
        return Level(*(None if parts[0] is None else np.concatenate(parts) for parts in columns))

    def rows(self, which: slice | np.ndarray) -> "Level":
        """The events of a slice, mask or index array."""
        return Level(*(None if column is None else column[which] for column in self))


class Pairs(NamedTuple):
    """The same n events at particle and at detector level.

    Attributes:
        truth: Particle-level observables, shape (n, d); without meaning for fakes, which do not pass there.
        reco: Detector-level observables, shape (n, d); without meaning for misses, which do not pass there.
        weights: Event weights, shape (n,), as all that follow.
        pass_truth: Which events have their jets at particle level.
        pass_reco: Which events have their jets at detector level.
        true_particles: As in `Level`, at particle level.
        particles: As in `Level`.
    """

    truth: np.ndarray
    reco: np.ndarray
    weights: np.ndarray
    pass_truth: np.ndarray
    pass_reco: np.ndarray
    true_particles: np.ndarray | None = None
    particles: np.ndarray | None = None

    @property
    def true_weights(self) -> np.ndarray:
        """The weights, 0 for fakes."""
        return self.weights * self.pass_truth

    @property
    def seen_weights(self) -> np.ndarray:
        """The weights, 0 for misses."""
        return self.weights * self.pass_reco

    @property
    def seen(self) -> Level:
        """The detector level of the events that pass there."""
        return Level(self.reco, self.weights, self.particles).rows(self.pass_reco)

    def rows(self, which: np.ndarray) -> "Pairs":
        """The events of a mask or index array."""
        return Pairs(*(None if column is None else column[which] for column in self))


@dataclass(frozen=True)
class Problem:
    """What a method may know.

    Attributes:
        simulation: Pairs to learn the detector from.
        data: What was measured.
        background: Simulated events of what else the data hold; their weights add up to how many are expected there.

    Raises:
        HepgenError: if the background is all there is, or nothing is simulated at both levels.
    """

    simulation: Pairs
    data: Level
    background: Level

    def __post_init__(self) -> None:
        if not self.signal > 0:
            total, expected = self.data.weights.sum(), self.background.weights.sum()
            msg = f"unfolding: {expected:.6g} events of background are expected in data of {total:.6g}"
            raise HepgenError(f"{msg}; check the weights of the samples in unfolding.background")
        if not (self.simulation.seen_weights * self.simulation.pass_truth).any():
            msg = "unfolding: no simulated event of positive weight passes at both levels, so that nothing is learnt"
            raise HepgenError(f"{msg} of the detector; check the selection and the weights")

    @property
    def signal(self) -> float:
        """The data's yield without the background."""
        return float(self.data.weights.sum() - self.background.weights.sum())

    def measured(self, spectrum: Spectrum) -> Counts:
        """The data without the background in all detector-level cells, negative where that is larger."""
        size, cells = spectrum.size("reco"), []
        for level in (self.data, self.background):
            where = spectrum.cells(level.values, "reco")
            cells.append(Counts(*(np.bincount(where, w, size) for w in (level.weights, level.weights**2))))
        data, background = cells
        return Counts(data.values - background.values, data.variances + background.variances)


def read_problem(block: Unfolding, tables: Tables, *, particles: bool = False) -> Problem:
    """Read what a method may know; a truth level of the data or the background is not looked at.

    Args:
        block: The unfolding block.
        tables: Observables of all chunks of each sample, in order.
        particles: Whether to read the leading jets' constituents too.

    Raises:
        HepgenError: if a sample has less than two events or no truth level where it needs one, an observable is
            missing, a number is unusable, or as of `Problem`.
    """
    data = _level(block, tables, block.data, "data", particles)
    others = [_level(block, tables, name, "background", particles) for name in block.background]
    pairs = read_pairs(block, tables, block.simulation, particles=particles)
    return Problem(pairs, data, Level.join(others or [data.rows(slice(0))]))


def read_pairs(block: Unfolding, tables: Tables, sample: str, *, particles: bool = False) -> Pairs:
    """Read both levels of a simulated sample; of simulated data only the scoring may.

    Args:
        block: As in `read_problem`, as are all that follow.
        tables: Observables of all chunks of each sample, in order.
        sample: Which one.
        particles: Whether to read the constituents of both levels too.

    Raises:
        HepgenError: as in `read_problem`.
    """
    where = f"unfolding: sample {sample!r}"
    table = read_tables(tables[sample], unseen=True, constituents=particles, true_constituents=particles)
    if not table.truth:
        msg = f"{where}: has no particle level; unfolding needs a sample whose source provides one"
        raise HepgenError(msg)
    truth, reco = (_values(table, block.observables, level, where) for level in ("truth", "columns"))
    passed = table.passed("truth"), table.passed()
    jets = [
        _particles(jets, mask, block.constituents) if particles else None
        for jets, mask in zip((table.true_constituents, table.constituents), passed, strict=True)
    ]
    return Pairs(truth, reco, table.weights(where), *passed, *jets)


def _level(block: Unfolding, tables: Tables, sample: str, part: str, particles: bool) -> Level:
    where = f"unfolding.{part} {sample!r}"
    table = read_tables(tables[sample], constituents=particles)
    if part == "data" and table.truth:
        Log()(f"{where}: it has a particle level, which no unfolding looks at")
    values = _values(table, block.observables, "columns", where)
    jets = _particles(table.constituents, table.passed(), block.constituents) if particles else None
    return Level(values, table.weights(where), jets)


def _values(table: Table, names: Sequence[str], level: str, where: str) -> np.ndarray:
    passed = table.passed(level)
    if passed.sum() < FEWEST_EVENTS:
        msg = f"{where}: {passed.sum()} events ({level}); unfolding needs more. Is the selection too tight?"
        raise HepgenError(msg)
    values = table.matrix(names, level)
    for name, column in zip(names, values.T, strict=True):
        bad = ~np.isfinite(column[passed])
        if bad.any():
            msg = f"{where}: {bad.sum()} of {len(bad)} values of {name} ({level}) are not finite; repair the sample"
            raise HepgenError(msg)
    return values


def _particles(jets: Sequence[ak.Array], passed: np.ndarray, settings: Constituents) -> np.ndarray:
    """Constituents of the leading jets of those events that have one, zeros for the others."""
    from hepgen.constituents import JetConstituents  # torch, which binned methods do without

    particles = np.zeros((len(passed), settings.number, 3), np.float32)
    particles[passed] = JetConstituents(jets[0][passed], settings)[:].numpy()
    return particles


def warn_uncovered(spectra: Sequence[Spectrum], problem: Problem) -> list[str]:
    """Report where the data have events and the simulation has none: no weight can unfold those.

    Args:
        spectra: In the detector-level bins of those of one observable gaps are looked for.
        problem: The samples; events of zero weight do not count, and the background covers what it covers.

    Returns:
        The warnings, which are also logged.
    """
    lines = []
    known = [level.values[level.weights > 0] for level in (problem.simulation.seen, problem.background)]
    for spectrum in (spectrum for spectrum in spectra if len(spectrum.columns) == 1):
        name, index, cuts = spectrum.name, spectrum.columns[0], spectrum.reco[0]
        simulated = np.concatenate(known)[:, index]
        values = problem.data.values[problem.data.weights > 0, index]
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


def warn_empty(spectra: Sequence[Spectrum], simulation: Pairs) -> list[str]:
    """Report the bins that hold no simulated truth: whatever the data say, they stay empty.

    Returns:
        The warnings, one for a spectrum, which are also logged.
    """
    lines = []
    for spectrum in spectra:
        counts = spectrum.count(simulation.truth, simulation.true_weights, "truth").values
        empty = np.flatnonzero(counts == 0)
        places = zip(*np.unravel_index(empty[:3], spectrum.shape("truth")), strict=True)
        regions = [
            " and ".join(
                f"{name} {edges[bin_]:.4g} to {edges[bin_ + 1]:.4g}"
                for name, edges, bin_ in zip(spectrum.observables, spectrum.truth, place, strict=True)
            )
            for place in places
        ]
        if regions:
            where = "; ".join([*regions, *(["..."] if len(empty) > 3 else [])])
            line = (
                f"warning: {spectrum.name}: {len(empty)} of {len(counts)} bins hold no simulated truth and stay empty"
            )
            lines.append(f"{line} ({where})")
    for line in lines:
        Log()(line)
    return lines
