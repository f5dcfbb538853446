"""What the figures of the generation show."""

from typing import TYPE_CHECKING

import numpy as np

from hepgen.config import Config
from hepgen.generation.dataset import derived_names
from hepgen.observables import describe
from hepgen.plots.figures import Axis, Comparison, Curves, Figure, Histogram, Image, Images, Points
from hepgen.plots.histories import training_curves

if TYPE_CHECKING:
    from hepgen.generation.evaluate import Results
    from hepgen.metrics.histograms import Counts
    from hepgen.metrics.two_sample import Estimate

__all__ = ["figure_names", "make_figures"]

OTHERS = ("two_sample", "wasserstein", "correlations", "speed", "training")
SHUFFLED = "shuffled columns"
NULL = "truth against truth"


def figure_names(config: Config) -> list[str]:
    """Names of all figures that an evaluation writes."""
    features = config.generation.features
    return [f"observable_{name}" for name in (*features, *derived_names(features))] + list(OTHERS)


def make_figures(results: "Results") -> dict[str, Figure]:
    """All figures by name; see `figure_names`."""
    makers = (_two_sample, _wasserstein, _correlations, _speed, _training)
    return {f"observable_{name}": _observable(results, k) for k, name in enumerate(results.names)} | {
        name: make(results) for name, make in zip(OTHERS, makers, strict=True)
    }


def _observable(results: "Results", k: int) -> Comparison:
    """Truth, its other half and all models in one observable, the ratio being to the truth."""
    observable = describe(results.names[k])
    null = results.null
    return Comparison(
        title=f"Generated events, {len(results.truth.x)} each",
        edges=results.truth.edges[k].tolist(),
        histograms=[
            _histogram("truth", results.truth.counts[k], "reference"),
            _histogram("truth, other half", null.counts[k], "baseline"),
            *(_histogram(model, scores.counts[k], "model") for model, scores in results.models.items()),
        ],
        x=Axis(label=observable.axis_label),
        y=Axis(label="events / bin", log=observable.unit == "GeV"),
        ratio=Axis(label="ratio to truth", range=(0.5, 1.5)),
        notes=[
            f"{label}: χ²/ndf = {_text(scores.chi2[k])}, W1 = {_text(scores.wasserstein[k])} standard deviations"
            for label, scores in {**results.models, NULL: null}.items()
        ],
    )


def _histogram(label: str, counts: "Counts", role: str) -> Histogram:
    inside = slice(1, -1)
    return Histogram(
        label=label, values=counts.values[inside].tolist(), errors=np.sqrt(counts.variances[inside]).tolist(), role=role
    )


def _text(estimate: "Estimate") -> str:
    return f"{estimate.value:.3g} ± {estimate.error:.2g}"


def _interval(estimate: "Estimate") -> tuple[float, float, float]:
    value, error = estimate
    return value, max(value - error, 0.0), value + error


def _two_sample(results: "Results") -> Points:
    scores = {**results.models, SHUFFLED: results.baseline}
    return Points(
        title="Classifier two-sample test",
        categories=list(scores),
        series={"generated against truth": [_interval(s.auc) for s in scores.values()]},
        floor=[results.null.auc.value] * len(scores),
        floor_label=NULL,
        y=Axis(label="AUC of gradient-boosted trees"),
        notes=[
            f"{len(results.truth.x)} events on each side, each scored by trees trained on other events; "
            f"{NULL}: {_text(results.null.auc)}"
        ],
    )


def _wasserstein(results: "Results") -> Points:
    scores = {**results.models, SHUFFLED: results.baseline}
    return Points(
        title="Wasserstein distance to truth",
        categories=[describe(name).label for name in results.names],
        series={label: [_interval(e) for e in s.wasserstein] for label, s in scores.items()},
        floor=[e.value for e in results.null.wasserstein],
        floor_label=NULL,
        y=Axis(label="W1 [standard deviations of truth]", log=True),
    )


def _correlations(results: "Results") -> Images:
    """Pearson matrices above, their differences from the truth's below."""
    models = results.models.items()
    differences = {**results.models, "truth, other half": results.null}
    names = ", ".join(f"{k + 1} {name}" for k, name in enumerate(results.names))
    return Images(
        title=f"Correlation coefficients\n{names}",
        rows=[
            [_image("truth", results.truth.matrix), *(_image(label, s.matrix) for label, s in models)],
            [_image(f"{label} − truth", s.matrix - results.truth.matrix) for label, s in differences.items()],
        ],
        window=(0.5, len(results.names) + 0.5),
        x=Axis(label="observable"),
        y=Axis(label="observable"),
        color=Axis(label="coefficient"),
    )


def _image(title: str, matrix: np.ndarray) -> Image:
    return Image(title=title, values=matrix.tolist())


def _speed(results: "Results") -> Points:
    return Points(
        title="Events per second on one machine",
        categories=list(results.rates),
        series={"mean and range over seeds": [(np.mean(r), min(r), max(r)) for r in results.rates.values()]},
        y=Axis(label="events / s", log=True),
        notes=[
            "generators: from noise to observables, without start-up and training",
            "simulation: all jobs that made the sample, with start-up",
        ],
    )


def _training(results: "Results") -> Curves:
    """Losses of all models, one training for each seed."""
    return training_curves(
        {
            model: {part: [history.get(part, []) for history in seeds.values()] for part in ("train", "validation")}
            for model, seeds in results.histories.items()
        }
    )
