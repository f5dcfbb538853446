"""What the figures of the overview show."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from hepgen.config import Config
from hepgen.metrics.histograms import count
from hepgen.observables import Observable, describe
from hepgen.plots.figures import Axis, Comparison, Histogram

__all__ = ["comparison", "contents", "figure_names"]

# Of samples that hepgen clusters, whose tables hold far more.
MAIN = ("mjj", "pt_j1", "mass_j1", "tau21_j1", "multiplicity_j1")
BINS = 50


def figure_names(config: Config) -> list[str]:
    """Names of all figures: the observables of samples whose jets are defined alike stand together."""
    return [f"{group}_{observable}" for group, observable in contents(config)]


def contents(config: Config) -> dict[tuple[str, str], list[str]]:
    """The samples that each figure shows, by jet definition (``table`` for those without one) and observable.

    Clustered samples show their main observables, others all that they bring themselves.
    """
    shown: dict[tuple[str, str], list[str]] = defaultdict(list)
    for name, sample in config.samples.items():
        own = sample.is_table or sample.has_jets
        for observable in config.columns_of(name):
            if (own or observable in MAIN) and observable not in ("label", "weight"):
                shown[sample.jets or "table", observable].append(name)
    return shown


def comparison(name: str, samples: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Comparison:
    """One observable of all samples that have it, each normalised to unit area; the first one is the reference.

    Args:
        name: Column of the observable.
        samples: Values and weights of each sample, shape (n,), NaN where an event lacks the observable.
    """
    observable = describe(name)
    finite = {label: (x[np.isfinite(x)].astype(float), w[np.isfinite(x)]) for label, (x, w) in samples.items()}
    values = np.concatenate([x for x, _ in finite.values()])
    edges = np.linspace(*(_range(observable, values) if len(values) else (0, 1)), BINS + 1)
    histograms = []
    for label, (x, w) in finite.items():
        counts = count(x, edges, w)
        scale = 1 / (np.abs(w.sum()) * np.diff(edges)[0]) if w.sum() else 0.0
        role = "model" if histograms else "reference"
        values, errors = counts.values[1:-1] * scale, np.sqrt(counts.variances[1:-1]) * np.abs(scale)
        histograms.append(Histogram(label=label, values=values.tolist(), errors=errors.tolist(), role=role))
    outside = {label: np.mean((x < edges[0]) | (x > edges[-1])) for label, (x, _) in finite.items() if len(x)}
    return Comparison(
        title="Samples, normalised to unit area",
        edges=edges.tolist(),
        histograms=histograms,
        x=Axis(label=observable.axis_label),
        y=Axis(label=f"1 / N dN [1 / {observable.unit}]" if observable.unit else "1 / N dN"),
        ratio=Axis(label="ratio to first", range=(0, 2)),
        notes=[
            f"{label}: {100 * part:.1f} % of the events lie outside" for label, part in outside.items() if part > 0.01
        ],
    )


def _range(observable: Observable, values: np.ndarray) -> tuple[float, float]:
    """The observable's plot range, cut short where 99.9 % of the values lie in its lower half."""
    low, high = observable.range_for(values)
    top = float(np.quantile(values, 0.999))
    return low, min(high, low + 1.1 * (top - low)) if low < top < (low + high) / 2 else high
