"""The figures of the tagging analysis: which there are, and their numbers from scores."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hepgen.config import Config
from hepgen.metrics.roc import FLOOR_EVENTS, FLOOR_PUBLISHED, FLOOR_PUBLISHED_EVENTS, Roc
from hepgen.plots.figures import Axis, Comparison, Curves, Histogram, Image, Images, Line, Marker, banded_line

__all__ = [
    "Scorer",
    "figure_names",
    "mass_profile",
    "mass_spectra",
    "mean_images",
    "passing",
    "reconstructions",
    "roc_curves",
    "score_histograms",
    "sic_curves",
]

EFFICIENCIES = np.linspace(0.01, 1, 100)
REJECTIONS = (0.5, 0.9, 0.99)
SIGNAL_EFFICIENCY = Axis(label=r"signal efficiency $\varepsilon_S$", range=(0, 1))


@dataclass(frozen=True)
class Scorer:
    """A model or cut with what it gave on the test events.

    Attributes:
        name: The model's or the cut's.
        role: How its lines are drawn.
        scores: Scores of each training, shape (trainings, n).
        rocs: The ROC of each training.
    """

    name: str
    role: Literal["model", "supervised", "cut"]
    scores: np.ndarray
    rocs: list[Roc]


def figure_names(config: Config) -> list[str]:
    """The figures that an evaluation of this configuration writes."""
    models = config.tagging.models
    image_models = [name for name, model in models.items() if model.inputs == "images"]
    return [
        "roc",
        "sic",
        "score_mass",
        "training",
        *(f"scores_{name}" for name in models),
        *(f"mass_sculpting_{name}" for name in models),
        *(["images"] if image_models else []),
        *(f"reconstruction_{name}" for name in image_models),
    ]


def roc_curves(scorers: list[Scorer]) -> Curves:
    """Background rejection against signal efficiency, as far as one background event passes."""
    lines = [_banded(scorer, lambda roc: roc.rejection(EFFICIENCIES)) for scorer in scorers]
    lines.append(_guide("random", EFFICIENCIES, 1 / EFFICIENCIES))
    return Curves(
        title="Background rejection",
        lines=lines,
        x=SIGNAL_EFFICIENCY,
        y=Axis(label=r"background rejection $1/\varepsilon_B$", log=True),
        notes=["band: 68 % over trainings"],
    )


def sic_curves(scorers: list[Scorer]) -> Curves:
    """Significance improvement against signal efficiency; below either floor the background left is too small."""
    background = scorers[0].rocs[0].passing[-1]
    floors = {
        "published cut-off": max(FLOOR_PUBLISHED, FLOOR_PUBLISHED_EVENTS / background),
        f"{FLOOR_EVENTS} background events": FLOOR_EVENTS / background,
    }
    lines = [_banded(scorer, lambda roc: EFFICIENCIES * np.sqrt(roc.rejection(EFFICIENCIES))) for scorer in scorers]
    lines.append(_guide("random", EFFICIENCIES, np.sqrt(EFFICIENCIES)))
    top = 1.25 * max(y for line in lines for y in line.y)
    for label, floor in floors.items():
        x = np.linspace(0, min(1.0, top * np.sqrt(floor)), 20)
        lines.append(_guide(rf"{label}, $\varepsilon_B$ = {floor:.2g}", x, x / np.sqrt(floor)))
    return Curves(
        title="Significance improvement",
        lines=lines,
        x=SIGNAL_EFFICIENCY,
        y=Axis(label=r"$\varepsilon_S / \sqrt{\varepsilon_B}$", range=(0, top)),
        notes=["left of a straight line: fewer background events than its floor"],
    )


def mass_profile(scorers: list[Scorer], mass: np.ndarray, weight: np.ndarray, axis: Axis, bins: int = 10) -> Curves:
    """Median score quantile of background events in bins of a mass: 0.5 everywhere if the score does not know it.

    Quantiles put all models on one scale, however long the tails of their scores.

    Args:
        scorers: Scorers with the scores of background events only.
        mass: The mass of the same events, shape (n,).
        weight: Their weights, shape (n,).
        axis: How the mass is labelled.
        bins: Number of bins of equal population.
    """
    edges = np.quantile(mass, np.linspace(0, 1, bins + 1))
    bin_of = np.clip(np.searchsorted(edges, mass, side="right") - 1, 0, bins - 1)
    members = [which for which in (bin_of == b for b in range(bins)) if which.any()]
    centers = [float(np.median(mass[which])) for which in members]
    lines = []
    for scorer in scorers:
        ranks = [_ranks(score, weight) for score in scorer.scores]
        medians = [[_quantile(rank[which], weight[which], 0.5) for which in members] for rank in ranks]
        lines.append(banded_line(scorer.name, centers, medians, scorer.role))
    return Curves(
        title="Score against mass, background",
        lines=lines,
        x=axis,
        y=Axis(label="median score quantile", range=(0, 1)),
        markers=[Marker(label="no correlation", at=0.5, axis="y")],
        notes=["band: 68 % over trainings"],
    )


def mass_spectra(scorer: Scorer, mass: np.ndarray, weight: np.ndarray, edges: np.ndarray, axis: Axis) -> Comparison:
    """Mass spectrum of background before and after cuts on the score, averaged over trainings, unit area.

    Args:
        scorer: A scorer with the scores of background events only.
        mass: The mass of the same events, shape (n,).
        weight: Their weights, shape (n,).
        edges: Bin edges in the mass.
        axis: How the mass is labelled.
    """
    histograms = [Histogram(label="all background", role="reference", **_density(mass, weight, edges))]
    for rejection in REJECTIONS:
        # A training more is no independent event: the mean over trainings has the error of one.
        share = np.mean([passing(score, weight, rejection) for score in scorer.scores], axis=0)
        histograms.append(
            Histogram(
                label=f"{100 * rejection:g} % rejected",
                **_density(mass, weight * share, edges, weight * np.sqrt(share)),
            )
        )
    return Comparison(
        title=f"Background mass spectrum, {scorer.name}",
        edges=edges.tolist(),
        histograms=histograms,
        x=axis,
        y=Axis(label="probability density"),
        ratio=Axis(label="cut / all", range=(0.5, 1.5)),
    )


def passing(score: np.ndarray, weight: np.ndarray, rejection: float) -> np.ndarray:
    """Which events are left by the cut that rejects a fraction of their summed weight, shape (n,)."""
    return score >= _quantile(score, weight, rejection)


def score_histograms(scorer: Scorer, seed: int, label: np.ndarray, weight: np.ndarray, bins: int = 40) -> Comparison:
    """Score of background and of signal events between the 0.1 % and 99.9 % quantiles.

    Args:
        scorer: A scorer, of which the first training is shown.
        seed: That training's seed.
        label: 1 for signal and 0 for background, shape (n,).
        weight: Event weights, shape (n,).
        bins: Number of bins.
    """
    score = scorer.scores[0]
    positive = bool(np.all(score > 0))
    values = np.log10(score) if positive else score
    low, high = np.quantile(values, [0.001, 0.999])
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    parts = {"background": ("reference", label == 0), "signal": ("model", label == 1)}
    return Comparison(
        title=f"Anomaly score, {scorer.name}",
        edges=edges.tolist(),
        histograms=[
            Histogram(label=name, role=role, **_density(values[which], weight[which], edges))
            for name, (role, which) in parts.items()
        ],
        x=Axis(label=r"$\log_{10}$ anomaly score" if positive else "anomaly score"),
        y=Axis(label="probability density"),
        ratio=Axis(label="signal / bkg.", log=True, range=(0.05, 50)),
        notes=[f"training with seed {seed}"],
    )


def mean_images(images: dict[str, dict[str, np.ndarray]], width: float) -> Images:
    """Mean image of the leading jet for background and signal."""
    return _images("Mean jet image", [[_image(name, arrays["mean"]) for name, arrays in images.items()]], width)


def reconstructions(name: str, seed: int, images: dict[str, dict[str, np.ndarray]], width: float) -> Images:
    """Input, reconstruction and difference of example events, one column each, from the training of one seed."""
    columns = [
        (title, {key: arrays[key][number] for key in ("input", "reconstruction") if key in arrays})
        for title, arrays in images.items()
        for number in range(len(arrays["input"]))
    ]
    rows = [[_image(title, column["input"]) for title, column in columns]]
    if all("reconstruction" in column for _, column in columns):
        rows.append([_image("reconstruction", column["reconstruction"]) for _, column in columns])
        rows.append([_image("difference", column["input"] - column["reconstruction"]) for _, column in columns])
    return _images(f"Jet images, {name}, training with seed {seed}", rows, width)


def _images(title: str, rows: list[list[Image]], width: float) -> Images:
    return Images(
        title=title,
        rows=rows,
        window=(-width / 2, width / 2),
        x=Axis(label=r"$\eta'$"),
        y=Axis(label=r"$\phi'$"),
        color=Axis(label=r"pixel $p_T$ fraction", log=True),
    )


def _image(title: str, values: np.ndarray) -> Image:
    return Image(title=title, values=values.tolist())


def _banded(scorer: Scorer, curve: Callable[[Roc], np.ndarray]) -> Line:
    """Median and 68 % band over trainings, where background passes in each of them."""
    measured = np.all([roc.background_at(EFFICIENCIES) > 0 for roc in scorer.rocs], axis=0)
    runs = [curve(roc)[measured] for roc in scorer.rocs]
    return banded_line(scorer.name, EFFICIENCIES[measured], runs, scorer.role)


def _guide(label: str, x: np.ndarray, y: np.ndarray) -> Line:
    return Line(label=label, x=x.tolist(), y=y.tolist(), role="guide")


def _ranks(score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The weighted fraction of events with a smaller score, half of those with the same one."""
    _, which = np.unique(score, return_inverse=True)
    total = np.bincount(which, weights=weight)
    return ((np.cumsum(total) - total / 2) / total.sum())[which]


def _quantile(values: np.ndarray, weight: np.ndarray, fraction: float) -> float:
    """The weighted quantile; numpy's takes no weights before version 2."""
    order = np.argsort(values)
    cumulative = np.cumsum(weight[order])
    return float(np.interp(fraction, (cumulative - weight[order] / 2) / cumulative[-1], values[order]))


def _density(
    values: np.ndarray, weight: np.ndarray, edges: np.ndarray, error_weight: np.ndarray | None = None
) -> dict[str, list[float]]:
    """Density and its standard deviation per bin, unit area over all events."""
    error_weight = weight if error_weight is None else error_weight
    norm = weight.sum() * np.diff(edges)
    counts, _ = np.histogram(values, edges, weights=weight)
    squares, _ = np.histogram(values, edges, weights=error_weight**2)
    return {"values": (counts / norm).tolist(), "errors": (np.sqrt(squares) / norm).tolist()}
