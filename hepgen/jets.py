"""Events → jets: clustering, and the substructure of the leading jets."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import awkward as ak
import fastjet
import numpy as np

from hepgen.config import JetDefinition
from hepgen.errors import HepgenError
from hepgen.events import Events, iterate_events, wrap_phi
from hepgen.observables import compute
from hepgen.storage import refuse_inputs
from hepgen.table import Table, write_table

__all__ = ["Jets", "cluster", "observe", "observe_batches", "observe_file"]

ALGORITHMS = {
    "antikt": fastjet.antikt_algorithm,
    "cambridge": fastjet.cambridge_algorithm,
    "kt": fastjet.kt_algorithm,
}
Z_CUT = 0.1
Observer = Callable[[Events, JetDefinition], Table]
CARTESIAN = ("px", "py", "pz", "E")

# FastJet prints its banner on the standard output, which belongs to whoever runs hepgen.
fastjet.ClusterSequenceArea.set_fastjet_banner_stream(None)


@dataclass(frozen=True)
class Jets:
    """The leading jets of n events, the same number in each, by falling pT; GeV and radians.

    Attributes:
        p4: Four-momenta (px, py, pz, E) of shape (n, number, 4).
        particles: Constituents of all jets, one jet after the other: pt, eta, phi, px, py, pz, E.
        offsets: Where the constituents of each jet begin, and the last one's end: shape (n · number + 1,).
    """

    p4: np.ndarray
    particles: dict[str, np.ndarray]
    offsets: np.ndarray
    # Jets of a file may come with observables of their own; clustered ones are computed.
    given: ClassVar[dict[str, np.ndarray] | None] = None

    def __len__(self) -> int:
        return len(self.p4)

    @property
    def number(self) -> int:
        """How many jets every event has."""
        return self.p4.shape[1]

    @cached_property
    def pt(self) -> np.ndarray:
        """Transverse momenta, shape (n, number), as all that follow."""
        return np.hypot(self.p4[..., 0], self.p4[..., 1])

    @cached_property
    def eta(self) -> np.ndarray:
        return np.arcsinh(self.p4[..., 2] / self.pt)

    @cached_property
    def phi(self) -> np.ndarray:
        return wrap_phi(np.arctan2(self.p4[..., 1], self.p4[..., 0]))

    @cached_property
    def mass(self) -> np.ndarray:
        return _mass(self.p4)

    @cached_property
    def multiplicity(self) -> np.ndarray:
        """How many constituents each jet has."""
        return np.diff(self.offsets).reshape(self.p4.shape[:2])

    @cached_property
    def width(self) -> np.ndarray:
        """Σ pT ΔR / Σ pT, with ΔR in (η, φ) to the jet's momentum."""
        counts = self.multiplicity.ravel()
        deta = self.particles["eta"] - np.repeat(self.eta.ravel(), counts)
        dphi = wrap_phi(self.particles["phi"] - np.repeat(self.phi.ravel(), counts))
        pt = self.particles["pt"]
        return (self._sum(pt * np.hypot(deta, dphi)) / self._sum(pt)).reshape(self.p4.shape[:2])

    @cached_property
    def tau(self) -> np.ndarray:
        """N-subjettiness τ1, τ2, τ3, shape (n, number, 3).

        β = 1 about winner-takes-all kT axes, normalised by Σ pT (R0 = 1). Thaler and Van Tilburg 2011, arXiv:1011.2268.
        """
        # FastJet takes a misspelt measure or axes for another one without a word: the tests pin these two.
        values = self._cambridge.njettiness("NormalizedMeasure", "WTA_KT_Axes", [1, 2, 3], 1.0, 1.0)
        return ak.to_numpy(values).reshape(*self.p4.shape[:2], 3)

    @property
    def msd(self) -> np.ndarray:
        """Soft-drop mass; see `groomed`."""
        return self.groomed[0]

    @property
    def zg(self) -> np.ndarray:
        """Momentum fraction of the softer of the two groomed prongs, 0 where there is only one."""
        return self.groomed[1]

    @cached_property
    def groomed(self) -> tuple[np.ndarray, np.ndarray]:
        """Soft-drop mass and zg for z_cut = 0.1, β = 0. Larkoski, Marzani, Soyez, Thaler 2014, arXiv:1402.2657."""
        p4, zg = _soft_drop(self._cambridge, np.diff(self.offsets), Z_CUT)
        return _mass(p4).reshape(self.p4.shape[:2]), zg.reshape(self.p4.shape[:2])

    def constituents(self, rank: int) -> ak.Array:
        """Constituents of every event's jet of a rank (0 is the leading one), ``n * var * {pt, eta, phi}``."""
        jets = np.arange(len(self)) * self.number + rank
        index, offsets = _gather(self.offsets[jets], np.diff(self.offsets)[jets])
        return _records({name: self.particles[name][index] for name in ("pt", "eta", "phi")}, offsets)

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Sums over the constituents of each jet."""
        return np.add.reduceat(values, self.offsets[:-1]) if len(values) else np.zeros(0)

    @cached_property
    def _cambridge(self) -> fastjet.ClusterSequence:
        """Every jet's constituents as an event of their own, clustered into a single Cambridge/Aachen tree."""
        tree = fastjet.JetDefinition(fastjet.cambridge_algorithm, fastjet.JetDefinition.max_allowable_R)
        return fastjet.ClusterSequence(_records({name: self.particles[name] for name in CARTESIAN}, self.offsets), tree)


def cluster(particles: ak.Array, definition: JetDefinition) -> tuple[Jets, np.ndarray]:
    """Cluster events and keep those with enough jets.

    Args:
        particles: ``n * var * {pt, eta, phi}`` and optionally ``mass`` (massless without it).
        definition: Algorithm, radius, smallest pT and number of jets.

    Returns:
        The leading jets of the events that have as many, and the mask of these events, shape (n,).

    References:
        Cacciari, Salam, Soyez 2008, arXiv:0802.1189; 2012, arXiv:1111.6097.
    """
    columns, offsets = _flatten(particles)
    algorithm = fastjet.JetDefinition(ALGORITHMS[definition.algorithm], definition.radius)
    sequence = fastjet.ClusterSequence(_records({name: columns[name] for name in CARTESIAN}, offsets), algorithm)
    found = sequence.inclusive_jets(definition.pt_min).layout
    p4 = np.stack([found.content.content(name).data for name in CARTESIAN], axis=1)
    starts, counts = found.offsets.data[:-1], np.diff(found.offsets.data)
    event = np.repeat(np.arange(len(counts)), counts)
    by_pt = np.lexsort((-np.hypot(p4[:, 0], p4[:, 1]), event))
    passed = counts >= definition.number
    jets = by_pt[(starts[passed, None] + np.arange(definition.number)).ravel()]
    members = sequence.constituent_index(definition.pt_min).layout.content
    bounds = members.offsets.data
    index, jet_offsets = _gather(bounds[jets], bounds[jets + 1] - bounds[jets])
    index = members.content.data[index] + np.repeat(offsets[event[jets]], np.diff(jet_offsets))
    constituents = {name: values[index] for name, values in columns.items()}
    return Jets(p4[jets].reshape(-1, definition.number, 4), constituents, jet_offsets), passed


def observe(events: Events, definition: JetDefinition) -> Table:
    """Observables of the events that have enough jets, at either level where there is a truth level.

    What an event lacks jets for at one level is NaN there, and ``pass_reco`` and ``pass_truth`` tell; see `Table`.
    So the truth of an event never decides whether its detector level is kept.

    Args:
        events: Events of one batch.
        definition: How to cluster them.
    """
    jets, passed = cluster(events.particles, definition)
    ranks = range(definition.number)
    kept, columns, truth, true_constituents = passed, compute(jets), {}, ()
    if events.truth is not None:
        true_jets, true_passed = cluster(events.truth, definition)
        kept = passed | true_passed
        columns, truth = _spread(columns, passed[kept]), _spread(compute(true_jets), true_passed[kept])
        columns |= {"pass_reco": passed[kept], "pass_truth": true_passed[kept]}
        true_constituents = tuple(_spread_lists(true_jets.constituents(rank), true_passed[kept]) for rank in ranks)
    columns |= {name: values[kept] for name, values in events.columns.items()}
    constituents = tuple(_spread_lists(jets.constituents(rank), passed[kept]) for rank in ranks)
    return Table(columns, truth, constituents, true_constituents)


def observe_batches(
    batches: Iterable[Events], definition: JetDefinition, observe: Observer = observe
) -> Iterator[Table]:
    """The observables of a stream of events; batches of which no event has enough jets are left out."""
    for events in batches:
        table = observe(events, definition)
        if len(table):
            yield table


def observe_file(
    path_in: str | Path,
    path_out: str | Path,
    definition: JetDefinition,
    *,
    observe: Observer = observe,
    provenance: str = "{}",
    step: int = 2000,
) -> int:
    """Cluster an event file into a table, `step` events at a time; returns how many events are left.

    Args:
        path_in: Events.
        path_out: The table to write.
        definition: How to cluster them, or which of their jets to use.
        observe: Makes a table of each batch: `observe`, or `hepgen.ready_jets.observe` for jets that are there already.
        provenance: What the table was made from.
        step: Events a batch.

    Raises:
        HepgenError: if no event has enough jets, or a file cannot be read or written.
    """
    refuse_inputs(path_out, [path_in])

    def tables() -> Iterator[Table]:
        table = None
        for table in observe_batches(iterate_events(path_in, step), definition, observe):
            yield table
        if table is None:
            msg = (
                f"{path_in}: no event has {definition.number} {definition.algorithm} R = {definition.radius} jets "
                f"with pT > {definition.pt_min} GeV; lower pt_min or number in the jets block"
            )
            raise HepgenError(msg)

    return write_table(path_out, tables(), provenance)


def _spread(columns: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
    """Columns of the events in a mask as columns of all events, NaN elsewhere."""
    spread = {name: np.full(len(mask), np.nan, values.dtype) for name, values in columns.items()}
    for name, values in columns.items():
        spread[name][mask] = values
    return spread


def _spread_lists(lists: ak.Array, mask: np.ndarray) -> ak.Array:
    """Lists of the events in a mask as lists of all events, empty elsewhere."""
    counts = np.zeros(len(mask), np.int64)
    counts[mask] = ak.to_numpy(ak.num(lists))
    return ak.unflatten(ak.flatten(lists), counts)


def _flatten(particles: ak.Array) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Particles of all events in flat float64 columns, with Cartesian momenta, and the events' offsets."""
    offsets = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(particles)))])
    flat = ak.flatten(particles)
    pt, eta, phi = (ak.to_numpy(flat[name]).astype(np.float64) for name in ("pt", "eta", "phi"))
    mass = ak.to_numpy(flat["mass"]).astype(np.float64) if "mass" in ak.fields(particles) else 0.0
    columns = {"pt": pt, "eta": eta, "phi": phi, "px": pt * np.cos(phi), "py": pt * np.sin(phi)}
    columns["pz"] = pt * np.sinh(eta)
    columns["E"] = np.hypot(pt * np.cosh(eta), mass)
    return columns, offsets


def _records(columns: dict[str, np.ndarray], offsets: np.ndarray) -> ak.Array:
    """Lists of records from flat columns."""
    record = ak.contents.RecordArray([ak.contents.NumpyArray(values) for values in columns.values()], list(columns))
    return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(offsets), record))


def _gather(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of the elements of lists that begin at `starts`, and the offsets of these lists one after the other."""
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1]), offsets


def _mass(p4: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(p4[..., 3] ** 2 - (p4[..., :3] ** 2).sum(-1), 0))


def _soft_drop(sequence: fastjet.ClusterSequence, counts: np.ndarray, z_cut: float) -> tuple[np.ndarray, np.ndarray]:
    """Groom every single-jet Cambridge/Aachen tree with β = 0.

    The awkward interface of FastJet has the same, at twenty times the cost: it copies all constituents of a
    jet once for each of them.

    Returns:
        The groomed jets' momenta, shape (jets, 4), and zg, shape (jets,).
    """
    nodes, sizes = _trees(sequence, counts)
    momenta = sequence.jets().layout
    p4 = np.stack([momenta.content.content(name).data for name in CARTESIAN], axis=1)
    pt = np.hypot(p4[:, 0], p4[:, 1])
    first = momenta.offsets.data[:-1]
    here, zg = 2 * counts - 2, np.zeros(len(counts))
    active = np.flatnonzero(counts > 1)
    while len(active):
        # In post-order the second parent of a node stands just before it, and the first one before that one's tree.
        second = here[active] - 1
        first_parent = second - sizes[second, active]
        pt1, pt2 = (pt[first[active] + nodes[parent, active]] for parent in (first_parent, second))
        z = np.minimum(pt1, pt2) / (pt1 + pt2)
        groomed = z > z_cut
        zg[active[groomed]] = z[groomed]
        here[active[~groomed]] = np.where(pt1 > pt2, first_parent, second)[~groomed]
        active = active[~groomed]
        active = active[nodes[here[active], active] >= counts[active]]
    return p4[first + nodes[here, np.arange(len(counts))]], zg


def _trees(sequence: fastjet.ClusterSequence, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The clustering trees in post-order: nodes and sizes of their subtrees, shape (longest, jets).

    Nodes below a jet's number of particles are those particles, the others the mergings in their order.
    """
    history = sequence.unique_history_order().layout
    nodes = np.zeros((2 * counts.max(initial=1), len(counts)), np.int64)
    lengths = 2 * counts
    position = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    nodes[position, np.repeat(np.arange(len(counts)), lengths)] = history.content.data
    sizes, jets = np.ones_like(nodes), np.arange(len(counts))
    for here in range(2, len(nodes)):
        second = sizes[here - 1]
        both = second + sizes[np.maximum(here - 1 - second, 0), jets]
        sizes[here] = np.where(nodes[here] >= counts, 1 + both, 1)
    return nodes, sizes
