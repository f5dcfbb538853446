"""Figures from their saved numbers, as PDF and PNG."""

from collections.abc import Callable, Iterable
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullFormatter

from hepgen.plots.figures import Axis, Comparison, Curves, Figure, Histogram, Image, Images, Points, read_figure
from hepgen.storage import atomic

__all__ = ["draw", "draw_files"]

STYLE = {
    "font.size": 11,
    "axes.linewidth": 0.9,
    "axes.titlesize": 12,
    "axes.titlelocation": "left",
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.minor.visible": True,
    "ytick.minor.visible": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


class Look(NamedTuple):
    """How one of several things in a figure is told from the others, in colour and in greyscale."""

    color: str
    dash: Any
    marker: str


BLACK = Look("black", "-", "o")
LOOKS = (
    Look("#003f8a", "-", "o"),
    Look("#d1495b", "--", "s"),
    Look("#e6a117", "-.", "^"),
    Look("#2a9d8f", (0, (5, 1, 1, 1, 1, 1)), "D"),
    Look("#7b4fa3", (0, (1, 1)), "v"),
    Look("#66c2ff", (0, (8, 2)), "P"),
    Look("#8a5a2b", (0, (3, 1)), "X"),
    Look("#9ac043", (0, (2, 3)), "*"),
)
GUIDES = tuple(Look("0.55", dash, "") for dash in (":", (0, (6, 3)), (0, (6, 2, 1, 2))))


def draw_files(paths: Iterable[Path]) -> None:
    """Draw each figure's JSON file as a PDF and a PNG of the same name beside it."""
    forms = {".pdf": {"metadata": {"CreationDate": None}}, ".png": {"dpi": 130}}
    for path in paths:
        canvas = draw(read_figure(path))
        for suffix, options in forms.items():
            with atomic(path.with_suffix(suffix)) as temporary:
                canvas.savefig(temporary, format=suffix[1:], bbox_inches="tight", **options)
        plt.close(canvas)


def draw(figure: Figure) -> Canvas:
    """Draw one figure; the caller closes it."""
    drawers: dict[str, Callable[[Any], Canvas]] = {
        "comparison": _comparison,
        "curves": _curves,
        "images": _images,
        "points": _points,
    }
    with mpl.rc_context(STYLE):
        return drawers[figure.kind](figure)


def _comparison(figure: Comparison) -> Canvas:
    canvas, (top, bottom) = plt.subplots(
        2, 1, figsize=(6.4, 6.0), sharex=True, height_ratios=(3, 1), gridspec_kw={"hspace": 0.06}
    )
    edges = np.array(figure.edges)
    reference = next(h for h in figure.histograms if h.role == "reference")
    # Where the reference is not known to a factor of two, no ratio to it says anything.
    denominator = np.where(np.array(reference.values) > 2 * np.array(reference.errors), reference.values, np.nan)
    looks = cycle(LOOKS)
    for histogram in figure.histograms:
        look = BLACK if histogram is reference else next(looks)
        values, errors = np.array(histogram.values), np.array(histogram.errors)
        _histogram(top, edges, values, errors, histogram, look)
        _histogram(bottom, edges, values / denominator, errors / denominator, histogram, look)
    _scale(top, None, figure.y)
    _scale(bottom, figure.x, figure.ratio)
    highest = max(max(h.values) for h in figure.histograms)
    if figure.y.log:
        top.set_ylim(0.3 * min(value for value in reference.values if value > 0), 3 * highest)
    else:
        # Weights may be negative, and so may a bin.
        lowest = min(min(h.values) for h in figure.histograms)
        top.set_ylim(min(1.35 * lowest, 0), 1.35 * highest)
    bottom.set_xlim(figure.x.range or (edges[0], edges[-1]))
    top.legend()
    _annotate(canvas, top, figure.title, figure.notes)
    return canvas


def _histogram(
    ax: Axes, edges: np.ndarray, values: np.ndarray, errors: np.ndarray, histogram: Histogram, look: Look
) -> None:
    """A reference is a step with a grey band, data are points, models are steps with a band, baselines thin steps."""
    if histogram.role == "data":
        centers = (edges[:-1] + edges[1:]) / 2
        points = {"fmt": look.marker, "ms": 3.5, "lw": 0.9, "color": look.color, "zorder": 4}
        ax.errorbar(centers, values, errors, label=histogram.label, **points)
        return
    width = 1.0 if histogram.role == "baseline" else 1.5
    ax.stairs(values, edges, color=look.color, ls=look.dash, lw=width, label=histogram.label, zorder=3)
    if histogram.role != "baseline":
        fill = {"color": "0.75", "zorder": 1} if histogram.role == "reference" else {"color": look.color, "alpha": 0.25}
        ax.stairs(values + errors, edges, baseline=values - errors, fill=True, lw=0, **fill)


def _curves(figure: Curves) -> Canvas:
    canvas, ax = plt.subplots(figsize=(6.4, 5.2))
    looks, guides = cycle(LOOKS), cycle(GUIDES)
    for line in figure.lines:
        color, dash, _ = next(guides if line.role == "guide" else looks)
        width = 1.1 if line.role in ("guide", "cut") else 1.8
        ax.plot(line.x, line.y, color=color, ls=dash, lw=width, label=line.label)
        if line.low is not None and line.high is not None:
            ax.fill_between(line.x, line.low, line.high, color=color, alpha=0.2, lw=0)
    for marker in figure.markers:
        place = ax.axvline if marker.axis == "x" else ax.axhline
        place(marker.at, color="0.4", lw=1, ls=":")
        at = {"x": marker.at, "y": 0.02} if marker.axis == "x" else {"x": 0.02, "y": marker.at}
        transform = ax.get_xaxis_transform() if marker.axis == "x" else ax.get_yaxis_transform()
        ax.text(*at.values(), f" {marker.label}", transform=transform, fontsize=8, color="0.3", va="bottom")
    _scale(ax, figure.x, figure.y)
    ax.legend()
    _annotate(canvas, ax, figure.title, figure.notes)
    return canvas


def _images(figure: Images) -> Canvas:
    columns = max(len(row) for row in figure.rows)
    canvas, axes = plt.subplots(
        len(figure.rows), columns, figsize=(2.7 * columns + 0.8, 2.7 * len(figure.rows) + 0.5), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    extent = (*figure.window, *figure.window)
    for row, line in zip(axes, figure.rows, strict=True):
        norm, cmap = _color_scale(line, figure.color)
        for ax, image in zip(row, line, strict=False):
            shown = ax.imshow(np.array(image.values).T, origin="lower", extent=extent, norm=norm, cmap=cmap)
            ax.set_title(image.title, fontsize=9)
            ax.set(xlabel=figure.x.label, ylabel=figure.y.label)
            ax.label_outer()
            ax.minorticks_off()
        for ax in row[len(line) :]:
            ax.axis("off")
        canvas.colorbar(shown, ax=row[: len(line)].tolist(), label=figure.color.label, pad=0.01)
    canvas.suptitle(figure.title, x=0.01, ha="left", fontsize=12)
    return canvas


def _color_scale(row: list[Image], color: Axis) -> tuple[Normalize, str]:
    """One scale for a row: diverging about zero where values are negative, logarithmic where asked for."""
    values = np.concatenate([np.ravel(image.values) for image in row])
    if values.min() < 0:
        limit = np.abs(values).max()
        return Normalize(-limit, limit), "RdBu_r"
    top = values.max() or 1.0
    if color.log:
        return LogNorm(color.range[0] if color.range else top * 1e-4, top, clip=True), "magma"
    return Normalize(0, top), "magma"


def _points(figure: Points) -> Canvas:
    canvas, ax = plt.subplots(figsize=(max(6.4, 0.75 * len(figure.categories) + 3), 4.8))
    positions = np.arange(len(figure.categories))
    offsets = np.linspace(-0.3, 0.3, len(figure.series)) if len(figure.series) > 1 else [0.0]
    looks = cycle(LOOKS)
    for offset, (label, points), (color, _, marker) in zip(offsets, figure.series.items(), looks, strict=False):
        value, low, high = np.array(points).T
        errors = np.clip([value - low, high - value], 0, None)
        ax.errorbar(
            positions + offset, value, errors, fmt=marker, color=color, ms=5, capsize=2, lw=1.1, label=label, ls="none"
        )
    if figure.floor is not None:
        for position, floor in zip(positions, figure.floor, strict=True):
            label = figure.floor_label if position == 0 else None
            ax.hlines(floor, position - 0.42, position + 0.42, color="black", ls=":", lw=1.3, label=label)
    _scale(ax, None, figure.y)
    ax.set_xticks(
        positions,
        figure.categories,
        rotation=30 if len(positions) > 4 else 0,
        ha="right" if len(positions) > 4 else "center",
    )
    ax.tick_params(axis="x", which="minor", bottom=False, top=False)
    ax.set_xlim(-0.6, len(positions) - 0.4)
    ax.legend()
    _annotate(canvas, ax, figure.title, figure.notes)
    return canvas


def _scale(ax: Axes, x: Axis | None, y: Axis | None) -> None:
    for settings, axis, name in ((x, ax.xaxis, "x"), (y, ax.yaxis, "y")):
        if settings is None:
            continue
        ax.set(**{f"{name}label": settings.label})
        if settings.log:
            ax.set(**{f"{name}scale": "log"})
        if settings.range:
            ax.set(**{f"{name}lim": settings.range})
        low, high = axis.get_view_interval()
        if settings.log and high < 300 * low:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())


def _annotate(canvas: Canvas, ax: Axes, title: str, notes: list[str]) -> None:
    """Title above and notes below the axes, where they hide no curve."""
    ax.set_title(title)
    if notes:
        below = canvas.get_tightbbox().y0 / canvas.get_figheight()
        canvas.text(0.01, below - 0.01, "\n".join(notes), ha="left", va="top", fontsize=8.5, color="0.25")
