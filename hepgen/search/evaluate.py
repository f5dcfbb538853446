"""The search: every cut at every injected strength, hunted for bumps and tested for the simulated signal."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.metrics.intervals import Interval
from hepgen.metrics.record import Metric, write_metrics
from hepgen.observables import describe
from hepgen.plots.figures import Axis, Role, write_figure
from hepgen.provenance import seed_for
from hepgen.search import figures
from hepgen.search.background import SQRT_S, Fit, falling_edges, fit
from hepgen.search.hunt import hunt
from hepgen.search.pseudodata import MIN_TEMPLATE, Events, inject, load_events, roles_of, select
from hepgen.search.results import NO_CUT, Case, Outcome, Test
from hepgen.search.statistics import REFERENCE, Limits, asimov, discovery, limits, workspace
from hepgen.storage import write_json
from hepgen.tagging.dataset import held_out_samples

__all__ = ["evaluate"]

# A cut that leaves fewer events in the range, or fewer of the expected signal, is not searched.
MIN_EVENTS = 50
MIN_SIGNAL = 25
# Asymptotic limits are up to 5 % too strong with so many background events around the signal, and worse with fewer.
MIN_BACKGROUND = 20
# The bins around the signal hold this part of it.
CENTRAL = (0.1, 0.9)


class Spectrum(NamedTuple):
    """Binned pseudo-data, and the signal expected in it.

    Attributes:
        counts: Events per bin, shape (bins,).
        signal: Events expected of `REFERENCE` signal events before the cut, shape (bins,).
        number: Signal events that the expectation was taken from.
        total: The same before the cut.
    """

    counts: np.ndarray
    signal: np.ndarray
    number: int
    total: int

    @property
    def uncertainty(self) -> float:
        """Relative binomial error of the signal's efficiency."""
        return float(np.sqrt(1 / self.number - 1 / self.total))


def evaluate(config: Config, paths: dict[str, list[Path]], score_files: list[Path], output: Path) -> list[Metric]:
    """Write ``metrics.json``, ``figures/*.json`` and ``workspaces/*.json`` into a folder; returns the metrics.

    A cut that leaves too few events has only the record of how many there are. Workspaces of an earlier search in the
    same folder are removed.

    Raises:
        HepgenError: if scores are missing or constant, there is too little signal or background, or a fit fails.
    """
    background, signal = load_events(config, paths, score_files)
    edges = _edges(config, background.mass)
    window = _window(signal.mass, edges)
    strengths = sorted({0, *config.search.injected})
    samples = {injected: inject(config, background, signal, injected) for injected in strengths}
    roles = roles_of(config, score_files)
    cases: list[Case] = []
    for tagger, efficiency in _cuts(config):
        spectra = {n: _spectrum(*samples[n], tagger, efficiency, edges) for n in strengths}
        role = roles[tagger] if tagger else "guide"
        cases.append(_case(config, (tagger, efficiency, role), spectra, edges, window))
        _refuse_small(cases[0])
    metrics = [metric for case in cases for metric in _of_case(config, case, cases[0])]
    metrics += [metric for tagger in config.search.taggers for metric in _of_tagger(config, tagger, cases)]
    axis = Axis(label=describe(config.search.mass).axis_label)
    _write_workspaces(Path(output) / "workspaces", cases)
    for name, figure in figures.all_figures(config, cases, edges, axis):
        write_figure(Path(output) / "figures" / f"{name}.json", figure)
    write_metrics(Path(output) / "metrics.json", metrics)
    return metrics


def _refuse_small(uncut: Case) -> None:
    """Raise `HepgenError` if there is nothing to compare the cuts with."""
    if not uncut.outcomes:
        msg = f"search: only {uncut.events[0]:g} background events lie in the spectrum's range; at least {MIN_EVENTS}"
        raise HepgenError(f"{msg} are needed: change search.range or give more events")
    if not uncut.test:
        msg = f"search: only {uncut.outcomes[0].background.value:.3g} background events are expected around the signal"
        raise HepgenError(f"{msg}; at least {MIN_BACKGROUND} are needed: give more events")


def _write_workspaces(folder: Path, cases: list[Case]) -> None:
    """All workspaces, and no others."""
    specs = {f"{case.file}_{n}.json": o.test.spec for case in cases for n, o in case.outcomes.items() if o.test}
    for name, spec in specs.items():
        write_json(folder / name, spec)
    for path in folder.glob("*.json"):
        if path.name not in specs:
            path.unlink()


def _cuts(config: Config) -> Iterator[tuple[str | None, float]]:
    """No cut, then every tagger at every efficiency below 1."""
    yield None, 1.0
    for tagger in config.search.taggers:
        for efficiency in sorted(set(config.search.efficiencies) - {1.0}, reverse=True):
            yield tagger, efficiency


def _edges(config: Config, mass: np.ndarray) -> np.ndarray:
    """The bins of the spectrum, from the configuration or from the background before any injection."""
    block = config.search
    edges = np.linspace(*block.range, block.bins + 1) if block.range else falling_edges(mass, block.bins)
    if edges[0] <= 0 or edges[-1] >= SQRT_S:
        msg = f"search: the spectrum of {block.mass} from {edges[0]:g} to {edges[-1]:g} GeV is not within 0"
        raise HepgenError(f"{msg} and the collision energy of {SQRT_S:g} GeV; set search.range")
    return edges


def _window(mass: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The bins that hold the central 80 % of the signal, shape (bins,): those that the significance is taken from.

    Raises:
        HepgenError: if there is too little signal in the range, or too few bins are left to fit the background to.
    """
    inside = mass[(mass >= edges[0]) & (mass < edges[-1])]
    if len(inside) < MIN_TEMPLATE:
        msg = f"search: {len(inside)} held-out signal events lie between {edges[0]:g} and {edges[-1]:g} GeV"
        raise HepgenError(f"{msg}; at least {MIN_TEMPLATE} are needed: change search.range")
    low, high = np.quantile(inside, CENTRAL)
    window = (edges[1:] > low) & (edges[:-1] < high)
    if window[0] or window[-1] or np.sum(~window) < len(window) / 2:
        msg = f"search: the signal, {low:.4g} to {high:.4g} GeV, leaves no room on both sides to fit the background"
        raise HepgenError(f"{msg} between {edges[0]:g} and {edges[-1]:g} GeV; widen search.range")
    return window


def _spectrum(data: Events, signal: Events, tagger: str | None, efficiency: float, edges: np.ndarray) -> Spectrum:
    """The spectrum that a cut leaves of the pseudo-data, and of the signal that is not in it."""
    kept = select(data, signal, tagger, efficiency)
    counts, expected = (np.histogram(mass, edges)[0].astype(np.float64) for mass in (kept.data, kept.signal))
    return Spectrum(counts, expected * REFERENCE / len(signal), int(expected.sum()), len(signal))


def _case(
    config: Config,
    cut: tuple[str | None, float, Role],
    spectra: dict[int, Spectrum],
    edges: np.ndarray,
    window: np.ndarray,
) -> Case:
    """All strengths after one cut; those with signal only if there is a search without."""
    tagger, efficiency, _ = cut
    outcomes: dict[int, Outcome] = {}
    for injected, spectrum in spectra.items():
        counts, number = spectrum.counts, spectrum.number
        if min(counts.sum() / MIN_EVENTS, number / MIN_SIGNAL) < 1 or (injected and 0 not in outcomes):
            continue
        seed = seed_for(config.seed, "search", tagger or NO_CUT, str(efficiency), injected)
        bump = hunt(counts, edges, config.search.toys, seed)
        beside = fit(counts, edges, ~window)
        background = _background(beside, window)
        without = outcomes[0].test if injected else None
        enough = without if injected else background.value >= MIN_BACKGROUND
        test = _test(spectrum, beside, background, window, injected, without) if enough else None
        outcomes[injected] = Outcome(counts, bump, background, test)
    return Case(*cut, {n: float(spectrum.counts.sum()) for n, spectrum in spectra.items()}, outcomes)


def _background(beside: Fit, window: np.ndarray) -> Interval:
    """Background events expected around the signal, from the fit to the bins beside it."""
    expected = float(beside.expected[window].sum())
    error = float(np.sqrt(((beside.modes[:, window] @ beside.expected[window]) ** 2).sum()))
    return Interval(expected, max(expected - error, 0.0), expected + error)


def _test(
    spectrum: Spectrum, beside: Fit, background: Interval, window: np.ndarray, injected: int, without: Test | None
) -> Test:
    """The test for the signal; what is expected of an injected one follows from the same cut's test without it."""
    counts, signal = spectrum.counts[window], spectrum.signal[window]
    spec = workspace(counts, beside.expected[window], beside.modes[:, window], signal, spectrum.uncertainty)
    expected = discovery(asimov(without.spec if without else spec, injected))
    precision = np.hypot(spectrum.uncertainty, (background.high / background.value - 1) / 2)
    return Test(spec, discovery(spec), expected, limits(spec), float(precision))


def _of_case(config: Config, case: Case, uncut: Case) -> Iterator[Metric]:
    """All figures of merit of one cut; significances as numbers of standard deviations."""
    for injected, events in case.events.items():
        outcome = case.outcomes.get(injected)
        known: dict[str, tuple[Interval, float | None, float | None]] = {"events": (_exact(events), None, MIN_EVENTS)}
        if outcome:
            bump = outcome.bump
            mass = Interval(sum(bump.window) / 2, *bump.window)
            known |= {
                "fit_p": (_exact(bump.fit), 0.5, None),
                "bump_mass": (mass, None, None),
                "local_p": (_exact(bump.local), None, None),
                "global_p": (bump.overall, 0.5, None),
                "background": (outcome.background, None, MIN_BACKGROUND),
            }
        if outcome and outcome.test:
            upper, z = outcome.test.limits, outcome.test.expected
            known |= {
                "observed_significance": (_exact(outcome.test.observed), 0.0, 1.0),
                "expected_significance": (Interval(z, max(z - 1, 0.0), z + 1), 0.0, 1.0),
                "observed_limit": (_exact(upper.observed), upper.expected[2], None),
                "expected_limit": (_median(upper), None, None),
            }
        for name, (value, null, floor) in known.items():
            metric = f"{name}/{case.efficiency:g}_kept/{injected}_injected"
            yield _metric(config, case.tagger, metric, value, null, floor, events)
    if case.tagger and case.test:
        gain = _improvement(case, uncut)
        yield _metric(config, case.tagger, f"improvement/{case.efficiency:g}_kept", gain, 1.0, None, case.events[0])


def _of_tagger(config: Config, tagger: str, cases: list[Case]) -> Iterator[Metric]:
    """What the cut with the lowest expected limit gives, and whether the search without signal finds anything.

    The smallest global p-value of the tagger's cuts is corrected for their number (Šidák 1967).
    """
    searched, uncut = [case for case in cases if case.tagger == tagger and case.outcomes], cases[0]
    if not searched:
        return
    best = min(searched, key=lambda case: case.expected_limit)
    if best.test:
        limit, gain = _median(best.test.limits), _improvement(best, uncut)
        yield _metric(config, tagger, "expected_limit", limit, uncut.expected_limit, None, best.events[0])
        yield _metric(config, tagger, "improvement", gain, 1.0, None, best.events[0])
    smallest = min((case.outcomes[0].bump.overall for case in searched), key=lambda p: p.value)
    corrected = Interval(*(1 - (1 - p) ** len(searched) for p in smallest))
    yield _metric(config, tagger, "null_global_p", corrected, 0.5, figures.FOUND, best.events[0])


def _improvement(case: Case, uncut: Case) -> Interval:
    """How many times lower the expected limit is than without a cut."""
    gain, factor = uncut.expected_limit / case.expected_limit, np.exp(case.test.precision)
    return Interval(gain, float(gain / factor), float(gain * factor))


def _median(upper: Limits) -> Interval:
    """The median expected limit and the central 68 % of those expected."""
    return Interval(*(upper.expected[index] for index in (2, 1, 3)))


def _exact(value: float) -> Interval:
    return Interval(value, value, value)


def _metric(
    config: Config,
    tagger: str | None,
    name: str,
    value: Interval,
    null: float | None,
    floor: float | None,
    events: float,
) -> Metric:
    return Metric(
        analysis="search",
        sample="+".join(held_out_samples(config)),
        model=tagger or NO_CUT,
        metric=name,
        **value._asdict(),
        null=null,
        floor=floor,
        n=int(events),
        seeds=len(config.tagging.seeds) if tagger in config.tagging.models else 1,
    )
