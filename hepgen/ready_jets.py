"""Events whose jets come from the file → observables: the leading jets of each event, or one pair of levels a row."""

from dataclasses import dataclass
from functools import cached_property, partial

import awkward as ak
import numpy as np

from hepgen.config import JetDefinition
from hepgen.events import Events, wrap_phi
from hepgen.jets import Observer
from hepgen.jets import observe as observe_clustered
from hepgen.observables import compute
from hepgen.samples import Entry, Match
from hepgen.table import Table

__all__ = ["ReadyJets", "match_by_distance", "observe", "observer"]

MOMENTUM = ("pt", "eta", "phi")
NOT_GIVEN = (*MOMENTUM, "truth_index")


@dataclass(frozen=True)
class ReadyJets:
    """The leading jets of n events, the same number in each, by falling pT; GeV and radians.

    Attributes:
        pt: Transverse momenta, shape (n, number), as all that follow.
        eta: Pseudorapidities.
        phi: Azimuths in [−π, π).
        given: What else the file says of the jets, by observable: ``mass`` and others.
    """

    pt: np.ndarray
    eta: np.ndarray
    phi: np.ndarray
    given: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.pt)

    @property
    def number(self) -> int:
        """How many jets every event has."""
        return self.pt.shape[1]

    @property
    def mass(self) -> np.ndarray:
        """Masses, 0 where the file has none."""
        return self.given.get("mass", np.zeros_like(self.pt))

    @cached_property
    def p4(self) -> np.ndarray:
        """Four-momenta (px, py, pz, E) of shape (n, number, 4)."""
        energy = np.hypot(self.pt * np.cosh(self.eta), self.mass)
        x, y = self.pt * np.cos(self.phi), self.pt * np.sin(self.phi)
        return np.stack([x, y, self.pt * np.sinh(self.eta), energy], axis=-1)


@dataclass(frozen=True)
class Flat:
    """The jets of n events, one after the other: their numbers, the event of each and where each event's begin."""

    fields: dict[str, np.ndarray]
    event: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.event)

    def take(self, index: np.ndarray) -> ReadyJets:
        """The jets of an index array of shape (n, number)."""
        fields = {name: values[index] for name, values in self.fields.items()}
        given = {name: values for name, values in fields.items() if name not in NOT_GIVEN}
        return ReadyJets(*(fields[name] for name in MOMENTUM), given)


def observe(events: Events, definition: JetDefinition, match: Match | None = None, *, per_jet: bool = False) -> Table:
    """Observables of the jets that a file holds, in place of `hepgen.jets.observe`.

    A row is an event that has enough jets at either level, with its leading jets, or with `per_jet` each jet of an
    event, for samples that have one level. With `match` a row is a
    pair of jets of both levels; unmatched jets have a row of their own (fakes and misses), and event columns are
    repeated. What a row lacks at a level is NaN there, and ``pass_reco`` and ``pass_truth`` tell. There are those
    observables that follow from the jets' momenta and from what the file gives of them; no constituents.

    Args:
        events: Events of one batch; ``particles`` and ``truth`` are jets, ``n * var * {pt, eta, phi, ...}``.
        definition: Smallest pT and, without `match`, number of jets; algorithm and radius are the file's.
        match: How to pair the jets of both levels.
        per_jet: Whether a row is a jet, where there is no `match`.
    """
    if match is not None:
        return _pairs(events, definition.pt_min, match)
    if per_jet:
        jets = _flat(events.particles)
        hard = np.flatnonzero(jets.fields["pt"] >= definition.pt_min)
        return _rows(events, [jets], [hard[:, None]], jets.event[hard])
    levels = [_flat(level) for level in (events.particles, events.truth) if level is not None]
    leading = [_leading(jets, definition) for jets in levels]
    passed = [index[:, 0] >= 0 for index in leading]
    kept = np.flatnonzero(np.logical_or.reduce(passed))
    return _rows(events, levels, [index[kept] for index in leading], kept)


def observer(sample: Entry) -> Observer:
    """What makes tables of a sample's events: `observe` where the file holds jets, else `hepgen.jets.observe`."""
    return partial(observe, match=sample.match, per_jet=sample.per_jet) if sample.has_jets else observe_clustered


def match_by_distance(reco: Flat, truth: Flat, radius: float) -> np.ndarray:
    """Of each jet, the true jet that it is paired with, or −1: the closest pair of an event first, one to one.

    Args:
        reco: Jets of n events.
        truth: True jets of the same events.
        radius: Largest ΔR, the distance in η and φ [rad].

    Returns:
        Index into all true jets, shape (jets,).
    """
    counts = np.diff(truth.offsets)[reco.event]
    first = np.repeat(np.arange(len(reco)), counts)
    begin = np.cumsum(counts) - counts
    second = np.arange(len(first)) - np.repeat(begin, counts) + np.repeat(truth.offsets[reco.event], counts)
    deta = reco.fields["eta"][first] - truth.fields["eta"][second]
    distance = np.hypot(deta, wrap_phi(reco.fields["phi"][first] - truth.fields["phi"][second]))
    order = np.argsort(distance, kind="stable")
    order = order[distance[order] <= radius]
    first, second = first[order], second[order]
    partner, taken = np.full(len(reco), -1), np.zeros(len(truth), bool)
    while len(first):
        # A pair that is the closest one of both its jets is taken by the greedy rule whatever the other pairs.
        rank = np.arange(len(first))
        nearest = np.zeros((2, max(len(reco), len(truth))), np.int64)
        nearest[0][first[::-1]] = nearest[1][second[::-1]] = rank[::-1]
        mutual = (nearest[0][first] == rank) & (nearest[1][second] == rank)
        partner[first[mutual]], taken[second[mutual]] = second[mutual], True
        free = (partner[first] < 0) & ~taken[second]
        first, second = first[free], second[free]
    return partner


def _flat(jets: ak.Array) -> Flat:
    """Jets of all events as float64 columns."""
    counts = ak.to_numpy(ak.num(jets))
    flat = ak.flatten(jets)
    fields = {name: ak.to_numpy(flat[name]).astype(np.float64) for name in ak.fields(jets)}
    return Flat(fields, np.repeat(np.arange(len(counts)), counts), np.concatenate([[0], np.cumsum(counts)]))


def _leading(jets: Flat, definition: JetDefinition) -> np.ndarray:
    """Index of every event's leading jets by falling pT, shape (n, number); −1 where there are too few."""
    events, number = len(jets.offsets) - 1, definition.number
    hard = np.flatnonzero(jets.fields["pt"] >= definition.pt_min)
    hard = hard[np.lexsort((-jets.fields["pt"][hard], jets.event[hard]))]
    counts = np.bincount(jets.event[hard], minlength=events)
    enough = counts >= number
    starts = np.cumsum(counts) - counts
    leading = np.full((events, number), -1)
    leading[enough] = hard[starts[enough, None] + np.arange(number)]
    return leading


def _pairs(events: Events, pt_min: float, match: Match) -> Table:
    """One row for each matched pair, each fake and each miss, in the order of the events."""
    reco, truth = _flat(events.particles), _flat(events.truth)
    partner = _by_index(reco, truth) if match.radius is None else match_by_distance(reco, truth, match.radius)
    missed = np.setdiff1d(np.arange(len(truth)), partner)
    pairs = np.concatenate([[np.arange(len(reco)), partner], [np.full(len(missed), -1), missed]], axis=1)
    event = np.concatenate([reco.event, truth.event[missed]])
    levels = (reco, truth)
    for jets, index in zip(levels, pairs, strict=True):
        index[(index >= 0) & ~np.append(jets.fields["pt"] >= pt_min, False)[index]] = -1
    rows = np.flatnonzero((pairs >= 0).any(0))
    rows = rows[np.argsort(event[rows], kind="stable")]
    return _rows(events, levels, [index[rows, None] for index in pairs], event[rows])


def _by_index(reco: Flat, truth: Flat) -> np.ndarray:
    """Of each jet, the true jet that its ``truth_index`` means; of several jets of one, the hardest has it."""
    given = reco.fields["truth_index"].astype(np.int64)
    partner = np.full(len(reco), -1)
    by_pt = np.argsort(-reco.fields["pt"], kind="stable")
    by_pt = by_pt[given[by_pt] >= 0]
    target = truth.offsets[reco.event[by_pt]] + given[by_pt]
    found, hardest = np.unique(target, return_index=True)
    partner[by_pt[hardest]] = found
    return partner


def _rows(events: Events, levels: list[Flat], indices: list[np.ndarray], event: np.ndarray) -> Table:
    """The table of some jets.

    Args:
        events: The events that they are of.
        levels: The jets of one or both levels.
        indices: Of each level, the jets of each row, shape (rows, number); −1 for none.
        event: The event of each row.
    """
    tables, passed = [], [index[:, 0] >= 0 for index in indices]
    for jets, index, there in zip(levels, indices, passed, strict=True):
        columns = compute(jets.take(index[there]))
        tables.append({name: _spread(values, there) for name, values in columns.items()})
    columns = tables[0]
    if len(levels) > 1:
        columns |= {"pass_reco": passed[0], "pass_truth": passed[1]}
    columns |= {name: values[event] for name, values in events.columns.items()}
    return Table(columns, tables[1] if len(levels) > 1 else {})


def _spread(values: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Values of the rows in a mask as values of all rows, NaN elsewhere."""
    spread = np.full(len(there), np.nan, values.dtype)
    spread[there] = values
    return spread
