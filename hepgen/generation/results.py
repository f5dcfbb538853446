"""What a verdict on generated events consists of."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from hepgen.config import Config, Generation
from hepgen.generation.derived import derived_names
from hepgen.generation.jets import describe_jet, jet_names
from hepgen.metrics.histograms import Counts
from hepgen.observables import Observable, describe

if TYPE_CHECKING:
    from hepgen.generation.verdict import Truth

__all__ = ["Inputs", "Odds", "Pixels", "Results", "Scores", "Value", "View", "views_of"]

Inputs = Literal["features", "images", "constituents"]


class Value(NamedTuple):
    """A figure of merit.

    Attributes:
        value: The value, of several seeds the mean.
        down, up: How far its 68 % interval reaches to either side.
        p_value: How likely a value as bad is for events of the truth, where that was tested.
        n: Events of each side that it was measured on.
    """

    value: float
    down: float
    up: float
    p_value: float | None
    n: int

    @property
    def interval(self) -> tuple[float, float, float]:
        """The value and the bounds of its interval."""
        return self.value, self.value - self.down, self.value + self.up


class Odds(NamedTuple):
    """Log-odds for truth that a classifier gives to events it has not learnt from, and the events' weights, (n,)."""

    log: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Pixels:
    """What jets look like, particle by particle.

    Attributes:
        image: Mean image, shape (pixels, pixels), the first axis is η.
        spectrum: Pixels or particles by the logarithm (base 10) of their fraction of the jet's pT.
    """

    image: np.ndarray
    spectrum: Counts


@dataclass(frozen=True)
class Scores:
    """How a set of events compares with the reference half of the truth; arrays run over the observables.

    Attributes:
        values: Figures of merit by name, those of an observable as ``w1/mjj``.
        counts: Histograms of the observables.
        matrix: Correlation coefficients.
        generated, true: Odds of the trees, of the events and of the reference.
        where: Mean log10 odds of the events in quantile bins of each observable's truth, (observables, bins);
            0 where there are none.
        missing: How many times more often than on average the reference's events in these bins are among its
            events with the largest odds.
        pixels: Of jets only.
    """

    values: dict[str, Value]
    counts: list[Counts]
    matrix: np.ndarray
    generated: Odds
    true: Odds
    where: np.ndarray
    missing: np.ndarray
    pixels: Pixels | None = None


@dataclass(frozen=True)
class View:
    """One kind of events that generators make, and its observables.

    Attributes:
        inputs: What the generators make.
        models: Those that make it.
        names: The observables.
    """

    inputs: Inputs
    models: list[str]
    names: list[str]

    @property
    def suffix(self) -> str:
        """What sets the figures of this view apart from those of features."""
        return "" if self.inputs == "features" else f"_{self.inputs}"

    def describe(self, name: str) -> Observable:
        """How an observable is labelled and binned."""
        return describe(name) if self.inputs == "features" else describe_jet(name)


@dataclass(frozen=True)
class Results:
    """Everything that the metrics and the figures of one view are made of.

    Attributes:
        generation: The config's block.
        view: The kind of events.
        size: Events of each set that is compared.
        truth: The reference half of the truth.
        null: The other half of the truth.
        baseline: Training events with every column shuffled on its own: right shapes, no correlations.
        models: Averages over seeds. A reweighted model is there twice.
        nulls: The null value of each model's figures of merit, which differ where conditions or weights do: that of
            a reweighted model is of truth with the model's weights, given to it at random.
        rates: Events per second of every seed, and of the full simulation where that is known.
        devices: What drew the events.
        histories: Losses of every seed.
    """

    generation: Generation
    view: View
    size: int
    truth: "Truth"
    null: Scores
    baseline: Scores
    models: dict[str, Scores]
    nulls: dict[str, Scores]
    rates: dict[str, list[float]]
    devices: list[str]
    histories: dict[str, dict[int, dict[str, list[float]]]]


def views_of(config: Config) -> list[View]:
    """The kinds of events that the configuration's generators make."""
    block = config.generation
    observables = {
        "features": [*block.features, *derived_names(block.features)],
        "images": jet_names(),
        "constituents": jet_names(),
    }
    members = {kind: [name for name, entry in block.models.items() if entry.inputs == kind] for kind in observables}
    return [View(kind, members[kind], names) for kind, names in observables.items() if members[kind]]
