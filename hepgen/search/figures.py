"""The figures of the search: which there are, and their numbers from its results."""

from collections.abc import Iterator

import numpy as np
from scipy.special import ndtri

from hepgen.config import Config
from hepgen.plots.figures import (
    Axis,
    Bar,
    Comparison,
    Curves,
    Figure,
    Group,
    Histogram,
    Line,
    Marker,
    Points,
    Role,
    Scatter,
)
from hepgen.search.results import NO_CUT, Case, Outcome
from hepgen.tagging.studies import ROLES

__all__ = ["FOUND", "all_figures", "figure_names"]

# A global p-value below which a search says that it has found something.
FOUND = 0.01
# Bins are drawn as far as so many events are expected.
VISIBLE = 0.1
# Measured by benchmarks/search_calibration.py; see docs/search.md.
INFLATED = "after decorrelation by quantiles chance gave global p ≤ 0.05 in 9 % of drawn spectra, not in 5 %"
SUPERVISED = "supervised: trained on simulated signal of just this kind"


def figure_names(config: Config) -> list[str]:
    """The figures that a search of this configuration writes."""
    taggers = config.search.taggers
    return [
        *(f"{kind}_{tagger}" for kind in ("spectrum", "significance") for tagger in taggers),
        "local_significance",
        "limits",
        "null",
    ]


def all_figures(config: Config, cases: list[Case], edges: np.ndarray, mass: Axis) -> Iterator[tuple[str, Figure]]:
    """Every figure with its name.

    Args:
        config: The run's configuration.
        cases: No cut first, then all cuts.
        edges: Bin edges of the spectra [GeV], shape (bins + 1,).
        mass: Axis of the spectra.
    """
    searched = [case for case in cases if case.outcomes]
    tested = [case for case in searched if case.test]
    notes = _left_out(cases)
    best = {tagger: _best(tested, tagger) for tagger in config.search.taggers}
    for tagger, case in best.items():
        yield f"spectrum_{tagger}", _spectrum(case, edges, mass, _inflated(config, [case]))
        yield f"significance_{tagger}", _significance(tagger, [tested[0], case], notes)
    strongest = {case.label: case for case in [searched[0], *best.values()]}
    drawn = list(strongest.values())
    yield "local_significance", _local(drawn, edges, mass, _inflated(config, drawn))
    yield "limits", _limits(tested, notes)
    yield "null", _null(searched, [*notes, *_inflated(config, searched)])


def _best(tested: list[Case], tagger: str) -> Case:
    """The tagger's cut with the lowest expected limit, or no cut where none is loose enough."""
    own = [case for case in tested if case.tagger == tagger]
    return min(own, key=lambda case: case.expected_limit, default=tested[0])


def _left_out(cases: list[Case]) -> list[str]:
    """Which cuts leave too few events to search, or for a limit."""
    empty = [f"{case.label} ({case.events[0]:g} events)" for case in cases if not case.outcomes]
    few = [
        f"{case.label} ({case.outcomes[0].background.value:.2g} background events around the signal)"
        for case in cases
        if case.outcomes and not case.test
    ]
    notes = {"too few events": empty, "too few events for a limit": few}
    return [f"{what}: {', '.join(which)}" for what, which in notes.items() if which]


def _kinds(cases: list[Case]) -> list[str]:
    """What supervised means, where one is drawn."""
    return [SUPERVISED] if any(case.role == "supervised" for case in cases) else []


def _inflated(config: Config, cases: list[Case]) -> list[str]:
    """That global p-values are too small, where they are."""
    used = [config.tagging.models[case.tagger].decorrelation for case in cases if case.tagger in config.tagging.models]
    return [INFLATED] if any(entry and entry.method == "quantiles" for entry in used) else []


def _spectrum(case: Case, edges: np.ndarray, mass: Axis, notes: list[str]) -> Comparison:
    """Pseudo-data with most signal and with none, over the fit to the former."""
    injected, outcome = list(case.outcomes.items())[-1]
    background = outcome.bump.background
    shown = slice(0, 1 + int(np.flatnonzero(background.expected > VISIBLE)[-1]))
    error = background.expected * np.sqrt((background.modes**2).sum(0))
    histograms = [
        Histogram(
            label="background fit to the pseudo-data",
            values=background.expected[shown].tolist(),
            errors=error[shown].tolist(),
            role="reference",
        ),
        *(_data(number, case.outcomes[number], shown) for number in sorted({injected, 0}, reverse=True)),
    ]
    return Comparison(
        title=f"Search: {case.label}",
        edges=edges[: shown.stop + 1].tolist(),
        histograms=histograms,
        x=mass,
        y=Axis(label="events", log=True),
        ratio=Axis(label="ratio to fit", range=(0, 3)),
        notes=[
            *(_bump_note(number, case.outcomes[number]) for number in sorted({injected, 0}, reverse=True)),
            *_kinds([case]),
            *notes,
        ],
    )


def _data(injected: int, outcome: Outcome, shown: slice) -> Histogram:
    label = f"pseudo-data, {injected} signal events injected" if injected else "pseudo-data without signal"
    counts = outcome.counts[shown]
    return Histogram(label=label, values=counts.tolist(), errors=np.sqrt(counts).tolist(), role="data")


def _bump_note(injected: int, outcome: Outcome) -> str:
    bump = outcome.bump
    low, high = bump.window
    place = f"largest excess at {low / 1000:.2f}–{high / 1000:.2f} TeV, {bump.excess:.3g} events"
    return f"{injected} injected: {place}, global p = {bump.overall.value:.2g}"


def _significance(tagger: str, cases: list[Case], notes: list[str]) -> Scatter:
    """Expected and observed significance of the simulated signal against its injected strength."""
    groups = []
    for case in {case.label: case for case in cases}.values():
        tests = {float(n): o.test for n, o in case.outcomes.items() if o.test}
        strength = [(n, n, n) for n in tests]
        expected = [(t.expected, max(t.expected - 1, 0.0), t.expected + 1) for t in tests.values()]
        observed = [(t.observed, t.observed, t.observed) for t in tests.values()]
        groups.append(Group(label=f"{case.label}: expected", x=strength, y=expected, role=case.role, joined=True))
        groups.append(Group(label=f"{case.label}: observed", x=strength, y=observed, role=case.role))
    return Scatter(
        title=f"Significance: {tagger}",
        groups=groups,
        x=Axis(label="injected signal events before the cut"),
        y=Axis(label=r"significance [$\sigma$]"),
        notes=[
            "expected: Asimov data; the bar is the spread expected of pseudo-experiments, ± 1 σ",
            "observed: one pseudo-experiment, with the same background events at all strengths and cuts",
            *_kinds(cases),
            *notes,
        ],
    )


def _local(cases: list[Case], edges: np.ndarray, mass: Axis, notes: list[str]) -> Curves:
    """Local significance of the best window that holds each bin, with most signal."""
    centers = ((edges[:-1] + edges[1:]) / 2).tolist()
    lines, injected = [], max(n for case in cases for n in case.outcomes)
    for case in cases:
        bump = list(case.outcomes.values())[-1].bump
        deviations = np.maximum(-ndtri(np.minimum(bump.by_bin, 0.5)), 0.0)
        label = f"{case.label}, global p = {bump.overall.value:.2g}"
        lines.append(Line(label=label, x=centers, y=deviations.tolist(), role=case.role))
    return Curves(
        title=f"Bump hunt, {injected} signal events injected",
        lines=lines,
        x=mass,
        y=Axis(label=r"local significance [$\sigma$]"),
        notes=[
            "for each bin the most significant window that holds it; overlapping windows are correlated",
            *_kinds(cases),
            *notes,
        ],
    )


def _limits(cases: list[Case], notes: list[str]) -> Points:
    """Upper limits without signal."""
    found = [case.test.limits for case in cases]
    expected = [(limit.expected[2], limit.expected[1], limit.expected[3]) for limit in found]
    observed = [(limit.observed, limit.observed, limit.observed) for limit in found]
    series, roles = _by_role(cases, expected)
    return Points(
        title="Upper limits at 95 % CLs, no signal injected",
        categories=[case.label for case in cases],
        series={f"expected, 68 %: {name}": bars for name, bars in series.items()} | {"observed": observed},
        roles={f"expected, 68 %: {name}": role for name, role in roles.items()} | {"observed": "guide"},
        floor=[cases[0].expected_limit] * len(cases),
        floor_label="expected without a cut",
        y=Axis(label="signal events before the cut", log=True),
        horizontal=True,
        notes=[*notes, *_kinds(cases)],
    )


def _null(cases: list[Case], notes: list[str]) -> Points:
    """Global p-values of the searches in which there is nothing to find."""
    found = [case.outcomes[0].bump.overall for case in cases]
    series, roles = _by_role(cases, [(p.value, p.low, p.high) for p in found])
    return Points(
        title="Bump hunt without signal",
        categories=[case.label for case in cases],
        series=series,
        roles=roles,
        markers=[Marker(label=f"p = {FOUND:g}", at=FOUND, axis="x")],
        y=Axis(label="global p-value", log=True),
        horizontal=True,
        notes=["interval: number of toys; all cuts share the same background events", *_kinds(cases), *notes],
    )


def _by_role(cases: list[Case], bars: list[Bar]) -> tuple[dict[str, list[Bar | None]], dict[str, Role]]:
    """One series for each kind of cut, and how it is drawn."""
    names: dict[Role, str] = {"guide": NO_CUT} | ROLES
    roles = {names[case.role]: case.role for case in cases}
    series = {
        name: [bar if case.role == role else None for case, bar in zip(cases, bars, strict=True)]
        for name, role in roles.items()
    }
    return series, roles
