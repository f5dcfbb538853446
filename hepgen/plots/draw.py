"""Figures from their saved numbers, as PDF and PNG."""

from collections.abc import Callable, Iterable, Iterator
from itertools import count, cycle
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, LogNorm, Normalize
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from hepgen.plots.figures import (
    Axis,
    Comparison,
    Corner,
    Curves,
    Figure,
    Histogram,
    Image,
    Images,
    Layer,
    Line,
    Maps,
    Marker,
    Panels,
    Points,
    Role,
    Scatter,
    read_figure,
)
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
    Look("#c2459b", (0, (3, 1)), "X"),
    Look("#9ac043", (0, (2, 3)), "*"),
)
SUPERVISED = tuple(Look("black", look.dash, LOOKS[number - 7].marker) for number, look in enumerate(LOOKS))
CUTS = tuple(
    Look(("#8a5a2b", "#c49a6c", "#5c3a1a")[number % 3], look.dash, LOOKS[number - 6].marker)
    for number, look in enumerate(LOOKS)
)
GUIDES = (Look("0.55", ":", "x"), Look("0.55", (0, (6, 3)), "+"), Look("0.55", (0, (6, 2, 1, 2)), "1"))


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
        "corner": _corner,
        "curves": _curves,
        "images": _images,
        "maps": _maps,
        "panels": _panels,
        "points": _points,
        "scatter": _scatter,
    }
    with mpl.rc_context(STYLE):
        return drawers[figure.kind](figure)


def _comparison(figure: Comparison) -> Canvas:
    alone = [histogram for histogram in figure.histograms if histogram.role == "model"] if figure.apart else []
    heights = (4.4, *[0.9] * len(alone)) if alone else (4.5, 1.5)
    canvas, (top, *ratios) = plt.subplots(
        len(heights), 1, figsize=(6.4, sum(heights)), sharex=True, height_ratios=heights, gridspec_kw={"hspace": 0.06}
    )
    edges = np.array(figure.edges)
    reference = next(h for h in figure.histograms if h.role == "reference")
    # Where the reference is not known to a factor of two, no ratio to it says anything.
    denominator = np.where(np.array(reference.values) > 2 * np.array(reference.errors), reference.values, np.nan)
    looks = cycle(LOOKS)
    for histogram in figure.histograms:
        look = BLACK if histogram is reference else next(looks)
        rows = np.array([histogram.values, histogram.errors, histogram.total or histogram.errors])
        _histogram(top, edges, rows, histogram, look)
        for number, ratio in enumerate(ratios):
            if histogram not in alone or histogram is alone[number]:
                _histogram(ratio, edges, rows / denominator, histogram, look)
    _scale(top, None, figure.y)
    for ratio in ratios:
        _scale(ratio, None, figure.ratio.model_copy(update={"label": ""}))
    for ratio, histogram in zip(ratios, alone, strict=False):
        ratio.text(1.01, 0.5, histogram.label, transform=ratio.transAxes, fontsize=8.5, va="center")
        ratio.yaxis.set_major_locator(MaxNLocator(4, prune="both"))
        ratio.tick_params(axis="y", labelsize=8)
    ratios[len(ratios) // 2].set_ylabel(figure.ratio.label)
    _scale(ratios[-1], figure.x, None)
    highest = max(max(h.values) for h in figure.histograms)
    if figure.y.log:
        top.set_ylim(0.3 * min(value for value in reference.values if value > 0), 3 * highest)
    else:
        # Weights may be negative, and so may a bin.
        lowest = min(min(h.values) for h in figure.histograms)
        top.set_ylim(min(1.35 * lowest, 0), 1.35 * highest)
    top.set_xlim(figure.x.range or (edges[0], edges[-1]))
    top.legend()
    _annotate(canvas, top, figure.title, figure.notes)
    return canvas


def _histogram(ax: Axes, edges: np.ndarray, rows: np.ndarray, histogram: Histogram, look: Look) -> None:
    """A reference is a step with a grey band, data are points, models are steps with a band, baselines thin steps.

    All uncertainties together are a paler band. The rows are the values, their errors and their total errors.
    """
    values, errors, total = rows
    if histogram.role == "data":
        centers = (edges[:-1] + edges[1:]) / 2
        points = {"fmt": look.marker, "ms": 3.5, "lw": 0.9, "color": look.color, "zorder": 4}
        ax.errorbar(centers, values, errors, label=histogram.label, **points)
        return
    width = 1.0 if histogram.role == "baseline" else 1.5
    ax.stairs(values, edges, color=look.color, ls=look.dash, lw=width, label=histogram.label, zorder=3)
    if histogram.role != "baseline":
        fill = {"color": "0.75", "zorder": 1} if histogram.role == "reference" else {"color": look.color, "alpha": 0.25}
        for error in (errors, total)[: 2 if histogram.total else 1]:
            ax.stairs(values + error, edges, baseline=values - error, fill=True, lw=0, **fill)


def _curves(figure: Curves) -> Canvas:
    canvas, ax = plt.subplots(figsize=(6.4, 5.2))
    look_of = _looks()
    for line in figure.lines:
        _line(ax, line, look_of(line.role), 1.1 if line.role in ("guide", "cut") else 1.8)
    _mark(ax, figure.markers)
    _scale(ax, figure.x, figure.y)
    _legend(ax)
    _annotate(canvas, ax, figure.title, figure.notes)
    return canvas


def _line(ax: Axes, line: Line, look: Look, width: float) -> None:
    y, *bounds = (np.array(values, dtype=float) for values in (line.y, line.low, line.high) if values is not None)
    ax.plot(line.x, y, color=look.color, ls=look.dash, lw=width, label=line.label)
    if len(bounds) == 2:
        ax.fill_between(line.x, *bounds, color=look.color, alpha=0.2, lw=0)


def _panels(figure: Panels) -> Canvas:
    canvas, grid = _grid(len(figure.panels), (4.2, 3.6), (0.0, 0.4))
    look_of, looks, handles = _looks(), {}, {}
    for ax, panel in zip(grid.flat, figure.panels, strict=False):
        for line in panel.lines:
            looks[line.label] = looks.get(line.label) or look_of(line.role)
            _line(ax, line, looks[line.label], 1.1 if line.role in ("guide", "cut") else 1.6)
        _mark(ax, panel.markers)
        _scale(ax, panel.x, panel.y)
        ax.set_title(panel.title, fontsize=10)
        handles |= {label: handle for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    canvas.suptitle(figure.title, x=0.01, ha="left", fontsize=12)
    where = {"loc": "upper left", "bbox_to_anchor": (0.0, _bottom(canvas)), "ncols": min(grid.shape[1] + 1, 3)}
    canvas.legend(handles.values(), handles.keys(), **where)
    _note(canvas, figure.notes)
    return canvas


def _grid(number: int, panel: tuple[float, float], more: tuple[float, float]) -> tuple[Canvas, np.ndarray]:
    """Axes for some panels of a size, at most three in a row, on a canvas that is larger than they by `more`."""
    columns = 2 if number == 4 else min(number, 3)
    rows = -(-number // columns)
    size = (panel[0] * columns + more[0], panel[1] * rows + more[1])
    canvas, grid = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for ax in grid.flat[number:]:
        ax.axis("off")
    return canvas, grid


def _maps(figure: Maps) -> Canvas:
    number = len(figure.maps)
    canvas, grid = _grid(number, (3.5, 3.1) if number > 1 else (5.2, 4.7), (1.2, 0.5))
    planes = [np.array(plane.values, dtype=float).T for plane in figure.maps]
    norm, cmap = _map_scale(planes, figure)
    for ax, plane, one in zip(grid.flat, planes, figure.maps, strict=False):
        shown = ax.pcolormesh(*figure.edges, plane, norm=norm, cmap=cmap, rasterized=plane.size > 400)
        _scale(ax, figure.x, figure.y)
        ax.set_title(one.title, fontsize=9)
        ax.label_outer()
    bar = canvas.colorbar(shown, ax=grid.ravel().tolist(), label=figure.color.label, pad=0.02)
    if figure.center is not None:
        # A diverging scale is as dark at either end; hatches tell them apart in greyscale.
        low = figure.center - (norm.vmax - norm.vmin) / 8
        for ax, plane in zip(grid.flat, planes, strict=False):
            below = np.ma.masked_where(~(plane < low), plane)
            ax.pcolor(*figure.edges, below, cmap=ListedColormap(["none"]), hatch="////", edgecolor="0.2", lw=0)
        bar.ax.axhspan(norm.vmin, low, fill=False, hatch="////", edgecolor="0.2", lw=0)
    canvas.suptitle(figure.title, x=0.01, ha="left", fontsize=12)
    _note(canvas, figure.notes)
    return canvas


def _map_scale(planes: list[np.ndarray], figure: Maps) -> tuple[Normalize, str]:
    """One scale for all maps: diverging and symmetric about a centre, else from zero or logarithmic."""
    values = np.concatenate([plane.ravel() for plane in planes])
    low, high = figure.color.range or (0.0, np.nanmax(values, initial=0.0) or 1.0)
    if figure.center is not None:
        reach = max(high - figure.center, figure.center - low)
        return Normalize(figure.center - reach, figure.center + reach), "RdBu_r"
    if figure.color.log:
        return LogNorm(low or high * 1e-4, high, clip=True), "Blues"
    return Normalize(low, high), "Blues"


def _looks() -> Callable[[Role], Look]:
    """The next look for a role: colours for models, blacks for supervised ones, browns for cuts, greys for guides."""
    fixed = {"supervised": cycle(SUPERVISED), "cut": cycle(CUTS), "guide": cycle(GUIDES)}
    models = _combinations()
    return lambda role: next(fixed.get(role, models))


def _combinations() -> Iterator[Look]:
    """Looks without end: the colours again with other dashes and markers."""
    for turn in count():
        for number, look in enumerate(LOOKS):
            other = LOOKS[(number + 3 * turn) % len(LOOKS)]
            yield Look(look.color, other.dash, other.marker)


def _mark(ax: Axes, markers: list[Marker]) -> None:
    for marker in markers:
        place = ax.axvline if marker.axis == "x" else ax.axhline
        place(marker.at, color="0.4", lw=1, ls=":")
        at = {"x": marker.at, "y": 0.02} if marker.axis == "x" else {"x": 0.02, "y": marker.at}
        transform = ax.get_xaxis_transform() if marker.axis == "x" else ax.get_yaxis_transform()
        ax.text(*at.values(), f" {marker.label}", transform=transform, fontsize=8, color="0.3", va="bottom")


def _legend(ax: Axes, *, beside: bool = False) -> None:
    """A long legend stands beside the axes, where it hides nothing."""
    _, labels = ax.get_legend_handles_labels()
    if labels and (beside or len(labels) > 6):
        ax.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0)
    elif labels:
        ax.legend()


def _scatter(figure: Scatter) -> Canvas:
    canvas, ax = plt.subplots(figsize=(6.4, 5.2))
    look_of = _looks()
    for group in figure.groups:
        color, dash, marker = look_of(group.role)
        (x, x_errors), (y, y_errors) = _with_errors(group.x), _with_errors(group.y)
        style = {"fmt": marker, "ms": 5.5, "lw": 1.0, "capsize": 1.5, "color": color}
        style |= {"mfc": "white"} if group.role == "cut" else {}
        ax.errorbar(x, y, y_errors, x_errors, label=group.label, **style)
        if group.joined:
            ax.plot(x, y, color=color, ls=dash, lw=1.2)
    for line in figure.lines:
        _line(ax, line, look_of(line.role), 1.2)
    _scale(ax, figure.x, figure.y)
    _legend(ax)
    _annotate(canvas, ax, figure.title, figure.notes)
    return canvas


def _with_errors(bars: Iterable[tuple[float, float, float]]) -> tuple[np.ndarray, np.ndarray | None]:
    """Values and the lengths of their bars downwards and upwards, or none where all are points."""
    value, low, high = np.array(list(bars)).reshape(-1, 3).T
    errors = np.clip([value - low, high - value], 0, None)
    return value, errors if errors.any() else None


def _corner(figure: Corner) -> Canvas:
    size = len(figure.axes)
    if size == 2:
        canvas, plane = plt.subplots(figsize=(6.4, 5.4))
        panels = {(1, 0): plane}
    else:
        side = max(6.4 if size == 1 else 2.1 * size, 5.0)
        canvas, grid = plt.subplots(size, size, figsize=(side, 0.8 * side if size == 1 else side), squeeze=False)
        panels = {(row, column): grid[row, column] for row in range(size) for column in range(row + 1)}
        for row, column in zip(*np.triu_indices(size, 1), strict=True):
            grid[row, column].axis("off")
    for layer, look in zip(figure.layers, (Look("0.45", "-", "o"), *LOOKS[1:]), strict=False):
        _population(panels, figure, layer, look)
    for (row, column), ax in panels.items():
        ax.set(xlabel=figure.axes[column].label, ylabel=figure.axes[row].label if row > column else "density")
        if size > 2:
            ax.tick_params(labelsize=7)
            if row == column:
                ax.set(yticks=[], ylabel="")
            ax.label_outer()
    handles = [plt.Line2D([], [], color=look, lw=2) for look in ("0.45", LOOKS[1].color)]
    labels = [layer.label for layer in figure.layers]
    if size > 2:
        canvas.legend(handles, labels, loc="upper right", bbox_to_anchor=(0.9, 0.88))
        canvas.suptitle(figure.title, x=0.12, y=0.92, ha="left", fontsize=12)
    else:
        next(iter(panels.values())).legend(handles, labels)
    _annotate(canvas, panels[size - 1, 0], figure.title if size <= 2 else "", figure.notes)
    return canvas


def _population(panels: dict[tuple[int, int], Axes], figure: Corner, layer: Layer, look: Look) -> None:
    """One population: a filled one where it is the first, contours for the others."""
    centers = [(np.array(edges)[1:] + np.array(edges)[:-1]) / 2 for edges in figure.edges]
    first = layer is figure.layers[0]
    planes = zip(*np.tril_indices(len(figure.axes), -1), strict=True)
    for (row, column), density, levels in zip(planes, layer.pairs, layer.levels, strict=True):
        ax, values = panels[row, column], np.array(density)
        if first:
            ax.contourf(centers[column], centers[row], values, [*levels, np.inf], colors=["0.85", "0.65"])
        else:
            ax.contour(centers[column], centers[row], values, levels, colors=look.color, linestyles=["--", "-"])
    for number, marginal in enumerate(layer.marginals):
        if (number, number) in panels:
            fill = {"fill": True, "alpha": 0.4} if first else {"lw": 1.3}
            panels[number, number].stairs(marginal, figure.edges[number], color=look.color, **fill)


def _images(figure: Images) -> Canvas:
    columns = max(len(row) for row in figure.rows)
    side = 2.7 if columns < 6 else 1.6
    size = (side * columns + 0.8, side * len(figure.rows) + 0.5)
    canvas, axes = plt.subplots(len(figure.rows), columns, figsize=size, squeeze=False, layout="constrained")
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
    number = len(figure.categories)
    flat = figure.horizontal
    size = (6.4, 0.27 * number + 1.6) if flat else (max(6.4, 0.75 * number + 3), 4.8)
    canvas, ax = plt.subplots(figsize=size)
    positions = np.arange(number)
    overlap = any(sum(bar is not None for bar in bars) > 1 for bars in zip(*figure.series.values(), strict=True))
    half = 0.2 if flat else 0.3
    offsets = np.linspace(-half, half, len(figure.series)) if overlap else np.zeros(len(figure.series))
    look_of = _looks()
    for offset, (label, bars) in zip(offsets, figure.series.items(), strict=True):
        color, _, marker = look_of(figure.roles.get(label, "model"))
        shown = [place for place, bar in enumerate(bars) if bar is not None]
        value, errors = _with_errors([bar for bar in bars if bar is not None])
        style = {"fmt": marker, "color": color, "ms": 5, "capsize": 2, "lw": 1.1, "label": label, "ls": "none"}
        place = positions[shown] + offset
        if flat:
            ax.errorbar(value, place, xerr=errors, **style)
        else:
            ax.errorbar(place, value, yerr=errors, **style)
    floors = [(place, floor) for place, floor in enumerate(figure.floor or []) if floor is not None]
    for index, (place, floor) in enumerate(floors):
        label = figure.floor_label if index == 0 else None
        lines = ax.vlines if flat else ax.hlines
        lines(floor, place - 0.42, place + 0.42, color="black", ls=":", lw=1.3, label=label)
    _mark(ax, figure.markers)
    _name_positions(ax, figure.categories, flat)
    _scale(ax, figure.y if flat else None, None if flat else figure.y)
    _legend(ax, beside=flat or len(figure.series) > 3)
    _annotate(canvas, ax, figure.title, figure.notes)
    return canvas


def _name_positions(ax: Axes, names: list[str], flat: bool) -> None:
    """Names in place of numbers: below the axes, or one row each from the top down."""
    limits = (-0.6, len(names) - 0.4)
    if flat:
        ax.set_yticks(range(len(names)), names, fontsize=9)
        ax.tick_params(axis="y", which="minor", left=False, right=False)
        ax.set_ylim(*limits[::-1])
        ax.grid(axis="y", color="0.9", lw=0.6)
        return
    long = len(names) > 4
    ax.set_xticks(range(len(names)), names, rotation=30 if long else 0, ha="right" if long else "center")
    ax.tick_params(axis="x", which="minor", bottom=False, top=False)
    ax.set_xlim(*limits)


def _scale(ax: Axes, x: Axis | None, y: Axis | None) -> None:
    for settings, axis, name in ((x, ax.xaxis, "x"), (y, ax.yaxis, "y")):
        if settings is None:
            continue
        ax.set(**{f"{name}label": settings.label})
        if settings.log and settings.linear:
            scale = ax.set_xscale if name == "x" else ax.set_yscale
            scale("symlog", linthresh=settings.linear, linscale=0.5)
        elif settings.log:
            ax.set(**{f"{name}scale": "log"})
        if settings.range:
            ax.set(**{f"{name}lim": settings.range})
        low, high = axis.get_view_interval()
        if settings.log and 0 < high < 300 * low:
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())


def _annotate(canvas: Canvas, ax: Axes, title: str, notes: list[str]) -> None:
    """Title above and notes below the axes, where they hide no curve."""
    ax.set_title(title)
    _note(canvas, notes)


def _note(canvas: Canvas, notes: list[str]) -> None:
    if notes:
        below = _bottom(canvas) - 0.01
        canvas.text(0.01, below, "\n".join(notes), ha="left", va="top", fontsize=8.5, color="0.25")


def _bottom(canvas: Canvas) -> float:
    """Where what is drawn so far ends, as a share of the height; the layout is fixed there."""
    canvas.draw_without_rendering()
    canvas.set_layout_engine("none")
    return canvas.get_tightbbox().y0 / canvas.get_figheight()
