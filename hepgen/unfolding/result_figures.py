"""The numbers of the figures of unfolded results."""

from collections.abc import Sequence

import numpy as np

from hepgen.config import Unfolding
from hepgen.metrics.divergences import effective_events
from hepgen.metrics.histograms import Counts
from hepgen.observables import describe
from hepgen.plots.figures import (
    Axis,
    Comparison,
    Curves,
    Histogram,
    Line,
    Map,
    Maps,
    Marker,
    Panels,
    Points,
    banded_line,
    known,
    steps,
)
from hepgen.unfolding.comparison import Spectra
from hepgen.unfolding.iterations import Averages
from hepgen.unfolding.scores import PRIOR, Scores, discriminator
from hepgen.unfolding.spectra import At
from hepgen.unfolding.uncertainties import Budget

__all__ = [
    "calibration_figure",
    "correlation_figure",
    "iterations_figure",
    "plane_figure",
    "refolded_figure",
    "toys_figure",
    "triangular_figure",
    "uncertainty_figure",
    "unfolded_figure",
    "weights_figure",
]

WEIGHT_EDGES = np.linspace(0, 5, 51)
DISCRIMINATOR = r"triangular discriminator $\times 10^3$"
FLOOR = "floor of two independent samples"
NOT_RETRAINED = "networks are not retrained on resampled events: lower bounds of the methods that have some"


def unfolded_figure(block: Unfolding, spectra: Spectra) -> Comparison:
    """One observable at particle level: truth, prior, data as measured, and every method's result."""
    (edges,) = spectra.spectrum.truth
    first = spectra.first
    reference = "baseline" if spectra.truth else "reference"
    histograms = [_counted(f"{block.simulation}, truth (prior)", first.prior, edges, reference)]
    if spectra.truth:
        histograms.insert(0, _counted(f"{block.data}, truth", spectra.truth, edges, "reference"))
    for method, budget in spectra.budgets.items():
        errors = [budget.statistical, budget.total] if _replicated(budget) else [budget.total]
        histograms.append(_shape(method, budget.central, errors, edges, "model"))
    if spectra.spectrum.same_bins:
        histograms.append(_counted(f"{block.data}, detector level", first.measured, edges, "data"))
    notes = [f"iterations: {_numbers(spectra)}; methods: mean over seeds", *_bands(spectra)]
    return _compared("unfolded", spectra, "truth", histograms, "truth" if spectra.truth else "prior", notes)


def refolded_figure(block: Unfolding, spectra: Spectra) -> Comparison:
    """One observable at detector level: data, simulation, and what every method's result predicts."""
    (edges,) = spectra.spectrum.reco
    first = spectra.first
    histograms = [
        _counted(f"{block.data} (data)", first.measured, edges, "reference"),
        _counted(f"{block.simulation} (simulation)", first.folded, edges, "baseline"),
    ]
    for method, result in spectra.results.items():
        values = result.refolded["nominal"][:, spectra.chosen[method]]
        spread = np.atleast_2d(np.cov(values, rowvar=False)) if len(values) > 1 else np.zeros((len(edges) - 1,) * 2)
        histograms.append(_shape(method, values.mean(0), [spread / len(values)], edges, "model"))
    notes = [
        f"iterations: {_numbers(spectra)}; data without the background",
        "bands: statistics of the data, scatter of the seeds; agreement here does not make a result right",
    ]
    return _compared("refolded", spectra, "reco", histograms, "data", notes)


def _compared(
    what: str, spectra: Spectra, at: At, histograms: list[Histogram], reference: str, notes: list[str]
) -> Comparison:
    """Densities of one observable at a level and their ratios to the reference."""
    observable, level = describe(spectra.spectrum.name), "particle level" if at == "truth" else "detector level"
    unit = f" [1/{observable.unit}]" if observable.unit else ""
    return Comparison(
        title=f"{what}: {observable.label}",
        edges=spectra.spectrum.edges(at)[0].tolist(),
        histograms=histograms,
        x=Axis(label=f"{level}: {observable.axis_label}"),
        y=Axis(label="normalised to unit area" + unit),
        ratio=Axis(label=f"ratio to {reference}", range=(0.5, 1.5)),
        apart=len(spectra.results) > 2,
        notes=notes,
    )


def uncertainty_figure(spectra: Spectra, methods: Sequence[str]) -> Panels:
    """Relative uncertainties of one observable by source, a panel for each method."""
    (edges,) = spectra.spectrum.truth
    observable = describe(spectra.spectrum.name)
    panels = []
    for method in methods:
        budget = spectra.budgets[method]
        parts = {"total": budget.total, **budget.components}
        relative = {source: _relative(budget.central, matrix) for source, matrix in parts.items()}
        lines = [
            steps(f"{source} instead of the simulation" if source in budget.shifts else source, edges, values)
            for source, values in relative.items()
        ]
        x = Axis(label=observable.axis_label, range=(edges[0], edges[-1]))
        y = Axis(label="relative uncertainty", log=True, range=(1e-3, 2.0))
        panels.append(Curves(title=method, lines=lines, x=x, y=y))
    return Panels(
        title=f"uncertainties: {observable.label}",
        panels=panels,
        notes=[
            "data, simulation: bootstrap replicas; seeds: of their mean; other simulations: shift of the result",
            "bins without events are left out",
        ],
    )


def correlation_figure(spectra: Spectra, methods: Sequence[str]) -> Maps:
    """Correlations of the total uncertainties of one observable."""
    edges = spectra.spectrum.truth[0].tolist()
    axis = Axis(label=describe(spectra.spectrum.name).axis_label)
    maps = []
    for method in methods:
        budget = spectra.budgets[method]
        uncertain = np.diag(budget.total) > 0
        matrix = np.where(np.outer(uncertain, uncertain), budget.correlation, np.nan)
        maps.append(Map(title=method, values=known(matrix)))
    return Maps(
        title=f"correlation of the total uncertainty: {describe(spectra.spectrum.name).label}",
        maps=maps,
        edges=(edges, edges),
        x=axis,
        y=axis,
        color=Axis(label="correlation", range=(-1.0, 1.0)),
        center=0.0,
    )


def plane_figure(block: Unfolding, spectra: Spectra) -> Maps:
    """Two observables unfolded together: ratios of the prior and of every result to the truth, or to the prior."""
    first = spectra.first
    target, name = (spectra.truth, "truth") if spectra.truth else (first.prior, "prior")
    # As in comparisons: where the target is not known to a factor of two, no ratio to it says anything.
    certain = target.values > 2 * np.sqrt(target.variances)
    results = {method: budget.central for method, budget in spectra.budgets.items()}
    if spectra.truth:
        results = {f"{block.simulation} ({PRIOR})": first.prior.values} | results
    scale = target.values.sum()
    maps = []
    for label, values in results.items():
        ratio = np.full(len(values), np.nan)
        np.divide(values / values.sum(), target.values / scale, out=ratio, where=certain)
        maps.append(Map(title=label, values=known(ratio.reshape(spectra.spectrum.shape("truth")))))
    x, y = (Axis(label=describe(observable).axis_label) for observable in spectra.spectrum.observables)
    return Maps(
        title=f"unfolded plane: {spectra.spectrum.name.replace('_', ' ')}",
        maps=maps,
        edges=tuple(edges.tolist() for edges in spectra.spectrum.truth),
        x=x,
        y=y,
        color=Axis(label=f"ratio to {name}", range=(0.5, 1.5)),
        center=1.0,
        notes=["all of unit area; cells where the denominator is not known to a factor of two are left out"],
    )


def toys_figure(averages: dict[str, Averages], chosen: dict[str, int], toys: int) -> Panels:
    """Bias, variance, mean squared error and coverage of the toys against the iteration, by method."""
    titles = {
        "squared_bias": "squared bias",
        "variance": "variance",
        "mse": "mean squared error",
        "coverage": "coverage of one standard deviation",
    }
    panels = []
    for part, title in titles.items():
        lines = []
        for method, found in averages.items():
            value, error = getattr(found, part)
            x = np.arange(1.0, len(value) + 1).tolist()
            bounds = {"low": (value - error).tolist(), "high": (value + error).tolist()}
            lines.append(Line(label=method, x=x, y=value.tolist(), **bounds))
        covers = part == "coverage"
        y = Axis(label="share of toys", range=(0.0, 1.0)) if covers else Axis(label="in units of the expected contents")
        markers = [Marker(label=method, at=chosen[method] + 1, axis="x") for method in averages]
        if covers:
            reachable = float(np.concatenate([found.expected for found in averages.values()]).mean())
            markers.append(Marker(label=f"{100 * reachable:.0f} % expected", at=reachable, axis="y"))
        panels.append(Curves(title=title, lines=lines, x=Axis(label="iteration"), y=y, markers=markers))
    return Panels(
        title=f"{toys} pseudo-experiments of known truth",
        panels=panels,
        notes=[
            "means over the populated bins of all spectra; bands: standard error",
            "dotted: the reported iteration, of the smallest mean squared error among those that cover as often as "
            "widths from so few replicas can",
        ],
    )


def triangular_figure(block: Unfolding, spectra: Sequence[Spectra], scores: Scores) -> Points:
    """The discriminator of every estimate of the truth, by observable."""
    names = [one.spectrum.name for one in spectra]
    found = scores.at("truth")
    series = {
        estimate: [tuple(scores.interval(of[name])) if name in of else None for name in names]
        for estimate, of in found.items()
    }
    reweighted = any(method.type != "ibu" for method in block.methods.values())
    return Points(
        title="distance from the truth",
        categories=[describe(name).label for name in names],
        series=series,
        floor=[found[PRIOR][name].floor for name in names],
        floor_label=FLOOR,
        y=Axis(label=DISCRIMINATOR, log=True),
        notes=[
            f"iterations: {_numbers(spectra[0])}, not chosen by this truth; 68 % intervals: bootstrap of events, seeds",
            *([NOT_RETRAINED] if reweighted else []),
        ],
    )


def iterations_figure(spectra: Sequence[Spectra], scores: Scores) -> Curves:
    """The discriminator, averaged over observables, against the iteration: at detector level, and for scoring only."""
    lines = []
    for level, label, role in (("reco", "detector level", "model"), ("truth", "truth (scoring only)", "cut")):
        start = np.mean([score.nominal for score in scores.at(level)[PRIOR].values()])
        for method in spectra[0].results:
            values = np.mean([_discriminators(one, method, level) for one in spectra], 0)
            at = np.concatenate([np.full((len(values), 1), start), values], axis=1)
            lines.append(banded_line(f"{method}, {label}", np.arange(at.shape[1]), at, role))
    floor = float(np.mean([score.floor for score in scores.at("truth")[PRIOR].values()]))
    return Curves(
        title="convergence",
        lines=lines,
        x=Axis(label="iteration"),
        y=Axis(label=DISCRIMINATOR, log=True),
        markers=[Marker(label=FLOOR, at=floor, axis="y")],
        notes=["mean over observables; iteration 0 is the simulation as it is; no iteration is chosen by the truth"],
    )


def _discriminators(spectra: Spectra, method: str, level: str) -> np.ndarray:
    """Those of every seed and iteration, shape (S, K)."""
    result = spectra.results[method]
    if level == "truth":
        return discriminator(result.nominal, spectra.truth.values)
    return discriminator(result.refolded["nominal"], result.measured.values)


def weights_figure(weights: dict[str, np.ndarray]) -> Curves:
    """Distribution of the event weights of the chosen iteration by method, shape (S, n), scaled to a mean of one."""
    lines, sizes = [], []
    for method, of_seeds in weights.items():
        inside = np.minimum(of_seeds / of_seeds.mean(1, keepdims=True), WEIGHT_EDGES[-1])
        shares = np.array([np.histogram(w, WEIGHT_EDGES)[0] / len(w) for w in inside])
        share = np.where(shares.any(0), shares.mean(0), np.nan)
        lines.append(steps(method, WEIGHT_EDGES, share, shares.std(0)))
        effective = np.median([effective_events(w) for w in of_seeds])
        sizes.append(f"{method} {effective:,.0f} of {of_seeds.shape[1]:,}")
    smallest = 0.5 / max(of_seeds.shape[1] for of_seeds in weights.values())
    return Curves(
        title="event weights of the unfolded simulation",
        lines=lines,
        x=Axis(label="event weight, mean 1"),
        y=Axis(label="share of events", log=True, range=(smallest, 1.0)),
        markers=[Marker(label="unchanged", at=1.0, axis="x")],
        notes=[
            "the last bin holds all larger weights; mean and standard deviation over seeds",
            r"effective sample size $(\sum w)^2 / \sum w^2$, median over seeds: " + ", ".join(sizes),
        ],
    )


def calibration_figure(tables: dict[str, np.ndarray]) -> Panels:
    """How often the classifiers are right: label against output, for both steps of the chosen iteration.

    Args:
        tables: By method (2, bins, 3): mean output, mean label and its error at detector level and at truth level.
    """
    panels = []
    for step, title in enumerate(("detector level: data against simulation", "particle level: reweighted against not")):
        lines = []
        for method, table in tables.items():
            predicted, observed, error = table[step, np.isfinite(table[step]).all(-1)].T
            gap = observed - predicted
            bounds = {"low": (gap - error).tolist(), "high": (gap + error).tolist()}
            lines.append(Line(label=method, x=predicted.tolist(), y=gap.tolist(), **bounds))
        x, y = Axis(label="output of the classifier"), Axis(label="mean label − output")
        markers = [Marker(label="calibrated", at=0.0, axis="y")]
        panels.append(Curves(title=title, lines=lines, x=x, y=y, markers=markers))
    return Panels(
        title="calibration of the classifiers",
        panels=panels,
        notes=[
            "bins hold equal numbers of held-out events; events are weighted with the ratio p/(1 − p) of the output p"
        ],
    )


def _counted(label: str, counts: Counts, edges: np.ndarray, role: str) -> Histogram:
    return _shape(label, counts.values, [np.diag(counts.variances)], edges, role)


def _shape(
    label: str, values: np.ndarray, covariances: Sequence[np.ndarray], edges: np.ndarray, role: str
) -> Histogram:
    """Contents as a density of unit area within the edges, with errors from some and from all uncertainties."""
    area = values.sum()
    jacobian = (np.eye(len(values)) - values[:, None] / area) / area / np.diff(edges)[:, None]
    variances = (np.einsum("ij,jk,ik->i", jacobian, matrix, jacobian) for matrix in covariances)
    errors = [np.sqrt(np.maximum(variance, 0)).tolist() for variance in variances]
    total = errors[1] if len(errors) > 1 else None
    density = values / area / np.diff(edges)
    return Histogram(label=label, values=density.tolist(), errors=errors[0], total=total, role=role)


def _numbers(spectra: Spectra) -> str:
    return ", ".join(f"{name} {iteration + 1}" for name, iteration in spectra.chosen.items())


def _replicated(budget: Budget) -> bool:
    return "events" not in budget.components


def _bands(spectra: Spectra) -> list[str]:
    """What the bands of the methods are."""
    full = [method for method, budget in spectra.budgets.items() if _replicated(budget)]
    rest = [method for method in spectra.budgets if method not in full]
    lines = []
    if full:
        others = list(spectra.budgets[full[0]].shifts)
        total = f"; paler: with {', '.join(others)} instead of the simulation" if others else ""
        lines.append(f"bands of {', '.join(full)}: statistics of data and simulation, seeds{total}")
    if rest:
        lines.append(f"bands of {', '.join(rest)}: statistics and seeds; networks not retrained, a lower bound")
    return lines


def _relative(central: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Standard deviations as shares of the contents, NaN in empty bins."""
    share = np.full(len(central), np.nan)
    return np.divide(np.sqrt(np.diag(covariance)), central, out=share, where=central > 0)
