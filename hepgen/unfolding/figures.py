"""The figures of the unfolding analysis: which there are, and their numbers from binned spectra."""

from dataclasses import dataclass

import numpy as np

from hepgen.config import Config, Unfolding
from hepgen.metrics.divergences import effective_events
from hepgen.metrics.histograms import Counts
from hepgen.metrics.intervals import Interval
from hepgen.observables import describe
from hepgen.plots.figures import Axis, Comparison, Curves, Histogram, Line, Marker, Points, banded_line
from hepgen.unfolding.spectra import Spectrum

__all__ = [
    "Spectra",
    "Unfolded",
    "figure_names",
    "has_truth",
    "iterations_figure",
    "spectra_figure",
    "triangular_figure",
    "weights_figure",
]

WEIGHT_EDGES = np.linspace(0, 5, 101)
DISCRIMINATOR = r"triangular discriminator $\times 10^3$"
FLOOR = "floor of two independent samples"


@dataclass(frozen=True)
class Unfolded:
    """One method's spectra of one observable, for S seeds and K iterations, scaled to the data's yield.

    Attributes:
        values: Truth-level contents, shape (S, K, bins).
        variances: Their variances, without the seeds' spread.
        refolded: Detector-level contents that they predict, shape (S, K, bins).
    """

    values: np.ndarray
    variances: np.ndarray
    refolded: np.ndarray


@dataclass(frozen=True)
class Spectra:
    """All spectra of one observable in the same bins, without under- and overflow.

    Attributes:
        spectrum: The bins.
        truth: Truth level of the data, where it is known.
        measured: Detector level of the data.
        prior: Truth level of the simulation.
        folded: Detector level of the simulation.
        methods: Results by method.
    """

    spectrum: Spectrum
    truth: Counts | None
    measured: Counts
    prior: Counts
    folded: Counts
    methods: dict[str, Unfolded]

    @property
    def one_dimensional(self) -> bool:
        """Whether it is the spectrum of one observable."""
        return len(self.spectrum.observables) == 1


def figure_names(config: Config) -> list[str]:
    """The figures that an evaluation of this configuration writes."""
    block = config.unfolding
    unfolded = [f"unfolded_{name}" for name in block.observables]
    scored = ["triangular", "iterations"] if has_truth(config) else []
    return [*unfolded, *scored, *(["weights"] if _reweights(block) else [])]


def has_truth(config: Config) -> bool:
    """Whether the data are simulated, so that a result can be held against their truth."""
    known = config.columns_of(config.unfolding.data, "truth")
    return set(config.unfolding.observables) <= set(known)


def _reweights(block: Unfolding) -> bool:
    return any(method.type != "ibu" for method in block.methods.values())


def _not_retrained(block: Unfolding) -> list[str]:
    """The note to intervals that leave out a part of OmniFold's."""
    return ["OmniFold: networks not retrained on resampled data, a lower bound"] if _reweights(block) else []


def spectra_figure(spectra: Spectra, chosen: dict[str, int], block: Unfolding) -> Comparison:
    """One observable: truth, prior, data at detector level, and every method's chosen iteration."""
    (edges,), (reco_edges,) = spectra.spectrum.truth, spectra.spectrum.reco
    histograms = [
        _histogram("simulation, truth (prior)", spectra.prior, edges, "baseline" if spectra.truth else "reference")
    ]
    if spectra.truth:
        histograms.insert(0, _histogram(f"{block.data}, truth", spectra.truth, edges, "reference"))
    if np.array_equal(edges, reco_edges):
        histograms.append(_histogram(f"{block.data}, detector level", spectra.measured, edges, "data"))
    for name, result in spectra.methods.items():
        values, variances = result.values[:, chosen[name]], result.variances[:, chosen[name]]
        spread = values.var(0, ddof=1) if len(values) > 1 else 0.0
        combined = Counts(np.median(values, 0), np.median(variances, 0) + spread)
        histograms.append(_histogram(name, combined, edges, "model"))
    observable = describe(spectra.spectrum.name)
    unit = f" [1/{observable.unit}]" if observable.unit else ""
    return Comparison(
        title=f"unfolded {observable.label}",
        edges=edges.tolist(),
        histograms=histograms,
        x=Axis(label=observable.axis_label),
        y=Axis(label=f"normalised to unit area{unit}"),
        ratio=Axis(label="ratio to truth" if spectra.truth else "ratio to prior", range=(0.5, 1.5)),
        notes=[
            "methods: median over seeds; errors: statistics of data and simulation, and the spread over seeds",
            *_not_retrained(block),
        ],
    )


def triangular_figure(
    block: Unfolding, chosen: dict[str, int], series: dict[str, list[Interval]], floor: list[float]
) -> Points:
    """The discriminator of every estimate of the truth, by observable."""
    numbers = ", ".join(f"{name} {iteration + 1}" for name, iteration in chosen.items())
    return Points(
        title="distance from the truth",
        categories=[describe(name).label for name in block.observables],
        series={label: [tuple(interval) for interval in intervals] for label, intervals in series.items()},
        floor=floor,
        floor_label=FLOOR,
        y=Axis(label=DISCRIMINATOR, log=True),
        notes=[
            f"iterations: {numbers}, not chosen by this truth; 68 % intervals: bootstrap of events and seeds",
            *_not_retrained(block),
        ],
    )


def iterations_figure(
    detector: dict[str, np.ndarray], truth: dict[str, np.ndarray], prior: tuple[float, float], floor: float
) -> Curves:
    """The discriminator, averaged over observables, against the iteration.

    Args:
        detector: Refolded result against data by method, shape (S, K): all that a measurement can see.
        truth: Unfolded result against truth, shape (S, K), for scoring only.
        prior: Detector-level and truth-level value of the simulation as it is, iteration 0.
        floor: Statistical floor of the prior at truth level.
    """
    lines = [_against_iteration(f"{m}, detector level", prior[0], values, "model") for m, values in detector.items()]
    lines += [_against_iteration(f"{m}, truth (scoring only)", prior[1], values, "cut") for m, values in truth.items()]
    return Curves(
        title="convergence",
        lines=lines,
        x=Axis(label="iteration"),
        y=Axis(label=DISCRIMINATOR, log=True),
        markers=[Marker(label=FLOOR, at=floor, axis="y")],
        notes=["mean over observables; iteration 0 is the simulation as it is; no iteration is chosen by the truth"],
    )


def weights_figure(weights: dict[str, np.ndarray]) -> Curves:
    """Distribution of the last iteration's event weights by method, each of shape (S, n) and of mean one."""
    lines, sizes = [], []
    centers = (WEIGHT_EDGES[:-1] + WEIGHT_EDGES[1:]) / 2
    for method, of_seeds in weights.items():
        inside = np.minimum(of_seeds, WEIGHT_EDGES[-1])
        shares = np.array([np.histogram(w, WEIGHT_EDGES)[0] / len(w) for w in inside])
        lines.append(banded_line(method, centers, shares))
        effective = np.median([effective_events(w) for w in of_seeds])
        sizes.append(f"{method} {effective:,.0f} of {of_seeds.shape[1]:,}")
    return Curves(
        title="event weights of the unfolded simulation",
        lines=lines,
        x=Axis(label="event weight"),
        y=Axis(label="fraction of events"),
        markers=[Marker(label="unchanged", at=1.0, axis="x")],
        notes=[
            "the last bin holds all larger weights",
            r"effective sample size $(\sum w)^2 / \sum w^2$, median over seeds: " + ", ".join(sizes),
        ],
    )


def _histogram(label: str, counts: Counts, edges: np.ndarray, role: str) -> Histogram:
    """Contents as a density of unit area within the edges."""
    scale = 1 / (counts.values.sum() * np.diff(edges))
    values, errors = counts.values * scale, np.sqrt(counts.variances) * scale
    return Histogram(label=label, values=values.tolist(), errors=errors.tolist(), role=role)


def _against_iteration(label: str, start: float, values: np.ndarray, role: str) -> Line:
    """Median and band over seeds, with the value before the first iteration in front."""
    steps = np.concatenate([np.full((len(values), 1), start), values], axis=1)
    return banded_line(label, np.arange(steps.shape[1]), steps, role)
