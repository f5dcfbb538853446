"""The figures of the tagging analysis: which there are, and the curves and spectra behind them."""

from collections.abc import Callable

import numpy as np

from hepgen.config import Config, Tagger
from hepgen.metrics.roc import FLOOR_EVENTS, FLOOR_PUBLISHED, FLOOR_PUBLISHED_EVENTS
from hepgen.models import TAGGERS
from hepgen.plots.figures import Axis, Comparison, Curves, Histogram, Line, Marker, banded_line
from hepgen.tagging.scorers import EFFICIENCIES, Measured, Population, Scorer, passing, weighted_quantile
from hepgen.tagging.sculpting import REJECTIONS, edges_of

__all__ = [
    "figure_names",
    "inputs_in_use",
    "inputs_of",
    "mass_spectra",
    "of_inputs",
    "passing_fractions",
    "profile",
    "profiled",
    "roc_curves",
    "scan_figures",
    "score_histograms",
    "sic_curves",
    "with_codes",
]

KINDS = ("observables", "images", "constituents")
SIGNAL_EFFICIENCY = Axis(label=r"signal efficiency $\varepsilon_S$", range=(0, 1))


def figure_names(config: Config) -> list[str]:
    """The figures that an evaluation of this configuration writes."""
    tagging = config.tagging
    images = [name for name, model in tagging.models.items() if model.inputs == "images"]
    codes = with_codes(config)
    return [
        *(f"{curve}_{kind}" for kind in inputs_in_use(config) for curve in ("roc", "sic")),
        *(f"merits_{merit}" for merit in ("auc", "rejection", "max_sic", "jsd")),
        "pareto",
        *(f"{kind}_{scan}" for scan in tagging.scans for kind in scan_figures(config, scan)),
        *(["transfer"] if tagging.transfer else []),
        *(f"{kind}_{name}" for name in profiled(config) for kind in ("profile", "passing")),
        *(f"training_{kind}" for kind in inputs_in_use(config)),
        *(f"scores_{name}" for name in tagging.models),
        *(f"mass_sculpting_{name}" for name in tagging.models),
        *(f"{kind}_{name}" for name in codes for kind in ("latent", "collapse")),
        *(["images"] if images else []),
        *(f"reconstruction_{name}" for name in images),
        *(f"interpolation_{name}" for name in images if name in codes),
    ]


def inputs_in_use(config: Config) -> list[str]:
    """The kinds of inputs that the models see, one ROC figure each; observables where there are cuts only."""
    used = {inputs_of(entry) for entry in config.tagging.models.values()}
    return [kind for kind in KINDS if kind in used] or ["observables"]


def inputs_of(entry: Tagger) -> str:
    """What kind of inputs a tagger sees."""
    return entry.inputs if isinstance(entry.inputs, str) else "observables"


def profiled(config: Config) -> list[str]:
    """The observables that no score should know: the mass first."""
    return list(dict.fromkeys([config.tagging.mass, *config.tagging.profiles]))


def with_codes(config: Config) -> list[str]:
    """The models that encode their inputs."""
    models = config.tagging.models
    return [name for name, entry in models.items() if TAGGERS.offers(entry.type, "encode")]


def scan_figures(config: Config, scan: str) -> list[str]:
    """What is shown of a scan: the separation and, where it decorrelates, the sculpting of the mass."""
    decorrelates = config.tagging.scans[scan].vary.startswith("decorrelation")
    return ["scan", "sculpting_scan" if decorrelates else "rejection_scan"]


def of_inputs(measured: list[Measured], kind: str) -> list[Measured]:
    """The models that see one kind of inputs, each with its own score, and what all are held against."""
    return [one for one in measured if one.scorer.first and one.scorer.inputs in (kind, "")]


def roc_curves(measured: list[Measured], kind: str) -> Curves:
    """Background rejection against signal efficiency, as far as one background event passes."""
    lines = [banded_line(m.scorer.label, EFFICIENCIES[m.shown], m.rejection, m.scorer.role) for m in measured]
    lines.append(_guide("random", EFFICIENCIES, 1 / EFFICIENCIES))
    return Curves(
        title=f"Background rejection, {kind}",
        lines=lines,
        x=SIGNAL_EFFICIENCY,
        y=Axis(label=r"background rejection $1/\varepsilon_B$", log=True),
        notes=["band: 68 % over trainings"],
    )


def sic_curves(measured: list[Measured], kind: str) -> Curves:
    """Significance improvement against signal efficiency; below either floor the background left is too small."""
    background = measured[0].events
    floors = {
        "published cut-off": max(FLOOR_PUBLISHED, FLOOR_PUBLISHED_EVENTS / background),
        f"{FLOOR_EVENTS} background events": FLOOR_EVENTS / background,
    }
    lines = []
    for one in measured:
        x = EFFICIENCIES[one.shown]
        lines.append(banded_line(one.scorer.label, x, x * np.sqrt(one.rejection), one.scorer.role))
    lines.append(_guide("random", EFFICIENCIES, np.sqrt(EFFICIENCIES)))
    top = 1.5 * max(y for line in lines for y in line.y)
    for label, floor in floors.items():
        x = np.linspace(0.1, 1, 20) * min(1.0, top * np.sqrt(floor))
        lines.append(_guide(rf"{label}, $\varepsilon_B$ = {floor:.2g}", x, x / np.sqrt(floor)))
    return Curves(
        title=f"Significance improvement, {kind}",
        lines=lines,
        x=SIGNAL_EFFICIENCY,
        y=Axis(label=r"$\varepsilon_S / \sqrt{\varepsilon_B}$", log=True, range=(0.1, top)),
        notes=["above a floor's line: fewer background events than it asks for"],
    )


def profile(population: Population, scorers: list[Scorer], values: np.ndarray, axis: Axis) -> Curves:
    """Median score quantile of background in bins of an observable: 0.5 everywhere if the score does not know it.

    Quantiles put all models on one scale, however long the tails of their scores.

    Args:
        population: The events, of which the background is shown.
        scorers: The scorers.
        values: The observable of all test events, shape (n,).
        axis: How the observable is labelled.
    """
    rows, weight, values = _background(population, values)
    members = _equal_bins(values)

    def medians(score: np.ndarray) -> list[float]:
        rank = _ranks(score[rows], weight)
        return [weighted_quantile(rank[which], weight[which], 0.5) for which in members]

    return Curves(
        title="Score profile of background",
        lines=_per_bin(scorers, medians, _medians(values, members)),
        x=axis,
        y=Axis(label="median score quantile", range=(0, 1)),
        markers=[Marker(label="no correlation", at=0.5, axis="y")],
        notes=["band: 68 % over trainings"],
    )


def passing_fractions(
    population: Population, scorers: list[Scorer], values: np.ndarray, axis: Axis, rejection: float = 0.9
) -> Curves:
    """How much background passes a cut that rejects 90 % of it, in the bins of `profile` and with its arguments.

    A median may be flat where the tail that a cut keeps is not. Beside it stands the binomial spread of as many events.
    """
    rows, weight, values = _background(population, values)
    members = _equal_bins(values)

    def fractions(score: np.ndarray) -> list[float]:
        kept = passing(score[rows], weight, rejection)
        return [float(np.average(kept[which], weights=weight[which])) for which in members]

    centers = _medians(values, members)
    lines = _per_bin(scorers, fractions, centers)
    events = np.array([weight[which].sum() ** 2 / np.sum(weight[which] ** 2) for which in members])
    flat, spread = np.full(len(events), 1 - rejection), np.sqrt(rejection * (1 - rejection) / events)
    band = {"low": (flat - spread).tolist(), "high": (flat + spread).tolist()}
    lines.append(Line(label="random cut, 68 % over events", x=centers, y=flat.tolist(), role="guide", **band))
    return Curves(
        title=f"Background that passes the cut which rejects {100 * rejection:g} % of it",
        lines=lines,
        x=axis,
        y=Axis(label="fraction that passes"),
        notes=["coloured bands: 68 % over trainings, which share the events"],
    )


def _equal_bins(values: np.ndarray, bins: int = 10) -> list[np.ndarray]:
    """The events in each of some bins of equal population; equal values share a bin."""
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)))
    bin_of = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
    return [which for which in (np.flatnonzero(bin_of == number) for number in range(bins)) if len(which)]


def _medians(values: np.ndarray, members: list[np.ndarray]) -> list[float]:
    return [float(np.median(values[which])) for which in members]


def _per_bin(scorers: list[Scorer], measure: Callable[[np.ndarray], list[float]], centers: list[float]) -> list[Line]:
    """What is measured of each training's score in each bin."""
    return [
        banded_line(scorer.label, centers, [measure(score) for score in scorer.scores], scorer.role)
        for scorer in scorers
    ]


def mass_spectra(population: Population, scorer: Scorer, mass: np.ndarray, axis: Axis) -> Comparison:
    """Mass spectrum of background before and after cuts on the score, averaged over trainings, unit area.

    Args:
        population: The events, of which the background is shown.
        scorer: The scorer.
        mass: The mass of all test events, shape (n,).
        axis: How the mass is labelled.
    """
    rows, weight, mass = _background(population, mass)
    edges = edges_of(mass)
    histograms = [Histogram(label="all background", role="reference", **_density(mass, weight, edges))]
    for rejection in REJECTIONS:
        # A training more is no independent event: the mean over trainings has the error of one.
        share = np.mean([passing(score[rows], weight, rejection) for score in scorer.scores], axis=0)
        histograms.append(
            Histogram(
                label=f"{100 * rejection:g} % rejected",
                **_density(mass, weight * share, edges, weight * np.sqrt(share)),
            )
        )
    return Comparison(
        title=f"Background mass spectrum, {scorer.label}",
        edges=edges.tolist(),
        histograms=histograms,
        x=axis,
        y=Axis(label="probability density"),
        ratio=Axis(label="cut / all", range=(0.5, 1.5)),
    )


def _background(population: Population, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places, weights and observable of the background."""
    which = population.label == 0
    return population.rows[which], population.weight[which], values[population.rows[which]]


def score_histograms(population: Population, scorer: Scorer, seed: int, bins: int = 40) -> Comparison:
    """Score of background and of signal events between the 0.1 % and 99.9 % quantiles.

    Args:
        population: The events.
        scorer: A scorer, of which the first training is shown.
        seed: That training's seed.
        bins: Number of bins.
    """
    score, label, weight = scorer.scores[0][population.rows], population.label, population.weight
    positive = bool(np.all(score > 0))
    values = np.log10(score) if positive else score
    low, high = np.quantile(values, [0.001, 0.999])
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    parts = {"background": ("reference", label == 0), "signal": ("model", label == 1)}
    return Comparison(
        title=f"Anomaly score, {scorer.label}",
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


def _guide(label: str, x: np.ndarray, y: np.ndarray) -> Line:
    return Line(label=label, x=x.tolist(), y=y.tolist(), role="guide")


def _ranks(score: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The weighted fraction of events with a smaller score, half of those with the same one."""
    _, which = np.unique(score, return_inverse=True)
    total = np.bincount(which, weights=weight)
    return ((np.cumsum(total) - total / 2) / total.sum())[which]


def _density(
    values: np.ndarray, weight: np.ndarray, edges: np.ndarray, error_weight: np.ndarray | None = None
) -> dict[str, list[float]]:
    """Density and its standard deviation per bin, unit area over all events."""
    error_weight = weight if error_weight is None else error_weight
    norm = weight.sum() * np.diff(edges)
    counts, _ = np.histogram(values, edges, weights=weight)
    squares, _ = np.histogram(values, edges, weights=error_weight**2)
    return {"values": (counts / norm).tolist(), "errors": (np.sqrt(squares) / norm).tolist()}
