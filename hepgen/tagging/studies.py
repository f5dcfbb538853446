"""Figures of merit side by side: all scorers, scans of a setting, decorrelation against rejection, other signals."""

from collections.abc import Iterable, Iterator

import numpy as np

from hepgen.config import Config, Tagger
from hepgen.metrics.record import Metric
from hepgen.metrics.roc import FLOOR_EVENTS
from hepgen.plots.figures import Axis, Bar, Group, Line, Marker, Points, Role, Scatter
from hepgen.tagging.figures import scan_figures
from hepgen.tagging.scorers import NULLS, Scorer
from hepgen.tagging.sculpting import RandomCuts
from hepgen.text import verbatim

__all__ = ["Records", "difference_in", "merits", "pareto", "scan", "transfer"]

ROLES: dict[Role, str] = {
    "model": "unsupervised",
    "supervised": "supervised",
    "external": "other tools",
    "cut": "single cuts",
}
REJECTION = "rejection/0.5"
# A training of a scan: its name, the value and the settings.
Point = tuple[str, bool | int | float | str, Tagger]
AXES = {
    "auc": Axis(label="AUC"),
    REJECTION: Axis(label=r"background rejection $1/\varepsilon_B$ at $\varepsilon_S$ = 0.5", log=True),
    f"max_sic/{FLOOR_EVENTS}_events": Axis(
        label=rf"max $\varepsilon_S/\sqrt{{\varepsilon_B}}$, at least {FLOOR_EVENTS} background events"
    ),
}
INTERVALS = "68 % intervals over events and trainings, for the training samples as they are"
JSD = Axis(label="Jensen–Shannon divergence of the mass, 90 % rejected [bits]", log=True)


class Records:
    """Figures of merit by sample, scorer and name."""

    def __init__(self, metrics: Iterable[Metric], main: str) -> None:
        self.main = main
        self.found = {(metric.sample, metric.model, metric.metric): metric for metric in metrics}
        self.samples = list(dict.fromkeys(sample for sample, _, _ in self.found))

    def get(self, scorer: str, name: str, sample: str | None = None) -> Metric | None:
        """A record, of the main test samples by default; nothing where the figure could not be measured."""
        return self.found.get((sample or self.main, scorer, name))

    def bar(self, scorer: str, name: str, sample: str | None = None) -> Bar | None:
        """Its value and interval."""
        metric = self.get(scorer, name, sample)
        return metric and (metric.value, metric.low, metric.high)


def merits(config: Config, scorers: list[Scorer], records: Records) -> dict[str, Points]:
    """One figure for each of the main figures of merit: every scorer, the best first."""
    jsd = f"{config.tagging.mass}_jsd/0.9_rejected"
    chosen = {"auc": "auc", "rejection": REJECTION, "max_sic": f"max_sic/{FLOOR_EVENTS}_events", "jsd": jsd}
    notes = [INTERVALS, *_limited(config)]
    return {short: _merit(scorers, records, name, notes, lowest=name == jsd) for short, name in chosen.items()}


def _limited(config: Config) -> Iterator[str]:
    """Which models learnt from fewer events than there are, for no comparison of theirs is one of methods alone."""
    limited = {name: entry.events for name, entry in config.tagging.models.items() if entry.events}
    for events in sorted(set(limited.values())):
        names = ", ".join(name for name, number in limited.items() if number == events)
        yield f"{names}: {events:,} training events at most"


def _merit(scorers: list[Scorer], records: Records, name: str, notes: list[str], *, lowest: bool) -> Points:
    rows = [(scorer, metric) for scorer in scorers if (metric := records.get(scorer.name, name))]
    rows.sort(key=lambda row: row[1].value, reverse=not lowest)
    roles = [role for role in ROLES if any(scorer.role == role for scorer, _ in rows)]
    bars = [(scorer.role, (metric.value, metric.low, metric.high)) for scorer, metric in rows]
    null = NULLS.get(name)
    return Points(
        title="All taggers",
        categories=[scorer.label for scorer, _ in rows],
        series={ROLES[role]: [bar if own == role else None for own, bar in bars] for role in roles},
        roles={ROLES[role]: role for role in roles},
        floor=[metric.floor for _, metric in rows],
        floor_label="random scores, 84 % quantile",
        y=AXES.get(name, JSD),
        horizontal=True,
        markers=[] if null is None else [Marker(label="random", at=null, axis="x")],
        notes=notes,
    )


def pareto(config: Config, scorers: list[Scorer], records: Records, random: RandomCuts) -> Scatter:
    """Independence of the mass against background rejection at half of the signal, with what finite samples allow."""
    jsd = f"{config.tagging.mass}_jsd/0.5_signal"

    def point(name: str) -> tuple[Bar, Bar] | None:
        x, y = records.bar(name, REJECTION), records.bar(name, jsd)
        return (x, _inverted(y, 1 / x[0], random)) if x and y and y[0] > 0 else None

    tagging = config.tagging
    groups = []
    joined = set()
    for scan, settings in tagging.scans.items():
        if settings.vary != "decorrelation.strength":
            continue
        for model in settings.models:
            scorer = next(scorer for scorer in scorers if scorer.name == model)
            if scorer.exchanged:
                continue
            trainings = sorted(tagging.points(scan, model), key=lambda training: training[1])
            joined |= {name for name, _, _ in trainings}
            points = [point(name) for name, _, _ in trainings]
            label = rf"{model}, $\lambda$ = {trainings[0][1]:g} … {trainings[-1][1]:g}"
            groups.append(_group(label, points, scorer.role, joined=True))
    for scorer in scorers:
        if not (scorer.scanned or scorer.exchanged or scorer.name in joined):
            groups.append(_group(scorer.label, [point(scorer.name)], scorer.role))
    low, middle, high = (1 / random.quantiles[:, random.quantiles.min(0) > 0]).tolist()
    x = 1 / random.fraction[random.quantiles.min(0) > 0]
    ceiling = Line(label="random cuts (ceiling)", x=x.tolist(), y=middle, low=high, high=low, role="guide")
    return Scatter(
        title="Decorrelation against rejection",
        groups=[group for group in groups if group.x],
        lines=[ceiling],
        x=AXES[REJECTION],
        y=Axis(label=r"1 / JSD of the mass at $\varepsilon_S$ = 0.5", log=True),
        notes=[INTERVALS, "ceiling: as many random background events pass"],
    )


def _group(label: str, points: list[tuple[Bar, Bar] | None], role: Role, *, joined: bool = False) -> Group:
    known = [point for point in points if point]
    return Group(label=label, x=[x for x, _ in known], y=[y for _, y in known], role=role, joined=joined)


def _inverted(jsd: Bar, fraction: float, random: RandomCuts) -> Bar:
    """1/JSD; an interval that reaches 0 ends at what the luckiest 16 % of random cuts reach."""
    value, low, high = jsd
    best = float(np.interp(np.log(fraction), np.log(random.fraction), random.quantiles[0]))
    return 1 / value, 1 / high, 1 / min(max(low, best), value)


def scan(config: Config, name: str, records: Records) -> dict[str, Points | Scatter]:
    """The figures of `scan_figures`: figures of merit against the setting that a scan varies."""
    jsd = f"{config.tagging.mass}_jsd/0.9_rejected"
    chosen = {"scan": "auc", "rejection_scan": REJECTION, "sculpting_scan": jsd}
    return {kind: _scan(config, name, chosen[kind], records) for kind in scan_figures(config, name)}


def _scan(config: Config, name: str, metric: str, records: Records) -> Points | Scatter:
    settings = config.tagging.scans[name]
    points = {model: config.tagging.points(name, model) for model in settings.models}
    common = {
        "title": f"Scan {name}",
        "y": AXES.get(metric, JSD),
        "notes": [f"{INTERVALS}; all points share the test events", *_gains(name, metric, points, records)],
    }
    if any(isinstance(value, bool | str) for value in settings.values):
        series = {model: [records.bar(entry, metric) for entry, _, _ in made] for model, made in points.items()}
        return Points(categories=[verbatim(str(value)) for value in settings.values], series=series, **common)
    groups = []
    for model, made in points.items():
        ordered = sorted(made, key=lambda training: training[1])
        bars = [((value, value, value), records.bar(entry, metric)) for entry, value, _ in ordered]
        groups.append(_group(model, [(x, y) for x, y in bars if y], "model", joined=True))
    return Scatter(groups=groups, x=_setting_axis(settings.vary, settings.values), **common)


def difference_in(scan: str) -> str:
    """The figure of merit of a training of a scan: how far its AUC lies above that of the scan's first value."""
    return f"auc_difference/{scan}"


def _gains(scan: str, metric: str, points: dict[str, list[Point]], records: Records) -> Iterator[str]:
    """The differences of a model's AUC to that at the first value, one line a model, where the AUC is shown."""
    for model, ((_, first, _), *others) in points.items() if metric == "auc" else ():
        found = [(value, records.get(entry, difference_in(scan))) for entry, value, _ in others]
        gains = [f"{verbatim(str(value))}: {m.value:+.3f} [{m.low:+.3f}, {m.high:+.3f}]" for value, m in found if m]
        if gains:
            yield f"{model}, AUC above that at {verbatim(str(first))} on the same events: {'; '.join(gains)}"


def _setting_axis(setting: str, values: list[float]) -> Axis:
    """Logarithmic where the values span more than a factor of ten, with a place for 0."""
    positive = [value for value in values if value > 0]
    label = setting.removeprefix("settings.").replace("_", " ").replace(".", " ")
    if min(values) < 0 or max(positive) < 10 * min(positive):
        return Axis(label=label)
    return Axis(label=label, log=True, linear=min(positive) if min(values) == 0 else None)


def transfer(scorers: list[Scorer], records: Records) -> Points:
    """AUC of every scorer on the main and on each further signal, by that on the main one."""
    shown = sorted((s for s in scorers if not s.scanned), key=lambda s: -records.get(s.name, "auc").value)
    return Points(
        title="Transfer to other signals",
        categories=[scorer.label for scorer in shown],
        series={sample: [records.bar(s.name, "auc", sample) for s in shown] for sample in records.samples},
        y=AXES["auc"],
        horizontal=True,
        markers=[Marker(label="random", at=NULLS["auc"], axis="x")],
        notes=[INTERVALS],
    )
