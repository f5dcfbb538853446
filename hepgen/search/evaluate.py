"""The search: every cut at every injected strength, hunted for bumps and tested for the simulated signal."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.metrics.intervals import Interval
from hepgen.metrics.record import Metric, write_metrics
from hepgen.observables import describe
from hepgen.plots.figures import Axis, write_figure
from hepgen.provenance import seed_for
from hepgen.search import figures
from hepgen.search.background import SQRT_S, falling_edges, fit
from hepgen.search.hunt import hunt
from hepgen.search.pseudodata import MIN_TEMPLATE, Events, inject, load_events, select
from hepgen.search.results import NO_CUT, Case, Outcome
from hepgen.search.statistics import REFERENCE, asimov, discovery, limits, workspace
from hepgen.storage import write_json
from hepgen.tagging.dataset import held_out_samples

__all__ = ["evaluate"]

# A cut that leaves fewer events in the range, or fewer of the expected signal, is not searched.
MIN_EVENTS = 50
MIN_SIGNAL = 10
# The bins around the signal hold this part of it.
CENTRAL = (0.1, 0.9)


def evaluate(config: Config, paths: dict[str, list[Path]], score_files: list[Path], output: Path) -> list[Metric]:
    """Write ``metrics.json``, ``figures/*.json`` and ``workspaces/*.json`` into a folder; returns the metrics.

    A cut that leaves too few events has only the record of how many there are.

    Raises:
        HepgenError: if scores are missing or constant, there is too little signal or background, or a fit fails.
    """
    background, signal = load_events(config, paths, score_files)
    edges = _edges(config, background.mass)
    window = _window(signal.mass, edges)
    strengths = sorted({0, *config.search.injected})
    samples = {injected: inject(config, background, signal, injected) for injected in strengths}
    cases: list[Case] = []
    for tagger, efficiency in _cuts(config):
        spectra = {n: _spectra(*samples[n], tagger, efficiency, edges) for n in strengths}
        cases.append(_case(config, tagger, efficiency, spectra, edges, window))
    if not cases[0].outcomes:
        msg = f"search: only {cases[0].events[0]:g} background events lie in the spectrum's range"
        raise HepgenError(f"{msg}; at least {MIN_EVENTS} are needed: change search.range or give more events")
    metrics = [metric for case in cases for metric in _of_case(config, case, cases[0])]
    metrics += [metric for tagger in config.search.taggers for metric in _of_tagger(config, tagger, cases)]
    axis = Axis(label=describe(config.search.mass).axis_label)
    for case in cases:
        for injected, outcome in case.outcomes.items():
            write_json(Path(output) / "workspaces" / f"{case.file}_{injected}.json", outcome.spec)
    for name, figure in figures.all_figures(config, cases, edges, axis):
        write_figure(Path(output) / "figures" / f"{name}.json", figure)
    write_metrics(Path(output) / "metrics.json", metrics)
    return metrics


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


def _spectra(
    data: Events, signal: Events, tagger: str | None, efficiency: float, edges: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Binned pseudo-data, the signal expected of `REFERENCE` events, and how many it was taken from."""
    kept = select(data, signal, tagger, efficiency)
    counts, expected = (np.histogram(mass, edges)[0].astype(np.float64) for mass in (kept.data, kept.signal))
    return counts, expected * REFERENCE / len(signal), int(expected.sum())


def _case(
    config: Config,
    tagger: str | None,
    efficiency: float,
    spectra: dict[int, tuple[np.ndarray, np.ndarray, int]],
    edges: np.ndarray,
    window: np.ndarray,
) -> Case:
    """All strengths after one cut; what is expected of a signal is the same cut's, without one in the data."""
    outcomes: dict[int, Outcome] = {}
    for injected, (counts, signal, number) in spectra.items():
        if min(counts.sum() / MIN_EVENTS, number / MIN_SIGNAL) < 1 or (injected and 0 not in outcomes):
            continue
        seed = seed_for(config.seed, "search", tagger or NO_CUT, str(efficiency), injected)
        bump = hunt(counts, edges, config.search.toys, seed)
        beside = fit(counts, edges, ~window)
        spec = workspace(counts[window], beside.expected[window], beside.modes[:, window], signal[window])
        without = outcomes[0].spec if injected else spec
        expected = discovery(asimov(without, injected))
        outcomes[injected] = Outcome(counts, bump, spec, discovery(spec), expected, limits(spec))
    return Case(tagger, efficiency, {n: float(spectrum[0].sum()) for n, spectrum in spectra.items()}, outcomes)


def _of_case(config: Config, case: Case, uncut: Case) -> Iterator[Metric]:
    """All figures of merit of one cut; significances as numbers of standard deviations."""
    for injected, events in case.events.items():
        outcome = case.outcomes.get(injected)
        known: dict[str, tuple[Interval, float | None, float | None]] = {"events": (_exact(events), None, MIN_EVENTS)}
        if outcome:
            bump, upper, z = outcome.bump, outcome.limits, outcome.expected
            mass = Interval(sum(bump.window) / 2, *bump.window)
            known |= {
                "fit_p": (_exact(bump.fit), 0.5, None),
                "bump_mass": (mass, None, None),
                "local_p": (_exact(bump.local), None, None),
                "global_p": (bump.overall, 0.5, None),
                "observed_significance": (_exact(outcome.observed), 0.0, 1.0),
                "expected_significance": (Interval(z, max(z - 1, 0.0), z + 1), 0.0, 1.0),
                "observed_limit": (_exact(upper.observed), upper.expected[2], None),
                "expected_limit": (Interval(upper.expected[2], upper.expected[1], upper.expected[3]), None, None),
            }
        for name, (value, null, floor) in known.items():
            metric = f"{name}/{case.efficiency:g}_kept/{injected}_injected"
            yield _metric(config, case.tagger, metric, value, null, floor, events)
    if case.tagger and case.outcomes:
        gain = _exact(uncut.expected_limit / case.expected_limit)
        yield _metric(config, case.tagger, f"improvement/{case.efficiency:g}_kept", gain, 1.0, None, case.events[0])


def _of_tagger(config: Config, tagger: str, cases: list[Case]) -> Iterator[Metric]:
    """What the cut with the lowest expected limit gives, and whether the search without signal finds anything.

    The smallest global p-value of the tagger's cuts is corrected for their number (Šidák 1967).
    """
    searched = [case for case in cases if case.tagger == tagger and case.outcomes]
    if not searched:
        return
    best, uncut = min(searched, key=lambda case: case.expected_limit), cases[0]
    upper = best.outcomes[0].limits.expected
    limit = Interval(upper[2], upper[1], upper[3])
    yield _metric(config, tagger, "expected_limit", limit, uncut.expected_limit, None, best.events[0])
    gain = _exact(uncut.expected_limit / best.expected_limit)
    yield _metric(config, tagger, "improvement", gain, 1.0, None, best.events[0])
    smallest = min((case.outcomes[0].bump.overall for case in searched), key=lambda p: p.value)
    corrected = Interval(*(1 - (1 - p) ** len(searched) for p in smallest))
    yield _metric(config, tagger, "null_global_p", corrected, 0.5, figures.FOUND, best.events[0])


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
