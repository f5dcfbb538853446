"""Which iteration of a method is reported: chosen by pseudo-data, never by the measured sample's truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import stdtr
from scipy.stats import norm

from hepgen.errors import HepgenError
from hepgen.unfolding.results import Binned
from hepgen.unfolding.uncertainties import single_training

__all__ = ["FEWEST_EVENTS", "Averages", "Estimate", "Study", "average", "choose", "study"]

# Contents of fewer expected events are too far from Gaussian for an interval of one standard deviation.
FEWEST_EVENTS = 10
# Standard errors that the coverage may fall short by: at one, every sixth good iteration would be refused.
SHORTFALL = 2


class Estimate(NamedTuple):
    """A figure of every iteration and its standard error over the toys, both of shape (K,)."""

    value: np.ndarray
    error: np.ndarray


class Averages(NamedTuple):
    """Means over the populated cells; but for the coverage in units of the expected contents.

    A perfect detector would have a variance of one, for events of unit weight and an endless simulation.

    Attributes:
        squared_bias: Of the toys, as are the next three.
        variance: About their mean.
        mse: Mean squared error.
        coverage: Share of toys within one quoted standard deviation.
        quoted: Variance that the measurement would quote for a single training.
        expected: Coverage of Gaussian errors of that width, as well as it is known, shape (K,).
    """

    squared_bias: Estimate
    variance: Estimate
    mse: Estimate
    coverage: Estimate
    quoted: Estimate
    expected: np.ndarray


@dataclass(frozen=True)
class Study:
    """What T pseudo-experiments say about every iteration of a method, in C inner cells.

    Attributes:
        errors: Unfolded contents of single trainings minus their expectation, shape (T, K, C).
        widths: Standard deviation that the measurement would quote for a single training, shape (K, C).
        target: Expected contents, shape (C,).
        populated: Cells that are expected to hold 10 events or more, shape (C,).
        parts: What every replica adds to the squared width, shape (2, R, K, C); see
            `hepgen.unfolding.uncertainties.Width`.
    """

    errors: np.ndarray
    widths: np.ndarray
    target: np.ndarray
    populated: np.ndarray
    parts: np.ndarray

    @property
    def bias(self) -> np.ndarray:
        """Mean error, shape (K, C)."""
        return self.errors.mean(0)

    @property
    def bias_error(self) -> np.ndarray:
        """Its standard error, shape (K, C)."""
        return np.sqrt(self.variance / len(self.errors))

    @property
    def variance(self) -> np.ndarray:
        """Variance over the toys, shape (K, C)."""
        return self.errors.var(0, ddof=1)

    @property
    def mse(self) -> np.ndarray:
        """Mean squared error, shape (K, C)."""
        return np.square(self.errors).mean(0)

    @property
    def covered(self) -> np.ndarray:
        """Which toys have the truth within one standard deviation, shape (T, K, C)."""
        return np.abs(self.errors) <= self.widths

    @property
    def coverage(self) -> np.ndarray:
        """Share of such toys, shape (K, C)."""
        return self.covered.mean(0)

    @property
    def coverage_error(self) -> np.ndarray:
        """Its binomial standard error, shape (K, C)."""
        return np.sqrt(self.coverage * (1 - self.coverage) / len(self.errors))

    @property
    def shares(self) -> np.ndarray:
        """The replicas' parts of the squared width, relative to it, shape (2, R, K, C)."""
        variance = self.widths**2
        return np.divide(self.parts, variance, out=np.zeros_like(self.parts), where=variance > 0)

    @property
    def expected(self) -> np.ndarray:
        """Coverage of unbiased Gaussian errors by widths that are known from so many replicas, shape (K, C).

        Student's t, with the effective degrees of freedom of Satterthwaite (1946, Biometrics Bulletin 2, 110): R − 1
        where either the data's replicas or the simulation's dominate, twice as many where they are alike. The scatter
        of the trainings is known from all replicas together; its noise is left out.
        """
        inverse = np.square(self.shares.sum(1)).sum(0) / max(self.parts.shape[1] - 1, 1)
        return 2 * stdtr(1 / np.maximum(inverse, 1e-9), 1.0) - 1


def study(binned: Binned) -> Study:
    """Hold the toys of one spectrum against their truth.

    The toys are of a single training each. Whether they cover is judged with the uncertainty that the measurement
    quotes at that iteration, see `hepgen.unfolding.uncertainties`, without the other simulations and for one training
    in place of the mean of all; the spread of the toys themselves would cover whatever the analysis quotes.

    Raises:
        HepgenError: if there are less than two toys.
    """
    toys = binned.stack("toy")
    if len(toys) < 2:
        msg = f"unfolding.toys: {len(toys)} toys of {binned.spectrum.name} tell nothing of an iteration; ask for 20"
        raise HepgenError(msg)
    target = binned.targets["toy-1"]
    variances, parts = zip(*(single_training(binned, iteration) for iteration in range(toys.shape[2])), strict=True)
    weight = binned.measured.variances.sum() / binned.measured.values.sum()
    populated = target >= FEWEST_EVENTS * weight
    return Study(toys[:, 0] - target, np.sqrt(variances), target, populated, np.stack(parts, 2))


def average(studies: Sequence[Study]) -> Averages:
    """Means over the populated cells of all spectra, with errors that respect that the cells of a toy are correlated.

    The squared bias is corrected for what so few toys would show without any, so that it and the variance add up
    to the mean squared error. All toys share the widths. Their noise is in the error of the coverage as that of an
    unbiased Gaussian, whose coverage changes by φ(1) times the relative change of the squared width; how far it is
    common to all cells is seen in the replicas.

    Raises:
        HepgenError: if no cell is expected to hold 10 events.
    """
    number = len(studies[0].errors)
    units = np.concatenate([s.target[s.populated] for s in studies])

    def populated(part: str) -> np.ndarray:
        return np.concatenate([getattr(s, part)[..., s.populated] for s in studies], -1)

    errors, covered, widths = populated("errors") / np.sqrt(units), populated("covered"), populated("widths")
    if not errors.size:
        msg = f"unfolding: no bin is expected to hold {FEWEST_EVENTS} events; take fewer, wider bins"
        raise HepgenError(msg)
    squared, spread = errors**2, (errors - errors.mean(0)) ** 2 * number / (number - 1)
    bias, variance, mse, (value, error) = (_over_toys(x.mean(2)) for x in (squared - spread, spread, squared, covered))
    coverage = Estimate(value, np.hypot(error, norm.pdf(1) * _over_replicas(populated("shares"))))
    quoted = Estimate((widths**2 / units).mean(1), _over_replicas(populated("parts") / units))
    return Averages(bias, variance, mse, coverage, quoted, populated("expected").mean(1))


def _over_toys(values: np.ndarray) -> Estimate:
    """Mean and standard error of one number per toy and iteration, shape (T, K)."""
    return Estimate(values.mean(0), values.std(0, ddof=1) / np.sqrt(len(values)))


def _over_replicas(parts: np.ndarray) -> np.ndarray:
    """Standard error of the mean over cells of sums over independent replicas, shape (2, R, K, C), shape (K,)."""
    number = parts.shape[1]
    return np.sqrt(number * parts.mean(3).var(1, ddof=1).sum(0)) if number else np.zeros(parts.shape[2])


def choose(spectra: Sequence[Binned]) -> int:
    """The iteration to report, from 0: the last where there are no toys.

    Of the iterations whose intervals of one standard deviation cover the truth of the toys as often as they should, or
    more often, within two standard errors, it is the one of the smallest mean squared error; if there is none, that of
    the best coverage. Widths from few replicas cannot reach 68 %: see `Study.expected` for how often they should. Both
    figures are means over the populated cells of all spectra. What is measured does not enter but through the quoted
    uncertainties, its truth in no way.

    Args:
        spectra: All spectra of one method.

    Raises:
        HepgenError: as in `study` and `average`.
    """
    if "toy-1" not in spectra[0].values:
        return spectra[0].nominal.shape[1] - 1
    found = average([study(binned) for binned in spectra])
    covers = found.coverage.value + SHORTFALL * found.coverage.error >= found.expected
    if covers.any():
        return int(np.argmin(np.where(covers, found.mse.value, np.inf)))
    return int(np.argmax(found.coverage.value))
