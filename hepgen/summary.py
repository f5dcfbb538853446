"""What a run amounts to: one file of metrics, tables to read, and the front page of the report."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from scipy.stats import binom

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.inputs import expand, is_remote
from hepgen.metrics.record import Check, Metric, read_checks, read_metrics, write_metrics
from hepgen.provenance import versions
from hepgen.samples import FileSample, Sample
from hepgen.storage import atomic, describe_h5
from hepgen.table import Table, read_tables
from hepgen.text import printable, restructured

__all__ = ["describe", "summarize", "write_table"]

# The figures of merit that stand on the front page: (metric, heading), by analysis; those of tagging by the first.
HEADLINE = {
    "tagging": [
        ("auc", "AUC"),
        ("rejection/0.5", "background rejection at half of the signal"),
        ("max_sic/25_events", "max SIC (≥ 25 background events)"),
        ("{mass}_jsd/0.9_rejected", "JSD of the mass at 90 % rejection"),
    ],
    "search": [
        ("expected_limit", "expected 95 % CLs limit, best cut [signal events]"),
        ("improvement", "how many times lower than without a cut"),
        ("null_global_p", "smallest global p-value without signal"),
    ],
    "generation": [
        ("c2st_auc", "classifier two-sample AUC (trees)"),
        ("c2st_auc_mlp", "the same (MLP)"),
        ("max_delta_pearson", "largest difference of correlations"),
        ("amplification", "true events that a training event is worth, at least"),
        ("events_per_second", "events per second"),
        ("speed_up", "times faster than the simulation"),
    ],
    "unfolding": [
        ("triangular_mean", "triangular discriminator × 10³, mean over observables"),
        ("iteration", "reported iteration"),
        ("uncertainty/total", "relative uncertainty, mean over bins and observables"),
    ],
    "integration": [
        ("integral", "cross section [pb] (quadrature)"),
        ("relative_variance", "relative variance of an evaluation"),
        ("efficiency", "unweighting efficiency"),
        ("overweight_cross_section", "share of the cross section in overweights"),
    ],
}
SAMPLE_OBSERVABLES = ("mjj", "pt_j1", "mass_j1", "tau21_j1", "multiplicity_j1")
STYLE = (
    "body{font:14px sans-serif;margin:1.5em}table{border-collapse:collapse}"
    "th,td{padding:.25em .8em;border-bottom:1px solid #ccc;text-align:left}"
    "td:nth-child(n+%d){text-align:right;font-variant-numeric:tabular-nums}"
)
VERDICTS = "verdict.json"
FAILED = "fail"
TEST_COLUMNS = ("method", "test", "what was done, or why nothing was", "verdict", "statistic", "limit", "p-value")
COLUMNS = ("sample", "model", "metric", "value", "68 % interval", "null", "floor", "p-value", "events", "trainings")


def describe(config: Config) -> str:
    """What a configuration would run, in a few lines."""
    lines = [config.title, "samples:"]
    lines += [
        f"  {name}: {_origin(sample)}{_presence(sample)}, {sample.chunks} chunk(s)"
        for name, sample in config.samples.items()
    ]
    keys = {"tagging": "models", "generation": "models", "unfolding": "methods", "integration": "methods"}
    for block, key in keys.items():
        settings = getattr(config, block)
        if settings:
            lines.append(f"{block}: {', '.join(getattr(settings, key))} with seeds {settings.seeds}")
    if config.search:
        lines.append(f"search: {', '.join(config.search.taggers)} in {config.search.mass}")
    return "\n".join(map(printable, lines))


def summarize(config: Config, files: Sequence[Path], output: Path) -> None:
    """Write ``metrics.json``, ``tables/*.html`` and ``summary.rst`` into the folder `output`.

    Args:
        config: The configuration of the run.
        files: The metrics of each analysis, the verdicts of tests (JSON) and the observables of each sample (HDF5).
        output: The folder of the run's products.

    Raises:
        HepgenError: if a file is unreadable.
    """
    chunks: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        if file.suffix == ".h5":
            chunks[describe_h5(file)[1]].append(file)
    tables = {name: read_tables(paths, unseen=True) for name, paths in chunks.items()}
    metrics = [metric for name, table in tables.items() for metric in _sample_metrics(name, table)]
    checks = [check for file in files if file.name == VERDICTS for check in read_checks(file)]
    for file in files:
        if file.suffix == ".json" and file.name != VERDICTS:
            metrics += read_metrics(file)
    for analysis in dict.fromkeys(metric.analysis for metric in metrics):
        rows = [_row(metric) for metric in metrics if metric.analysis == analysis]
        write_table(output / "tables" / f"{analysis}.html", "figures of merit", COLUMNS, rows)
    if checks:
        write_table(output / "tables/tests.html", "tests", TEST_COLUMNS, map(_test_row, checks))
    _write(output / "summary.rst", _front_page(config, metrics, checks))
    write_metrics(output / "metrics.json", metrics)


def _sample_metrics(name: str, table: Table) -> list[Metric]:
    """How many events a sample has, and the medians of its main observables."""
    events = len(table)
    common = {"analysis": "samples", "sample": name, "model": ""}
    records = [Metric(**common, metric="events", value=events, low=events, high=events, n=events)]
    for observable in SAMPLE_OBSERVABLES:
        for level, columns in (("", table.columns), ("truth ", table.truth)):
            values = columns.get(observable, np.empty(0))
            # NaN is what an event has at the level at which it lacks its jets.
            values = np.sort(values[np.isfinite(values)].astype(float))
            if len(values):
                # The order statistics between which the median lies with a probability of 68 %.
                ranks = np.clip(binom.interval(0.6827, len(values), 0.5), 0, len(values) - 1).astype(int)
                low, high = values[ranks]
                record = {"value": float(np.median(values)), "low": low, "high": high, "n": len(values)}
                records.append(Metric(**common, **record, metric=f"{level}median {observable}"))
    return records


def write_table(
    path: Path, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 3
) -> None:
    """Write a table as a page of its own; all but the first few columns hold numbers."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    cells = ("".join(f"<td>{escape(printable(cell))}</td>" for cell in row) for row in rows)
    body = "\n".join(f"<tr>{row}</tr>" for row in cells)
    _write(
        path,
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{STYLE % (words + 1)}</style>"
        f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></html>\n",
    )


def _row(metric: Metric) -> tuple[str, ...]:
    interval = "" if metric.low == metric.high else f"{_number(metric.low)} – {_number(metric.high)}"
    numbers = (_number(metric.value), interval, *map(_number, (metric.null, metric.floor, metric.p_value)))
    return (metric.sample, metric.model, metric.metric, *numbers, f"{metric.n:,}", str(metric.seeds))


def _test_row(check: Check) -> tuple[str, ...]:
    statistic = _number(check.statistic) + (f" ± {_number(check.error)}" if check.error is not None else "")
    numbers = (statistic, _number(check.limit), _number(check.p_value))
    return (check.method, check.test, check.text, check.verdict, *numbers)


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _front_page(config: Config, metrics: list[Metric], checks: list[Check]) -> str:
    """The front page in reStructuredText: what was run, on what, by which versions, with what result."""
    events = {metric.sample: metric.n for metric in metrics if metric.metric == "events"}
    samples = [(name, _origin(config.samples[name]), f"{n:,}") for name, n in events.items()]
    parts = [
        _heading(config.title, "="),
        "What was run, on what, and what came out; every figure and table is in the menu.",
        "",
    ]
    for analysis, columns in HEADLINE.items():
        names = [name.format(mass=config.tagging.mass if config.tagging else "") for name, _ in columns]
        rows = _headline(_chosen(config, analysis, metrics), names)
        if rows:
            heading = ("model", *(title for _, title in columns))
            parts += [_heading(analysis.capitalize(), "-"), _list_table(heading, rows)]
    if checks:
        parts += [_heading("Tests of the unfolding", "-"), _list_table(*_tested(checks))]
    if samples:
        parts += [_heading("Samples", "-"), _list_table(("sample", "source", "events"), samples)]
    parts += [_heading("Versions", "-"), _list_table(("package", "version"), list(versions().items()))]
    return "\n".join(parts)


def _chosen(config: Config, analysis: str, metrics: list[Metric]) -> list[Metric]:
    """An analysis's records for the front page; of tagging, without scans, by AUC, on the main test samples.

    Models of the inverse task come last, called so: their figures of merit are those of another task.
    """
    records = [metric for metric in metrics if metric.analysis == analysis]
    if analysis != "tagging" or not (config.tagging and records):
        return records
    known = {*config.tagging.models, *config.tagging.cuts, *config.tagging.external}
    shown = [metric for metric in records if metric.model in known and metric.sample == records[0].sample]
    auc = {metric.model: metric.value for metric in shown if metric.metric == "auc"}
    inverse = {name for name, entry in config.tagging.models.items() if entry.normal == "signal"}
    shown.sort(key=lambda metric: (metric.model in inverse, -auc.get(metric.model, 0.0)))
    return [
        metric.model_copy(update={"model": f"{metric.model}, inverse"}) if metric.model in inverse else metric
        for metric in shown
    ]


def _headline(metrics: list[Metric], names: list[str]) -> list[tuple[str, ...]]:
    """One row for each model: value, interval and null or floor of each of the named metrics."""
    found = {(metric.model, metric.metric): metric for metric in metrics}
    models = {metric.model: None for metric in metrics if metric.metric in names}
    return [(model, *(_cell(found.get((model, name))) for name in names)) for model in models]


def _tested(checks: list[Check]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heading and rows of the tests: one row for each test, the verdicts of all methods side by side."""
    verdicts = {(check.test, check.method): check.verdict for check in checks}
    methods, tests = (dict.fromkeys(getattr(check, key) for check in checks) for key in ("method", "test"))
    shown = {"pass": "pass", "fail": FAILED}
    rows = [(test, *(shown.get(verdicts.get((test, method)), "–") for method in methods)) for test in tests]
    return ("test", *methods), rows


def _cell(metric: Metric | None) -> str:
    if metric is None:
        return "–"
    others = (("null", metric.null), ("floor", metric.floor), ("p", metric.p_value))
    against = [f"{word} {_number(value)}" for word, value in others if value]
    interval = f" [{_number(metric.low)}, {_number(metric.high)}]" if metric.low != metric.high else ""
    return f"{_number(metric.value)}{interval}" + (f" ({', '.join(against)})" if against else "")


def _origin(sample: Sample) -> str:
    """Where a sample comes from, in a few words."""
    if sample.source == "pythia":
        settings = f", {', '.join(sample.settings)}" if sample.settings else ""
        return f"Pythia 8 and parametrised detector: {sample.process}{settings}, {sample.events:,} events"
    if not isinstance(sample, FileSample):
        settings = ", ".join(f"{key} {value}" for key, value in sample.settings.items())
        return f"plug-in {sample.source}{': ' if settings else ''}{settings}"
    files = [sample.path] if isinstance(sample.path, str) else sample.path
    others = f" and {len(files) - 1} more" if len(files) > 1 else ""
    kind = "observables" if sample.is_table else "jets" if sample.has_jets else "events"
    return f"{kind} of {files[0]}{others} ({sample.source})"


def _presence(sample: Sample) -> str:
    """How many files a sample has here now, or why it has none."""
    if not isinstance(sample, FileSample):
        return ""
    try:
        files = expand(sample.path)
    except HepgenError as error:
        return f", not readable now: {error}"
    absent = [file for file in files if not is_remote(file) and not Path(file).is_file()]
    return f", not here yet: {absent[0]}" if absent else f", {len(files)} file(s)"


def _heading(text: str, underline: str) -> str:
    title = restructured(text)
    # Wide letters take two places each.
    return f"{title}\n{underline * (2 * len(title))}\n"


def _list_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for row in (heading, *rows):
        cells = [f"**{cell}**" if cell == FAILED else restructured(cell) for cell in row]
        lines += [f"   {'* -' if i == 0 else '  -'} {cell}" for i, cell in enumerate(cells)]
    return "\n".join([*lines, "", ""])


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
