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
    "Marker",
    "Points",
    "Scatter",
    "banded_line",
    "read_figure",
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
    notes: list[str] = []


class Line(Spec):
    """A curve with an optional band; `role` decides how it is drawn."""

    label: str
    x: list[float]
    y: list[float]
    low: list[float] | None = None
    high: list[float] | None = None
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


Figure = Annotated[Comparison | Corner | Curves | Images | Points | Scatter, Field(discriminator="kind")]


def write_figure(path: str | Path, figure: Figure) -> None:
    """Write a figure's numbers as JSON.

    Raises:
        ValueError: if a number is not finite.
    """
    write_json(path, figure.model_dump(mode="json"))


def read_figure(path: str | Path) -> Figure:
    """Read a figure's numbers."""
    return read_json(path, Figure)
