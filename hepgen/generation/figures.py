"""What the figures of the generation show."""

from collections.abc import Callable

import numpy as np

from hepgen.config import Config
from hepgen.generation.jets import FRACTIONS
from hepgen.generation.results import Odds, Results, Scores, Value, View, views_of
from hepgen.metrics.histograms import Counts, count
from hepgen.metrics.resampling import PERMUTATIONS
from hepgen.plots.figures import Axis, Comparison, Figure, Histogram, Image, Images, Marker, Points
from hepgen.plots.histories import training_curves

__all__ = ["figure_names", "make_figures"]

SHUFFLED = "shuffled columns"
NULL = "truth against truth"
OTHER = "truth, other half"
DISTANCES = {"fpd": "FPD", "sliced_wasserstein": "sliced W1", "max_delta_pearson": "max |Δρ|"}
# The smallest p-value that exchanged events can show; combined over seeds it is up to twice as large.
SMALLEST = 2 / (PERMUTATIONS + 1)
SHARES = ("precision", "recall", "density", "coverage", "memorisation")


def figure_names(config: Config) -> list[str]:
    """Names of all figures that an evaluation writes."""
    return [
        name
        for view in views_of(config)
        for name in (
            *(f"observable{view.suffix}_{observable}" for observable in view.names),
            *(f"{figure}{view.suffix}" for figure in _makers(view)),
        )
    ]


def make_figures(results: Results) -> dict[str, Figure]:
    """All figures of a view by name; see `figure_names`."""
    suffix = results.view.suffix
    observables = {f"observable{suffix}_{name}": _observable(results, k) for k, name in enumerate(results.view.names)}
    return observables | {f"{name}{suffix}": make(results) for name, make in _makers(results.view).items()}


def _makers(view: View) -> dict[str, Callable[[Results], Figure]]:
    """The figures of a view beside those of single observables."""
    makers = {
        "two_sample": _two_sample,
        "weights_generated": lambda results: _weights(results, "generated"),
        "weights_true": lambda results: _weights(results, "true"),
        "weights_where": _where,
        "chi2": _chi2,
        "wasserstein": _wasserstein,
        "tails": _tails,
        "correlations": _correlations,
        "distances": _distances,
        "coverage": _coverage,
        "amplification": _amplification,
        "speed": _speed,
        "training": _training,
    }
    if view.inputs != "features":
        makers["spectrum"] = _spectrum
    return makers | ({"mean": _mean_images} if view.inputs == "images" else {})


def _observable(results: Results, k: int) -> Comparison:
    """Truth, its other half and all models in one observable, the ratio being to the truth."""
    name = results.view.names[k]
    observable = results.view.describe(name)
    shown = {**results.models, NULL: results.null}
    return Comparison(
        title=f"Generated events, {results.size} each",
        edges=results.truth.edges[k].tolist(),
        histograms=_histograms(results, results.truth.counts[k], lambda scores: scores.counts[k]),
        x=Axis(label=observable.axis_label),
        y=Axis(label="events / bin", log=observable.unit == "GeV"),
        ratio=Axis(label="ratio to truth", range=(0.5, 1.5)),
        notes=[f"{label}: χ²/ndf = {_text(scores.values[f'chi2_ndf/{name}'])}" for label, scores in shown.items()]
        + [
            f"{label}: W1 = {_text(scores.values[f'w1/{name}'], exchanged=True)} standard deviations"
            for label, scores in shown.items()
            if f"w1/{name}" in scores.values
        ],
    )


def _histograms(results: Results, truth: Counts, of: Callable[[Scores], Counts]) -> list[Histogram]:
    return [
        _histogram("truth", truth, "reference"),
        _histogram(OTHER, of(results.null), "baseline"),
        *(_histogram(model, of(scores), "model") for model, scores in results.models.items()),
    ]


def _histogram(label: str, counts: Counts, role: str) -> Histogram:
    inside = slice(1, -1)
    return Histogram(
        label=label, values=counts.values[inside].tolist(), errors=np.sqrt(counts.variances[inside]).tolist(), role=role
    )


def _text(value: Value, *, exchanged: bool = False) -> str:
    """A value with its error and p-value; one of exchanged events may be an upper limit."""
    p = ""
    if value.p_value is not None:
        p = f" (p {'≤' if exchanged and value.p_value <= SMALLEST else '='} {value.p_value:.2g})"
    return f"{value.value:.3g} ± {(value.up + value.down) / 2:.2g}{p}"


def _bar(scores: Scores, metric: str) -> tuple[float, float, float] | None:
    """A figure of merit as a point with its interval, where it could be measured."""
    return scores.values[metric].interval if metric in scores.values else None


def _known(scores: Scores, metric: str) -> float | None:
    return scores.values[metric].value if metric in scores.values else None


def _two_sample(results: Results) -> Points:
    """Both classifiers' areas for every model."""
    tests = {"gradient-boosted trees": "c2st_auc", "MLP": "c2st_auc_mlp"}
    scores = {**results.models, SHUFFLED: results.baseline}
    return Points(
        title="Classifier two-sample test",
        categories=list(scores),
        series={label: [_bar(s, metric) for s in scores.values()] for label, metric in tests.items()},
        floor=[results.nulls.get(name, results.null).values["c2st_auc"].value for name in scores],
        floor_label=f"{NULL} (trees)",
        y=Axis(label="AUC, generated against truth"),
        notes=[
            f"{name}: {', '.join(f'{label} {_text(s.values[metric])}' for label, metric in tests.items())}"
            for name, s in {**results.models, NULL: results.null}.items()
        ],
    )


def _weights(results: Results, side: str) -> Comparison:
    """How the classifier's weights are distributed, for generated or for true events."""
    shown: dict[str, Odds] = {name: getattr(s, side) for name, s in results.models.items()}
    null = getattr(results.null, side)
    limit = max(np.quantile(np.abs(odds.log), 0.999) for odds in (null, *shown.values())) / np.log(10)
    edges = np.linspace(-limit, limit, 41)
    return Comparison(
        title=f"Weights of {side} events, by trees that have not seen them",
        edges=edges.tolist(),
        histograms=[
            _histogram(NULL, _shares(null, edges), "reference"),
            *(_histogram(name, _shares(odds, edges), "model") for name, odds in shown.items()),
        ],
        x=Axis(label="log10 weight (truth / generated)"),
        y=Axis(label="share of events / bin", log=True),
        ratio=Axis(label="ratio to null", range=(0, 2)),
    )


def _shares(odds: Odds, edges: np.ndarray) -> Counts:
    counts = count(odds.log / np.log(10), edges, odds.weight)
    total = odds.weight.sum()
    return Counts(counts.values / total, counts.variances / total**2)


def _where(results: Results) -> Images:
    """Where in each observable the weights are large."""
    shown = {**results.models, NULL: results.null}
    size = len(results.view.names)
    return Images(
        title=f"Where the classifier's weights are large\n{_numbered(results)}",
        rows=[
            [_image(name, s.where) for name, s in shown.items()],
            [_image(name, s.missing - 1) for name, s in shown.items()],
        ],
        window=(0.5, size + 0.5),
        x=Axis(label="observable"),
        y=Axis(label=f"quantile bin of the truth (of {size})"),
        color=Axis(label=""),
    )


def _image(title: str, matrix: np.ndarray) -> Image:
    return Image(title=title, values=matrix.tolist())


def _numbered(results: Results) -> str:
    return ", ".join(f"{k + 1} {name}" for k, name in enumerate(results.view.names))


def _chi2(results: Results) -> Points:
    return _by_observable(results, "chi2_ndf", "Histograms of generated and true events", r"$\chi^2$ / ndf")


def _wasserstein(results: Results) -> Points:
    label = "W1 [standard deviations of truth]"
    return _by_observable(results, "w1", "Wasserstein distance to truth", label)


def _by_observable(results: Results, metric: str, title: str, label: str) -> Points:
    """A figure of merit of every observable, over its null value."""
    scores = {**results.models, SHUFFLED: results.baseline}
    names = results.view.names
    return Points(
        title=title,
        categories=[results.view.describe(name).label for name in names],
        series={model: [_bar(s, f"{metric}/{name}") for name in names] for model, s in scores.items()},
        floor=[_known(results.null, f"{metric}/{name}") for name in names],
        floor_label=NULL,
        y=Axis(label=label, log=True),
    )


def _tails(results: Results) -> Points:
    """Events above the truth's outermost quantile that can be measured."""
    scores = {**results.models, NULL: results.null}
    quantiles = ("99.9", "99")
    found = next(
        (q for q in quantiles if any(f"tail_{q}/{n}" in results.null.values for n in results.view.names)), None
    )
    names = results.view.names
    return Points(
        title=f"Upper tails: above the truth's {found} % quantile" if found else "Upper tails",
        categories=[results.view.describe(name).label for name in names],
        series={model: [_bar(s, f"tail_{found}/{name}") for name in names] for model, s in scores.items()},
        roles={NULL: "guide"},
        markers=[Marker(label="", at=1.0, axis="y")],
        y=Axis(label="generated / true events"),
        notes=[] if found else ["too few events: less than ten true ones lie above the 99 % quantile"],
    )


def _correlations(results: Results) -> Images:
    """Pearson matrices above, their differences from the truth's below."""
    models = results.models.items()
    differences = {**results.models, OTHER: results.null}
    return Images(
        title=f"Correlation coefficients\n{_numbered(results)}",
        rows=[
            [_image("truth", results.truth.matrix), *(_image(label, s.matrix) for label, s in models)],
            [_image(f"{label} − truth", s.matrix - results.truth.matrix) for label, s in differences.items()],
        ],
        window=(0.5, len(results.view.names) + 0.5),
        x=Axis(label="observable"),
        y=Axis(label="observable"),
        color=Axis(label="coefficient"),
    )


def _distances(results: Results) -> Points:
    """Distances of all observables at once, in units of their null values."""
    scores = {**results.models, SHUFFLED: results.baseline}
    known = {metric: label for metric, label in DISTANCES.items() if metric in results.null.values}
    return Points(
        title="Distances of all observables together",
        categories=list(known.values()),
        series={
            model: [_ratio(s, results.nulls.get(model, results.null), metric) for metric in known]
            for model, s in scores.items()
        },
        markers=[Marker(label=NULL, at=1.0, axis="y")],
        y=Axis(label="distance / its null value", log=True),
        notes=[
            f"{name}: KPD = {_text(s.values['kpd'], exchanged=True)}"
            for name, s in {**scores, NULL: results.null}.items()
            if "kpd" in s.values
        ],
    )


def _ratio(scores: Scores, null: Scores, metric: str) -> tuple[float, float, float] | None:
    """A figure of merit over its null value, with the errors of both."""
    if not (metric in scores.values and metric in null.values) or null.values[metric].value <= 0:
        return None
    unit, *errors = null.values[metric][:3]
    value, down, up = (number / unit for number in scores.values[metric][:3])
    common = value * sum(errors) / 2 / unit
    return value, max(value - float(np.hypot(down, common)), 0.0), value + float(np.hypot(up, common))


def _coverage(results: Results) -> Points:
    """Fidelity, diversity and memorisation."""
    scores = {**results.models, SHUFFLED: results.baseline}
    return Points(
        title="Fidelity, diversity, memorisation",
        categories=list(SHARES),
        series={model: [_bar(s, metric) for metric in SHARES] for model, s in scores.items()},
        floor=[_known(results.null, metric) for metric in SHARES],
        floor_label=NULL,
        y=Axis(label="share of events (density: ratio)"),
        notes=[f"memorisation: {results.truth.searched} of {results.truth.trained_on} training events are looked at"],
    )


def _amplification(results: Results) -> Points:
    """How many true events a training event is worth once it is generated from."""
    known = "amplification" in results.null.values
    return Points(
        title="Amplification",
        categories=list(results.models),
        series={"smallest bound over seeds": [_bar(s, "amplification") for s in results.models.values()]},
        floor=[results.null.values["amplification"].value] * len(results.models) if known else None,
        floor_label="most that can be shown",
        markers=[Marker(label="as good as the training events", at=1.0, axis="y")],
        y=Axis(label="equivalent true events / training events (84 % CL)", log=True),
        notes=[f"{results.truth.trained_on} training events" if known else "too few held-out events to measure it"],
    )


def _spectrum(results: Results) -> Comparison:
    """How the pT of jets is shared among their pixels or particles."""
    what = "pixels" if results.view.inputs == "images" else "particles"
    return Comparison(
        title=f"{what.capitalize()} of {results.size} jets each",
        edges=FRACTIONS.tolist(),
        histograms=_histograms(results, results.truth.events.pixels.spectrum, lambda scores: scores.pixels.spectrum),
        x=Axis(label=r"log10 fraction of the jet's $p_\mathrm{T}$"),
        y=Axis(label=f"{what} / bin", log=True),
        ratio=Axis(label="ratio to truth", range=(0.5, 1.5)),
    )


def _mean_images(results: Results) -> Images:
    """Mean images above, their differences from the truth's below."""
    truth = results.truth.events.pixels.image
    half = results.generation.images.width / 2
    differences = {**results.models, OTHER: results.null}
    return Images(
        title="Mean image of the leading jet",
        rows=[
            [_image("truth", truth), *(_image(name, s.pixels.image) for name, s in results.models.items())],
            [_image(f"{name} − truth", s.pixels.image - truth) for name, s in differences.items()],
        ],
        window=(-half, half),
        x=Axis(label=r"$\eta'$"),
        y=Axis(label=r"$\phi'$"),
        color=Axis(label=r"fraction of the jet's $p_\mathrm{T}$", log=True),
    )


def _speed(results: Results) -> Points:
    return Points(
        title=f"Events per second, drawn on {' and '.join(results.devices)}",
        categories=list(results.rates),
        series={"mean and range over seeds": [(np.mean(r), min(r), max(r)) for r in results.rates.values()]},
        y=Axis(label="events / s", log=True),
        notes=[
            "generators: from noise to observables and weights, without start-up and training",
            "simulation: all jobs that made the sample's events and clustered their jets, with start-up",
        ],
    )


def _training(results: Results) -> Figure:
    """Losses of all models, one training for each seed."""
    return training_curves(
        {
            model: {part: [history.get(part, []) for history in seeds.values()] for part in ("train", "validation")}
            for model, seeds in results.histories.items()
        }
    )
