"""What a figure shows, as numbers: written by the analyses, read by `hepgen.plots.draw`."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ConfigDict, Field

from hepgen.storage import read_json, write_json

__all__ = [
    "Axis",
    "Comparison",
    "Corner",
    "Curves",
    "Figure",
    "Group",
    "Histogram",
    "Image",
    "Images",
    "Layer",
    "Line",
    "Map",
    "Maps",
    "Marker",
    "Panels",
    "Points",
    "Scatter",
    "banded_line",
    "known",
    "read_figure",
    "steps",
    "write_figure",
]


Role = Literal["model", "external", "supervised", "cut", "guide"]
Bar = tuple[float, float, float]

BAND = [(1 - 0.6827) / 2, 0.5, (1 + 0.6827) / 2]


class Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Axis(Spec):
    """A label in matplotlib's mathtext, with the unit in brackets, and how the axis is scaled."""

    label: str
    log: bool = False
    range: tuple[float, float] | None = None
    linear: float | None = Field(None, description="a logarithmic axis is linear below this, so that 0 has a place")


class Histogram(Spec):
    """Bin contents with one standard deviation; `role` decides how it is drawn."""

    label: str
    values: list[float]
    errors: list[float]
    total: list[float] | None = Field(None, description="all uncertainties together, where `errors` is some of them")
    role: Literal["reference", "data", "model", "baseline"] = "model"


class Comparison(Spec):
    """Histograms over a ratio panel; the first one of role ``reference`` is the denominator.

    Values may be counts or densities; all histograms share the edges and the normalisation.
    """

    kind: Literal["comparison"] = "comparison"
    title: str
    edges: list[float]
    histograms: list[Histogram]
    x: Axis
    y: Axis
    ratio: Axis = Axis(label="ratio to reference", range=(0.5, 1.5))
    apart: bool = Field(False, description="a ratio panel for each model, where their bands would hide one another")
    notes: list[str] = []


class Line(Spec):
    """A curve with an optional band, broken where it has no value; `role` decides how it is drawn."""

    label: str
    x: list[float]
    y: list[float | None]
    low: list[float | None] | None = None
    high: list[float | None] | None = None
    role: Role = "model"


def banded_line(label: str, x: ArrayLike, runs: ArrayLike, role: Role = "model") -> Line:
    """The median of several runs and the band of the central 68.27 % of them.

    Args:
        label: The line's.
        x: Where the runs were evaluated, shape (n,).
        runs: Values of each run, shape (runs, n).
        role: How the line is drawn.
    """
    low, middle, high = np.quantile(runs, BAND, axis=0).tolist()
    return Line(label=label, x=np.asarray(x, dtype=float).tolist(), y=middle, low=low, high=high, role=role)


def steps(
    label: str, edges: ArrayLike, values: ArrayLike, errors: ArrayLike | None = None, role: Role = "model"
) -> Line:
    """A histogram as a line, with a band of one standard deviation; a bin whose value is NaN is left out.

    Args:
        label: The line's.
        edges: Bin edges, shape (bins + 1,).
        values: Shape (bins,).
        errors: Shape (bins,); no band without them.
        role: How the line is drawn.
    """
    x = np.repeat(np.asarray(edges, dtype=float), 2)[1:-1]
    values = np.asarray(values, dtype=float)
    bounds = {} if errors is None else {"low": values - errors, "high": values + errors}
    lists = {name: known(np.repeat(bound, 2)) for name, bound in {"y": values, **bounds}.items()}
    return Line(label=label, x=x.tolist(), **lists, role=role)


def known(values: np.ndarray) -> list:
    """An array as a list, nested as the array is, with None in place of NaN."""
    return np.where(np.isnan(values), None, values).tolist()


class Marker(Spec):
    """A vertical or horizontal guide, e.g. where a statistical floor lies."""

    label: str
    at: float
    axis: Literal["x", "y"]


class Curves(Spec):
    """Lines with bands: ROC, SIC, profiles, training histories."""

    kind: Literal["curves"] = "curves"
    title: str
    lines: list[Line]
    x: Axis
    y: Axis
    markers: list[Marker] = []
    notes: list[str] = []


class Panels(Spec):
    """Curves side by side that share a legend: what has one label is drawn in one way; the first panel names all."""

    kind: Literal["panels"] = "panels"
    title: str
    panels: list[Curves]
    notes: list[str] = []


class Map(Spec):
    """A number for every cell of a plane, first index x and second y; None where there is none."""

    title: str
    values: list[list[float | None]]


class Maps(Spec):
    """Maps of the same bins side by side with one colour scale.

    Attributes:
        edges: Bin edges of x and of y.
        color: What the numbers are; its range is that of the numbers without one.
        center: The number of the neutral colour, where numbers below and above it are told apart; those that are
            clearly below are hatched.
    """

    kind: Literal["maps"] = "maps"
    title: str
    maps: list[Map]
    edges: tuple[list[float], list[float]]
    x: Axis
    y: Axis
    color: Axis
    center: float | None = None
    notes: list[str] = []


class Image(Spec):
    """A two-dimensional array of pixels, first index η and second φ."""

    title: str
    values: list[list[float]]


class Images(Spec):
    """Rows of images over a common window, each row with one colour scale."""

    kind: Literal["images"] = "images"
    title: str
    rows: list[list[Image]]
    window: tuple[float, float] = Field(description="smallest and largest coordinate of the window")
    x: Axis
    y: Axis
    color: Axis


class Points(Spec):
    """Values with intervals for named categories, one series each: figures of merit side by side."""

    kind: Literal["points"] = "points"
    title: str
    categories: list[str]
    series: dict[str, list[Bar | None]] = Field(
        description="label: (value, low, high) per category, where there is one"
    )
    roles: dict[str, Role] = Field({}, description="how series are drawn that are not models")
    floor: list[float | None] | None = Field(None, description="statistical floor or null value per category")
    floor_label: str = "floor"
    y: Axis = Field(description="the axis of the values")
    horizontal: bool = Field(False, description="one row for each category, for many or long names")
    markers: list[Marker] = []
    notes: list[str] = []


class Group(Spec):
    """Points with intervals (value, low, high) in both coordinates, joined by a line in their order if asked for."""

    label: str
    x: list[Bar]
    y: list[Bar]
    role: Role = "model"
    joined: bool = False


class Scatter(Spec):
    """Points in a plane, over guides: one figure of merit against another, or against a setting."""

    kind: Literal["scatter"] = "scatter"
    title: str
    groups: list[Group]
    lines: list[Line] = []
    x: Axis
    y: Axis
    notes: list[str] = []


class Layer(Spec):
    """One population of a corner plot.

    Attributes:
        label: What it is.
        marginals: Density in each dimension, by bin.
        pairs: Smoothed densities in the planes (1, 0), (2, 0), (2, 1), ...; the first index is the plot's y.
        levels: For each plane the heights of the contours, rising.
    """

    label: str
    marginals: list[list[float]]
    pairs: list[list[list[float]]]
    levels: list[list[float]]


class Corner(Spec):
    """Projections of populations onto every dimension and every plane; two dimensions make one large plane."""

    kind: Literal["corner"] = "corner"
    title: str
    axes: list[Axis]
    edges: list[list[float]] = Field(description="bin edges of each dimension")
    layers: list[Layer]
    notes: list[str] = []


Figure = Annotated[
    Comparison | Corner | Curves | Images | Maps | Panels | Points | Scatter, Field(discriminator="kind")
]


def write_figure(path: str | Path, figure: Figure) -> None:
    """Write a figure's numbers as JSON.

    Raises:
        ValueError: if a number is not finite.
    """
    write_json(path, figure.model_dump(mode="json"))


def read_figure(path: str | Path) -> Figure:
    """Read a figure's numbers."""
    return read_json(path, Figure)
