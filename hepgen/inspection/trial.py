"""Trying a reading on a file's first events: whether it works, with which jets, and what comes out."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import awkward as ak
import numpy as np

from hepgen import jets, ready_jets
from hepgen.config import Config, JetDefinition, parse
from hepgen.errors import HepgenError
from hepgen.events import Events, check_particles
from hepgen.inspection.findings import SAMPLED, Finding, Reading
from hepgen.samples import Sample
from hepgen.sources import SOURCES
from hepgen.table import Table

__all__ = ["Trial", "attempt", "configure"]

# Tried one after the other until half of the events have as many jets.
NUMBERS = (2, 1)
PT_MIN = (20.0, 10.0, 5.0, 2.0, 1.0)
ENOUGH = 0.5
FEW = 200
MOST_ROWS = 12
MANY_FAKES = 0.2


@dataclass(frozen=True)
class Trial:
    """A reading that works.

    Attributes:
        reading: The reading, its entry complete.
        jets: The jet definition that suits it, if it needs one.
        share: Fraction of the events that have what is read.
        evidence: What the numbers look like, by name.
        problems: What looks wrong with them.
        keys: A hash of each event, for finding those that occur twice.
    """

    reading: Reading
    jets: dict[str, Any] | None
    share: float
    evidence: list[tuple[str, str]]
    problems: list[str]
    keys: list[int]


def configure(reading: Reading, path: str | list[str], name: str, definition: dict[str, Any] | None) -> dict[str, Any]:
    """The content of a configuration with this one sample."""
    source = {"source": reading.entry["source"], "path": path}
    entry = source | ({"jets": "jets"} if definition else {}) | reading.entry
    blocks = {"title": f"Analysis of {name}", "jets": {"jets": definition}, "samples": {name: entry}}
    return blocks if definition else {key: block for key, block in blocks.items() if key != "jets"}


def attempt(finding: Finding, reading: Reading) -> Trial:
    """Read a file's first events as a run would.

    Raises:
        HepgenError: if that fails; the message is the one that the run would end in.
    """
    definition = None if reading.radius is None else {"radius": reading.radius, "number": reading.number or 1}
    chunks = 1 if finding.at_least else max(1, -(-finding.events // SAMPLED))
    entry = _config(finding, reading, definition, chunks=chunks).samples["sample"]
    batch = _first(entry, finding.path)
    if isinstance(batch, Table):
        return Trial(reading, None, 1.0, *_of_table(batch))
    for level, particles in (("particles", batch.particles), ("truth", batch.truth)):
        if particles is not None:
            check_particles(particles, f"{finding.path}: {level}")
    if batch.truth is not None and not ak.any(ak.num(batch.truth) > 0):
        msg = f"{finding.path}: the truth of the first {len(batch)} events is empty"
        raise HepgenError(msg)
    definition, share = _definition(batch, entry, reading, definition)
    config = _config(finding, reading, definition)
    table = ready_jets.observer(entry)(batch if entry.has_jets else batch[:FEW], config.jets_of("sample"))
    if not len(table):
        few, pt_min = len(batch[:FEW]), definition["pt_min"]
        msg = f"{finding.path}: none of the first {few} events has a jet with pT > {pt_min:g} GeV"
        raise HepgenError(msg)
    evidence, problems, keys = _of_events(batch, entry)
    if entry.per_jet:
        pairs, fakes, misses = _pairs(table)
        evidence.append(
            ("pairs of jets", f"{pairs}, with {fakes} fakes and {misses} misses above {definition['pt_min']:g} GeV")
        )
        if fakes > MANY_FAKES * (pairs + fakes):
            problems.append(
                f"{fakes / (pairs + fakes):.0%} of the jets have no true partner: pile-up, leptons or thresholds?"
            )
    return Trial(reading, definition, share, evidence, problems, keys)


def _pairs(table: Table) -> tuple[int, int, int]:
    """How many rows are pairs, fakes and misses."""
    reco, truth = (table.passed(level) for level in ("columns", "truth"))
    return int((reco & truth).sum()), int((reco & ~truth).sum()), int((~reco & truth).sum())


def _config(finding: Finding, reading: Reading, definition: dict[str, Any] | None, **extra: Any) -> Config:
    return parse(configure(replace(reading, entry=reading.entry | extra), finding.path, "sample", definition))


def _first(entry: Sample, path: str) -> Events | Table:
    """At most `SAMPLED` events, from the source's first batches."""
    batches: Iterator[Events | Table] = SOURCES.load(entry.source)(entry, 0, 0)
    for batch in batches:
        if len(batch):
            return batch[:SAMPLED]
    msg = f"{path}: holds no event"
    raise HepgenError(msg)


def _definition(batch: Events, entry: Sample, reading: Reading, start: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """The first number of jets and pT that half of the events reach, and how many have anything."""
    present = ak.to_numpy(ak.num(batch.particles)) > 0
    share = float(present.mean())
    few = ak.drop_none(batch.particles[present][:FEW])
    for pt_min in (_stored_from(batch), *PT_MIN) if entry.has_jets else PT_MIN:
        for number in (1,) if entry.per_jet else (reading.number,) if reading.number else NUMBERS:
            trial = {**start, "number": number, "pt_min": pt_min}
            if _passing(few, JetDefinition(**trial), ready=entry.has_jets) >= ENOUGH:
                return trial, share
    return {**start, "number": 1, "pt_min": PT_MIN[-1]}, share


def _stored_from(batch: Events) -> float:
    """The pT [GeV] above which jets of all levels are stored; the first of `PT_MIN` where that is about as low."""
    lowest = [
        float(ak.min(jets.pt)) for jets in (batch.particles, batch.truth) if jets is not None and ak.any(jets.pt > 0)
    ]
    highest = max(lowest, default=0.0)
    return float(math.ceil(highest)) if highest > 1.25 * PT_MIN[0] else PT_MIN[0]


def _passing(particles: ak.Array, definition: JetDefinition, *, ready: bool) -> float:
    """The fraction of events with enough jets."""
    if not len(particles):
        return 0.0
    if ready:
        return float(np.mean(ak.sum(particles.pt >= definition.pt_min, axis=1) >= definition.number))
    return float(jets.cluster(particles, definition)[1].mean())


def _of_events(batch: Events, entry: Sample) -> tuple[list[tuple[str, str]], list[str], list[int]]:
    """What the particles or jets look like, what looks wrong with them, and a key for each event."""
    what = "jets" if entry.has_jets else "particles"
    levels = [(what, batch.particles), *([] if batch.truth is None else [(f"true {what}", batch.truth)])]
    evidence = [row for name, particles in levels for row in _momenta(name, particles)]
    columns, problems = _columns(batch.columns)
    fields = [ak.to_list(batch.particles[name]) for name in ("pt", "eta", "phi")]
    keys = [hash((tuple(pt), tuple(eta), tuple(phi))) for pt, eta, phi in zip(*fields, strict=True) if len(pt) > 1]
    return evidence + columns, problems, keys


def _momenta(name: str, particles: ak.Array) -> list[tuple[str, str]]:
    counts, pt = ak.to_numpy(ak.num(particles)), ak.values_astype(particles.pt, np.float64)
    some = pt[counts > 0]
    if not len(some):
        return [(f"{name} an event", "0")]
    leading = np.median(ak.to_numpy(ak.drop_none(ak.max(some, axis=1))))
    total = np.median(ak.to_numpy(ak.sum(some, axis=1)))
    none = f", none in {len(counts) - len(some)} of {len(counts)}" if len(some) < len(counts) else ""
    return [
        (f"{name} an event", f"{np.median(counts):g} in the median, at most {counts.max()}{none}"),
        (f"leading pT of {name}", f"{leading:.4g} GeV in the median"),
        (f"ΣpT of {name}", f"{total:.4g} GeV in the median"),
    ]


def _columns(columns: dict[str, np.ndarray]) -> tuple[list[tuple[str, str]], list[str]]:
    """Labels, weights and what else there is of each event."""
    evidence, problems = [], []
    for name, values in columns.items():
        finite = values[np.isfinite(values)]
        if name == "label":
            evidence.append((name, f"{finite.mean():.3g} of the events are signal"))
        elif name == "weight":
            negative = float((finite < 0).mean())
            evidence.append((name, f"{np.median(finite):.4g} in the median, {negative:.2%} negative"))
            if negative:
                problems.append(
                    f"{negative:.2%} of the weights are negative, which trainings and unfolding do not take"
                )
        elif len(finite) and name not in ("pass_reco", "pass_truth"):
            numbers = f"{finite.min():.4g} to {finite.max():.4g}, {np.median(finite):.4g} in the median"
            evidence.append((name, numbers))
            if len(finite) < len(values):
                evidence[-1] = (name, f"{numbers}; {len(values) - len(finite)} of {len(values)} missing")
    return evidence, problems


def _of_table(table: Table) -> tuple[list[tuple[str, str]], list[str], list[int]]:
    evidence, problems = _columns(table.columns)
    if len(evidence) > MOST_ROWS:
        evidence = [*evidence[:MOST_ROWS], ("…", f"and {len(evidence) - MOST_ROWS} more")]
    everything = [*table.columns.values(), *table.truth.values()]
    reals = [column for column in everything if column.dtype.kind == "f" and (column != np.round(column)).any()]
    # Rows of few numbers are equal by chance.
    keys = [hash(row.tobytes()) for row in np.stack(reals, axis=1)] if len(reals) > 3 else []
    if table.truth:
        evidence.append(("truth", f"{len(table.truth)} observables at particle level too"))
    return evidence, problems, keys
