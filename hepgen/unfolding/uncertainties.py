"""How uncertain an unfolded spectrum is, and why: data, simulation, training, and the choice of the simulation."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hepgen.errors import HepgenError
from hepgen.metrics.histograms import Counts
from hepgen.unfolding.results import Binned

__all__ = ["Budget", "Components", "Shift", "Width", "budget", "single_training", "two_way"]

STATISTICAL = ("data", "simulation", "events", "seeds")


class Components(NamedTuple):
    """Covariance components of a table of replicas and seeds, each of shape (C, C)."""

    replicas: np.ndarray
    seeds: np.ndarray
    residual: np.ndarray


class Shift(NamedTuple):
    """What learning from another simulation changes, and how well that is known, each of shape (C,)."""

    value: np.ndarray
    error: np.ndarray


class Width(NamedTuple):
    """How wide the result of a single training is, and how well that is known.

    Attributes:
        variance: Its statistical variance, shape (C,).
        parts: What each of R replicas of the data and of the simulation adds to the variance of the mean over the
            seeds, shape (2, R, C): its squared deviation over R − 1.
    """

    variance: np.ndarray
    parts: np.ndarray


@dataclass(frozen=True)
class Budget:
    """An unfolded spectrum of C inner cells with its covariance by source.

    Attributes:
        central: Mean over the seeds of the measurement, shape (C,).
        components: Covariance matrices of shape (C, C): ``data`` and ``simulation`` for the finite samples, or, where
            there are no replicas, ``events`` for both, without correlations; ``seeds`` for the mean of the trainings;
            and the outer product of the shift for every other simulation, by its name.
        shifts: The shift of every other simulation.
    """

    central: np.ndarray
    components: dict[str, np.ndarray]
    shifts: dict[str, Shift]

    @property
    def statistical(self) -> np.ndarray:
        """Sum of all components but those of the other simulations, shape (C, C)."""
        return sum(matrix for source, matrix in self.components.items() if source in STATISTICAL)

    @property
    def total(self) -> np.ndarray:
        """Sum of all components, shape (C, C)."""
        return sum(self.components.values())

    @property
    def correlation(self) -> np.ndarray:
        """The total in units of its standard deviations, shape (C, C); 0 beside cells without variance."""
        error = np.sqrt(np.diag(self.total))
        scale = np.outer(error, error)
        matrix = np.divide(self.total, scale, out=np.zeros_like(scale), where=scale > 0)
        np.fill_diagonal(matrix, 1.0)
        return matrix


def two_way(values: np.ndarray) -> Components:
    """Analysis of variance of replicas crossed with seeds: x_rs = μ + a_r + b_s + e_rs, all effects random.

    The components are unbiased and may hence be negative. The residual holds the interaction: how much the effect of
    a seed depends on the replica, for networks nearly all of it. A single seed leaves only the replicas' component.

    References:
        Searle, Casella, McCulloch, "Variance Components", Wiley 1992, chapter 4; products of two cells take the place
        of squares for covariances.

    Args:
        values: Contents, shape (R, S, C), of two or more replicas.
    """
    replicas, seeds, _ = values.shape
    mean = values.mean((0, 1))
    rows, columns = values.mean(1) - mean, values.mean(0) - mean
    rest = (values - mean - rows[:, None] - columns).reshape(replicas * seeds, -1)
    among_replicas = seeds * rows.T @ rows / (replicas - 1)
    if seeds == 1:
        nothing = np.zeros_like(among_replicas)
        return Components(among_replicas, nothing, nothing)
    residual = rest.T @ rest / ((replicas - 1) * (seeds - 1))
    among_seeds = replicas * columns.T @ columns / (seeds - 1)
    return Components((among_replicas - residual) / seeds, (among_seeds - residual) / replicas, residual)


def budget(binned: Binned, iteration: int) -> Budget:
    """The result of one iteration with its uncertainties.

    Included: fluctuations of the data and of the simulation, by the replicas' component of `two_way`; the scatter of
    trainings, by the variance between seeds within the measurement and within each replica, of which the mean of S
    seeds keeps 1/S; and the differences between simulations. Not included: the bias of a method that is stopped
    early, which `hepgen.unfolding.iterations` measures; the uncertainty of the background's normalisation and of the
    luminosity. A shift counts in full: where its square is about that of its error, it is mostly the statistics of two
    simulations, which inflates the total.

    Components that fluctuate below zero are zero; see `_covariance`.

    Args:
        binned: One spectrum of one method.
        iteration: Which, from 0.

    Raises:
        HepgenError: if there is only one replica.
    """
    drawn = _drawn(binned, iteration)
    components = {source: _covariance(matrix) for source, matrix in _statistical(binned, iteration, drawn).items()}
    shifts = {}
    for sample in _others(binned):
        shifts[sample] = _shift(binned, sample, iteration, drawn["data"], components)
        components[sample] = np.outer(shifts[sample].value, shifts[sample].value)
    return Budget(binned.nominal[:, iteration].mean(0), components, shifts)


def single_training(binned: Binned, iteration: int) -> Width:
    """The statistical width of the result of one seed in place of the mean of all.

    Raises:
        HepgenError: as in `budget`.
    """
    drawn = _drawn(binned, iteration)
    components = _statistical(binned, iteration, drawn)
    scales = {"seeds": len(binned.nominal)}
    variance = sum(scales.get(source, 1) * np.maximum(np.diag(matrix), 0) for source, matrix in components.items())
    means = np.stack([values.mean(1) for values in drawn.values()])
    number = means.shape[1]
    parts = np.square(means - means.sum(1, keepdims=True) / max(number, 1)) / max(number - 1, 1)
    return Width(variance, parts)


def _drawn(binned: Binned, iteration: int) -> dict[str, np.ndarray]:
    """Replicas of both samples, each of shape (R, S, C)."""
    drawn = {kind: binned.stack(kind)[:, :, iteration] for kind in ("data", "simulation")}
    if len(drawn["data"]) == 1:
        msg = f"unfolding.replicas: the spread of {binned.spectrum.name} cannot be told from 1 replica; take 10 or more"
        raise HepgenError(msg)
    return drawn


def _statistical(binned: Binned, iteration: int, drawn: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Estimates of the covariance by source, each of shape (C, C)."""
    nominal = binned.nominal[:, iteration]
    if len(drawn["data"]):
        components = {kind: two_way(values).replicas for kind, values in drawn.items()}
    else:
        components = {"events": np.diag(binned.variances[:, iteration].mean(0))}
    if len(nominal) > 1:
        components["seeds"] = _between_seeds(np.concatenate([nominal[None], *drawn.values()])) / len(nominal)
    return components


def _covariance(component: np.ndarray) -> np.ndarray:
    """The covariance matrix nearest to an estimate that need not be one, with its variances.

    Negative variances become zero, so do negative eigenvalues; what that adds to the variances is scaled away.
    """
    values, vectors = np.linalg.eigh(component)
    positive = (vectors * np.maximum(values, 0)) @ vectors.T
    wanted, found = np.maximum(np.diag(component), 0), np.diag(positive)
    scale = np.sqrt(np.divide(wanted, found, out=np.zeros_like(found), where=found > 0))
    return positive * np.outer(scale, scale)


def _between_seeds(values: np.ndarray) -> np.ndarray:
    """Covariance of single trainings on the same events, shape (C, C), pooled over rows of shape (M, S, C)."""
    rows, seeds, cells = values.shape
    deviations = (values - values.mean(1, keepdims=True)).reshape(-1, cells)
    return deviations.T @ deviations / (rows * (seeds - 1))


def _others(binned: Binned) -> list[str]:
    """The other simulations that the data were unfolded with."""
    named = [name.removeprefix("systematic-") for name in binned.values if name.startswith("systematic-")]
    replicas = {f"{name}-{number}" for name in named for number in range(1, len(named))}
    return [name for name in named if name not in replicas]


def _shift(binned: Binned, sample: str, iteration: int, data: np.ndarray, components: dict[str, np.ndarray]) -> Shift:
    """The seed mean's change, and its error from the same replicas of the data and from both simulations' statistics.

    There are no replicas of the other simulation: its component is the nominal one's for its number of events. Without
    replicas, or where that number is not known, the error is NaN.
    """
    changed, nominal = binned.values[f"systematic-{sample}"], binned.nominal
    value = (changed - nominal)[:, iteration].mean(0)
    if not len(data) or sample not in binned.others:
        return Shift(value, np.full(value.shape, np.nan))
    paired = (binned.stack("systematic", sample)[:, :, iteration] - data).mean(1)
    fewer = binned.prior.events / Counts(*binned.others[sample]).events
    return Shift(value, np.sqrt(paired.var(0, ddof=1) + (1 + fewer) * np.diag(components["simulation"])))
