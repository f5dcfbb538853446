"""Compare all methods: the integral with quadrature, the worth of their events, the unweighted distributions."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hepgen.config import Config, Integration
from hepgen.errors import HepgenError
from hepgen.integration.figures import (
    OBSERVABLES,
    Result,
    Results,
    distribution_figure,
    efficiency_figure,
    histogram,
    integral_figure,
    weights_figure,
)
from hepgen.integration.matrix_element import PROCESS, Point, reference
from hepgen.integration.sample import KIND
from hepgen.metrics.divergences import effective_events
from hepgen.metrics.histograms import Counts, chi2
from hepgen.metrics.intervals import Interval, interval
from hepgen.metrics.record import Metric, write_metrics
from hepgen.plots.figures import write_figure
from hepgen.storage import Columns, open_h5

__all__ = ["evaluate"]

SHARES = {"efficiency": "unweighting", "effective_size": "effective size", "inside": "within cuts"}


def evaluate(config: Config, files: Sequence[Path], output: Path) -> None:
    """Write ``metrics.json`` and the figures' numbers.

    Args:
        config: The run.
        files: Products of `hepgen.integration.sample.sample`, every method and seed.
        output: Where to write.

    Raises:
        HepgenError: if the events of a method and seed are missing.
    """
    block = config.integration
    results = _read(block, files)
    truth = reference(block)
    merits = {name: _merits(of_seeds) for name, of_seeds in results.items()}
    metrics = [metric for name in results for metric in _metrics(block, results, name, merits[name], truth)]
    write_metrics(output / "metrics.json", metrics)
    shares = {name: {label: of[key] for key, label in SHARES.items()} for name, of in merits.items()}
    figures = {
        "integral": integral_figure(block, results, truth),
        "efficiency": efficiency_figure(shares, len(block.seeds)),
        "weights": weights_figure(results),
        **{f"observable_{name}": distribution_figure(name, block, results) for name in OBSERVABLES},
    }
    for name, figure in figures.items():
        write_figure(output / "figures" / f"{name}.json", figure)


def _read(block: Integration, files: Sequence[Path]) -> Results:
    """The events of every method, by the seeds in their order."""
    found = {}
    for path in files:
        with open_h5(path, KIND) as file:
            columns, attributes = Columns(file["events"]).read(), dict(file.attrs)
        point = Point(*(columns.pop(name) for name in Point._fields))
        numbers = {"maximum": float(attributes["maximum"]), "adaptation": int(attributes["adaptation"])}
        found[attributes["method"], int(attributes["seed"])] = Result(point, **columns, **numbers)
    for name in block.methods:
        for seed in block.seeds:
            if (name, seed) not in found:
                msg = f"integration.methods: no events of {name} with seed {seed} were given"
                raise HepgenError(f"{msg}; run `hepgen integration sample` first")
    return {name: [found[name, seed] for seed in block.seeds] for name in block.methods}


def _merits(results: list[Result]) -> dict[str, Interval]:
    """Figures of merit of one method: their means over seeds, with the interval that the spread of the seeds gives."""
    of_seed = {
        "relative_variance": lambda r: len(r.weight) * (r.error / r.integral) ** 2,
        "efficiency": lambda r: r.integral / r.maximum,
        "overweight_events": lambda r: np.mean(r.unweighted[r.unweighted > 0] > 1),
        "unweighted_effective_size": lambda r: effective_events(r.unweighted) / np.count_nonzero(r.unweighted),
        "overweight_cross_section": lambda r: r.weight[r.weight > r.maximum].sum() / r.weight.sum(),
        "effective_size": lambda r: effective_events(r.weight) / len(r.weight),
        "inside": lambda r: np.mean(r.weight > 0),
        "adaptation": lambda r: r.adaptation,
    }
    merits = {}
    for name, function in of_seed.items():
        values = np.array([function(result) for result in results], dtype=float)
        # Each seed has events of its own, so that the spread of the seeds holds their fluctuations too.
        merits[name] = interval(values, np.tile(values, (100, 1)), seed=1, support=(0.0, np.inf))
    return merits


def _metrics(
    block: Integration, results: Results, name: str, merits: dict[str, Interval], truth: float
) -> Iterator[Metric]:
    """All records of one method."""
    of_seeds = results[name]
    integral = float(np.mean([result.integral for result in of_seeds]))
    error = float(np.linalg.norm([result.error for result in of_seeds])) / len(of_seeds)
    pull = (integral - truth) / error
    known = {
        "integral": (Interval(integral, integral - error, integral + error), truth),
        "pull": (Interval(pull, pull - 1, pull + 1), 0.0),
        **{key: (value, None) for key, value in merits.items()},
    }
    first = next(iter(results))
    for observable in OBSERVABLES if name != first else ():
        known[f"chi2/{observable}"] = (_chi2(observable, block, results[first], of_seeds), 1.0)
    number = sum(len(result.weight) for result in of_seeds)
    for metric, (value, null) in known.items():
        common = {"analysis": "integration", "sample": PROCESS, "model": name, "n": number, "seeds": len(of_seeds)}
        yield Metric(metric=metric, **value._asdict(), null=null, **common)


def _chi2(observable: str, block: Integration, weighted: list[Result], unweighted: list[Result]) -> Interval:
    """χ²/ndf between weighted events and unweighted ones of another method, with its standard deviation."""
    counts = (
        Counts(*histogram(observable, results, block, unweighted=hit_or_miss)[1:])
        for results, hit_or_miss in ((weighted, False), (unweighted, True))
    )
    distance = chi2(*counts)
    return Interval(distance.per_ndf, distance.per_ndf - distance.error, distance.per_ndf + distance.error)
