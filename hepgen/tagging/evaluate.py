"""Compare all taggers and cuts over all trainings: figures of merit and the numbers behind the figures."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.spatial.distance import jensenshannon

from hepgen.config import Config, Cut
from hepgen.errors import HepgenError
from hepgen.metrics.intervals import LEVEL, Interval, bootstrap, interval, inverse
from hepgen.metrics.record import Metric, write_metrics
from hepgen.metrics.roc import FLOOR_EVENTS, FLOOR_PUBLISHED, FLOOR_PUBLISHED_EVENTS, Ranking, Roc
from hepgen.observables import describe
from hepgen.plots.figures import Axis, Figure, write_figure
from hepgen.plots.histories import training_curves
from hepgen.provenance import seed_for
from hepgen.storage import open_h5
from hepgen.table import Table
from hepgen.tagging import figures
from hepgen.tagging.dataset import held_out_samples, load
from hepgen.tagging.figures import Scorer
from hepgen.tagging.score import KIND

__all__ = ["evaluate"]

SIGNAL_EFFICIENCIES = (0.2, 0.3, 0.5)
MASS_BINS = 30
# Fraction of the background that is rejected where mass sculpting is measured.
REJECTION = 0.9
# The figures of merit and what a random score gives on infinitely many events.
NULLS = {
    "auc": 0.5,
    **{f"rejection/{efficiency}": 1 / efficiency for efficiency in SIGNAL_EFFICIENCIES},
    "max_sic/published": 1.0,
    f"max_sic/{FLOOR_EVENTS}_events": 1.0,
}


@dataclass
class Results:
    """What all trainings of one model left in their score files; images are those of the first seed."""

    supervised: bool = False
    scores: dict[int, np.ndarray] = field(default_factory=dict)
    history: dict[str, list[list[float]]] = field(default_factory=lambda: {"train": [], "validation": []})
    images: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)


def evaluate(config: Config, paths: dict[str, list[Path]], score_files: list[Path], output: Path) -> list[Metric]:
    """Write ``metrics.json`` and ``figures/*.json`` into a folder; returns the metrics.

    Each figure of merit has a 68 % interval over test events and trainings, its value for a random score and, as its
    floor, what random scores of the same events exceed in 16 % of cases.

    Raises:
        HepgenError: if scores are missing, constant or not finite, or the test events are of one class only.
    """
    tagging = config.tagging
    columns = sorted({tagging.mass, *(cut.observable for cut in tagging.cuts.values())})
    (table,) = load(config, paths, columns, ("test",))
    label, weight = table.columns["label"], table.columns["weight"]
    results = _read(config, score_files, len(table))
    rankings = {
        name: _rankings(name, scores, label, weight) for name, scores in _all_scores(config, results, table).items()
    }
    metrics = [*_separation(config, rankings, label, weight)]
    scorers = [
        Scorer(name, _role(name, results), np.stack([r.score for r in ranked]), [r.roc() for r in ranked])
        for name, ranked in rankings.items()
    ]
    metrics += _sculpting(config, scorers, table)
    write_metrics(Path(output) / "metrics.json", metrics)
    for name, figure in _figures(config, scorers, results, table):
        write_figure(Path(output) / "figures" / f"{name}.json", figure)
    return metrics


def _read(config: Config, score_files: list[Path], events: int) -> dict[str, Results]:
    """Results by model, in the configuration's order."""
    results: dict[str, Results] = defaultdict(Results)
    for path in score_files:
        with open_h5(path, KIND) as file:
            score, name = next(iter(file["score"].values()))[:], file.attrs["name"]
            if len(score) != events:
                msg = f"{path}: {len(score)} scores for {events} test events; score them again"
                raise HepgenError(msg)
            found = results[name]
            found.supervised = bool(file.attrs["supervised"])
            found.scores[int(file.attrs["seed"])] = score
            for part, losses in json.loads(file.attrs["history"]).items():
                found.history[part].append(losses)
            if file.attrs["seed"] == config.tagging.seeds[0]:
                images = {kind: file.get(f"images/{kind}", {}) for kind in ("background", "signal")}
                found.images = {
                    kind: {k: data[:] for k, data in group.items()} for kind, group in images.items() if group
                }
    for name in config.tagging.entries:
        missing = sorted(set(config.tagging.seeds) - set(results[name].scores))
        if missing:
            msg = f"tagging: no scores of model {name!r}, seed {missing[0]}; run the scoring first"
            raise HepgenError(msg)
    return {name: results[name] for name in config.tagging.entries}


def _all_scores(config: Config, results: dict[str, Results], table: Table) -> dict[str, np.ndarray]:
    """Scores of shape (trainings, n) by model, then by cut."""
    scores = {name: np.stack([result.scores[s] for s in config.tagging.seeds]) for name, result in results.items()}
    return scores | {name: _cut(cut, table)[None] for name, cut in config.tagging.cuts.items()}


def _cut(cut: Cut, table: Table) -> np.ndarray:
    values = table.columns[cut.observable].astype(np.float64)
    return values if cut.signal == "high" else -values


def _rankings(name: str, scores: np.ndarray, label: np.ndarray, weight: np.ndarray) -> list[Ranking]:
    try:
        return [Ranking(score, label, weight) for score in scores]
    except HepgenError as error:
        msg = f"tagging: {name}: {error}"
        raise HepgenError(msg) from error


def _role(name: str, results: dict[str, Results]) -> str:
    if name not in results:
        return "cut"
    return "supervised" if results[name].supervised else "model"


def _merits(roc: Roc) -> list[float]:
    """The figures of merit, in the order of NULLS."""
    return [
        roc.auc,
        *roc.rejection(np.array(SIGNAL_EFFICIENCIES)),
        roc.max_sic(efficiency=FLOOR_PUBLISHED, events=FLOOR_PUBLISHED_EVENTS),
        roc.max_sic(events=FLOOR_EVENTS),
    ]


def _separation(
    config: Config, rankings: dict[str, list[Ranking]], label: np.ndarray, weight: np.ndarray
) -> Iterator[Metric]:
    """How well each score separates signal from background; all share the bootstrap's events."""
    flat = [ranking for ranked in rankings.values() for ranking in ranked]
    seed = seed_for(config.seed, "tagging", "bootstrap")
    nominal = np.array([_merits(ranking.roc()) for ranking in flat])
    replicas = bootstrap(lambda counts: [_merits(r.roc(counts)) for r in flat], label, seed=seed)
    floors = _floors(label, weight, seed)
    background = flat[0].roc().passing[-1]
    start = 0
    for name, ranked in rankings.items():
        mine = slice(start, start + len(ranked))
        start = mine.stop
        for index, (metric, null) in enumerate(NULLS.items()):
            value = _interval(metric, nominal[mine, index], replicas[:, mine, index], background, seed)
            yield _metric(config, name, metric, value, null, floors[index], len(label), len(ranked))


def _interval(metric: str, nominal: np.ndarray, replicas: np.ndarray, background: float, seed: int) -> Interval:
    """A figure of merit with its interval; rejections are averaged as the efficiencies that were measured."""
    if metric.startswith("rejection/"):
        return inverse(interval(1 / nominal, 1 / replicas, seed=seed), background)
    return interval(nominal, replicas, seed=seed, support=(0, 1) if metric == "auc" else (1, np.inf))


def _sculpting(config: Config, scorers: list[Scorer], table: Table) -> Iterator[Metric]:
    """How far the background mass spectrum moves when most background is rejected, 0 if not at all.

    Jensen–Shannon divergence in bits of the spectra that pass and fail (ATL-PHYS-PUB-2018-014); the floor is that of
    cuts on random scores.
    """
    background, mass, weight = _background(config, scorers, table)
    edges = _edges(mass)
    bins = np.clip(np.searchsorted(edges, mass, side="right") - 1, 0, MASS_BINS - 1)
    seed = seed_for(config.seed, "tagging", "sculpting")
    rng = np.random.default_rng(seed)
    random = [_divergence(bins, rng.random(len(mass)) >= REJECTION, weight) for _ in range(200)]
    floor = float(np.quantile(random, (1 + LEVEL) / 2))
    flat = [figures.passing(score, weight, REJECTION) for scorer in background for score in scorer.scores]
    nominal = np.array([_divergence(bins, passing, weight) for passing in flat])
    replicas = bootstrap(lambda c: [_divergence(bins, p, c * weight) for p in flat], np.zeros(len(mass)), seed=seed)
    start = 0
    for scorer in background:
        mine = slice(start, start + len(scorer.scores))
        start = mine.stop
        value = interval(nominal[mine], replicas[:, mine], seed=seed, support=(0, 1))
        name = f"{config.tagging.mass}_jsd/{REJECTION}_rejected"
        yield _metric(config, scorer.name, name, value, 0.0, floor, len(mass), len(scorer.scores))


def _divergence(bins: np.ndarray, passing: np.ndarray, weight: np.ndarray) -> float:
    """Jensen–Shannon divergence, in bits, of the binned events that pass and those that fail."""
    spectra = [np.bincount(bins[which], weight[which], MASS_BINS) for which in (passing, ~passing)]
    return float(jensenshannon(*spectra, base=2) ** 2)


def _metric(
    config: Config,
    model: str,
    metric: str,
    value: Interval,
    null: float,
    floor: float,
    n: int,
    seeds: int,
) -> Metric:
    return Metric(
        analysis="tagging",
        sample="+".join(held_out_samples(config)),
        model=model,
        metric=metric,
        **value._asdict(),
        null=null,
        floor=float(floor),
        n=n,
        seeds=seeds,
    )


def _floors(label: np.ndarray, weight: np.ndarray, seed: int, trials: int = 100) -> np.ndarray:
    """What random scores of these events exceed in 16 % of cases, for each figure of merit."""
    rng = np.random.default_rng(seed)
    merits = [_merits(Ranking(rng.random(len(label)), label, weight).roc()) for _ in range(trials)]
    return np.quantile(merits, (1 + LEVEL) / 2, axis=0)


def _figures(
    config: Config, scorers: list[Scorer], results: dict[str, Results], table: Table
) -> Iterator[tuple[str, Figure]]:
    label, weight = table.columns["label"], table.columns["weight"]
    yield "roc", figures.roc_curves(scorers)
    yield "sic", figures.sic_curves(scorers)
    background, mass, background_weight = _background(config, scorers, table)
    axis = Axis(label=describe(config.tagging.mass).axis_label)
    yield "score_mass", figures.mass_profile(background, mass, background_weight, axis)
    first = config.tagging.seeds[0]
    yield "training", training_curves({name: result.history for name, result in results.items()})
    for all_events, scorer in zip(scorers, background, strict=True):
        if scorer.role != "cut":
            yield f"scores_{scorer.name}", figures.score_histograms(all_events, first, label, weight)
            spectra = figures.mass_spectra(scorer, mass, background_weight, _edges(mass), axis)
            yield f"mass_sculpting_{scorer.name}", spectra
    image_models = {name: result.images for name, result in results.items() if result.images}
    width = config.tagging.images.width
    for name, images in image_models.items():
        yield f"reconstruction_{name}", figures.reconstructions(name, first, images, width)
    if image_models:
        yield "images", figures.mean_images(next(iter(image_models.values())), width)


def _background(config: Config, scorers: list[Scorer], table: Table) -> tuple[list[Scorer], np.ndarray, np.ndarray]:
    """The scorers on background events only, with the mass and weight of these."""
    which = table.columns["label"] == 0
    chosen = [Scorer(s.name, s.role, s.scores[:, which], s.rocs) for s in scorers]
    return chosen, table.columns[config.tagging.mass][which].astype(np.float64), table.columns["weight"][which]


def _edges(mass: np.ndarray) -> np.ndarray:
    low, high = np.quantile(mass, [0.002, 0.998])
    return np.linspace(low, high if high > low else low + 1, MASS_BINS + 1)
