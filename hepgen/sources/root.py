"""ROOT files: particles to be clustered, jets as they are in the file, or observables, of TTrees and RNTuples."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np
from pydantic import BaseModel

from hepgen.errors import HepgenError
from hepgen.events import ETA_MAX, Events, mass_of, polar, wrap_phi
from hepgen.expressions import Expression
from hepgen.inputs import Part, parts_of
from hepgen.observables import describe
from hepgen.progress import Log
from hepgen.samples import JetCollection, Momenta, RootSample
from hepgen.sources.files import warn_empty
from hepgen.sources.formulas import Batch, Lists, column, condition, is_true, joined, lists_of, single
from hepgen.sources.trees import Tree, open_tree
from hepgen.table import Table

__all__ = ["stream"]

# Uncompressed bytes of a batch: large enough that Python costs nothing beside reading, small beside any memory.
BATCH = 24 << 20
FORMULAS = ("cut", "particles", "jet_collection", "observables", "passed", "truth", "match", "weight", "label")
FIELDS = ("pt", "eta", "phi", "px", "py", "pz", "mass", "energy")
# Scalar sums of pT [GeV] that no collision at the LHC has, and hardly any that somebody selected.
SUM_PT_MAX, SUM_PT_MIN = 14_000, 2


@dataclass(frozen=True)
class Objects:
    """Particles or jets of n events.

    Attributes:
        fields: float32 numbers of the objects of all events: pt, eta, phi and what else there is.
        offsets: Where each event's begin, and the last one's end, shape (n + 1,).
        given: The same before objects were left out.
        kept: Which of them are left, shape (objects in the file,); None for all.
    """

    fields: dict[str, np.ndarray]
    offsets: np.ndarray
    given: np.ndarray
    kept: np.ndarray | None

    def array(self) -> ak.Array:
        """As ``n * var * {pt, eta, phi, ...}``."""
        contents = [ak.contents.NumpyArray(values) for values in self.fields.values()]
        record = ak.contents.RecordArray(contents, list(self.fields), length=int(self.offsets[-1]))
        return ak.Array(ak.contents.ListOffsetArray(ak.index.Index64(self.offsets), record))


def stream(sample: RootSample, chunk: int = 0, seed: int = 0) -> Iterator[Events | Table]:
    """The events of one chunk in batches of about 24 MB, so that memory stays bounded whatever the files' size.

    Momenta are float32 in GeV and radians; event columns are float32, ``weight`` is float64 and ``label`` int8. Jets
    keep their further observables as fields and, if they are matched by index, ``truth_index``: the position of their
    true jet among those that are used, −1 for none. `seed` is not used: nothing here is random.

    Args:
        sample: The files and what of them to read.
        chunk: Which contiguous part of the events of all files, counted from 0.
        seed: Part of the interface of every source.

    Raises:
        HepgenError: if a file is missing or damaged, a branch is missing or not of the right form, or a number is
            unphysical.
    """
    for part in parts_of(sample, chunk):
        yield from _read_part(part, sample)


def _read_part(part: Part, sample: RootSample) -> Iterator[Events | Table]:
    with open_tree(part.path, sample.tree) as tree:
        if tree.entries == 0:
            warn_empty(tree.where)
            return
        doubted = sample.is_table
        for batch in _batches(tree, part, sample):
            converted = _table(batch, sample) if sample.is_table else _events(batch, sample)
            if not doubted and len(converted):
                _doubt_unit(converted, tree, _unit(sample, tree))
                doubted = True
            if len(converted):
                yield converted


def _batches(tree: Tree, part: Part, sample: RootSample) -> Iterator[Batch]:
    """What the sample needs of a tree, without the events that it cuts away."""
    texts = dict.fromkeys(text for key in FORMULAS for text in _texts(getattr(sample, key)))
    expressions = {text: Expression(text) for text in texts if text not in tree.branches}
    needed = {name for expression in expressions.values() for name in expression.names}
    names = sorted(needed.union(text for text in texts if text not in expressions))
    if not names:
        msg = f"{tree.where}: the sample reads no branch"
        raise HepgenError(msg)
    rows = part.rows(tree.entries)
    number = rows.start
    for branches in tree.iterate(names, rows.start, rows.stop, tree.step_for(names, BATCH)):
        numbers = np.arange(number, number + len(branches[names[0]]))
        number += len(numbers)
        batch = Batch(tree, branches, numbers, expressions)
        yield batch if sample.cut is None else batch[condition(batch, sample.cut)]


def _texts(value: Any) -> Iterator[str]:
    """All formulas within a part of the sample's entry."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, BaseModel):
        yield from _texts([getattr(value, name) for name in type(value).model_fields])
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _events(batch: Batch, sample: RootSample) -> Events:
    scale = _scale(sample, batch.tree)
    collections = sample.particles or sample.jet_collection
    objects = _level(batch, collections, scale, sample.passed)
    columns = _event_columns(batch, sample)
    columns |= _numbers(batch, sample, sample.observables)
    if sample.truth is None:
        return Events(_together(objects), columns)
    truth = _level(batch, sample.truth.particles or sample.truth.jet_collection, scale, sample.truth.passed)
    if sample.match and sample.match.index is not None:
        objects[0].fields["truth_index"] = _truth_index(batch, sample.match.index, objects[0], truth[0])
    return Events(_together(objects), columns, _together(truth))


def _event_columns(batch: Batch, sample: RootSample) -> dict[str, np.ndarray]:
    """Weight and label, where there are any."""
    columns: dict[str, np.ndarray] = {}
    if sample.weight is not None:
        columns["weight"] = column(batch, sample.weight).astype(np.float64)
    if sample.label is not None:
        text = str(sample.label)
        values = np.full(len(batch), sample.label) if isinstance(sample.label, int) else column(batch, text)
        bad = ~np.isin(values, (0, 1))
        if bad.any():
            event = int(bad.argmax())
            raise batch.error(f"label {text!r} is {values[event]}, neither 0 nor 1", event)
        columns["label"] = values.astype(np.int8)
    return columns


def _table(batch: Batch, sample: RootSample) -> Table:
    """Observables at both levels; NaN at the one where an event does not exist."""
    columns = _event_columns(batch, sample)
    everything = np.ones(len(batch), bool)
    if sample.truth is None:
        return Table(_numbers(batch, sample, sample.observables) | columns)
    seen, true = (
        everything if text is None else condition(batch, text) for text in (sample.passed, sample.truth.passed)
    )
    columns |= {"pass_reco": seen, "pass_truth": true}
    reco = _numbers(batch, sample, sample.observables, seen)
    truth = _numbers(batch, sample, sample.truth.observables, true)
    return Table(reco | columns, truth)[seen | true]


def _numbers(
    batch: Batch, sample: RootSample, formulas: dict[str, str], needed: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Observables of each event, NaN where they are not needed."""
    scale = _scale(sample, batch.tree)
    return {name: _in_gev(name, single(batch, text, needed), scale) for name, text in formulas.items()}


def _level(batch: Batch, collections: Momenta | list[Momenta], scale: float, passed: str | None) -> list[Objects]:
    """The objects of one level, by collection; events that do not exist there have none."""
    exists = None if passed is None else condition(batch, passed)
    collections = collections if isinstance(collections, list) else [collections]
    return [_objects(batch, collection, scale, exists) for collection in collections]


def _together(collections: list[Objects]) -> ak.Array:
    """The objects of several collections as one; in one without masses they are zero where another has them."""
    if any("mass" in objects.fields for objects in collections):
        for objects in collections:
            if "mass" not in objects.fields:
                objects.fields["mass"] = np.zeros_like(objects.fields["pt"])
    arrays = [objects.array() for objects in collections]
    return arrays[0] if len(arrays) == 1 else ak.concatenate(arrays, axis=1)


def _objects(batch: Batch, momenta: Momenta, scale: float, exists: np.ndarray | None) -> Objects:
    """The objects of one collection, without those that `where` or `exists` leaves out, and without padding."""
    formulas = {name: getattr(momenta, name) for name in FIELDS if getattr(momenta, name) is not None}
    extra = momenta.observables if isinstance(momenta, JetCollection) else {}
    first, lists = None, {}
    for name, formula in {**formulas, **extra}.items():
        lists[name] = lists_of(batch, formula, first, joined(next(iter(formulas.values()))))
        first = first or lists[name]
    keep = _kept(batch, momenta, lists, first, exists)
    values = {name: item.values if keep is None else item.values[keep] for name, item in lists.items()}
    offsets = first.offsets if keep is None else _before(keep)[first.offsets]
    texts = {name: joined(formula) for name, formula in {**formulas, **extra}.items()}
    fields = _fields(values, scale, list(extra))
    return Objects(_physical(batch, fields, texts, offsets), offsets, first.offsets, keep)


def _before(kept: np.ndarray) -> np.ndarray:
    """How many objects are kept of those before each, and in all."""
    return np.concatenate([[0], np.cumsum(kept)])


def _kept(
    batch: Batch, momenta: Momenta, lists: dict[str, Lists], first: Lists, exists: np.ndarray | None
) -> np.ndarray | None:
    """Which objects to use, shape (objects,); None for all."""
    conditions = []
    if momenta.where is not None:
        if batch.array(momenta.where).ndim > 1:
            pt = joined(momenta.pt or momenta.px)
            conditions.append(is_true(lists_of(batch, momenta.where, first, pt).values))
        else:
            conditions.append(np.repeat(condition(batch, momenta.where), first.counts))
    if exists is not None:
        conditions.append(np.repeat(exists, first.counts))
    if first.padded and "pt" in lists:
        conditions.append(~(lists["pt"].values <= 0))
    elif first.padded:
        px, py, pz = (lists[name].values for name in ("px", "py", "pz"))
        # What stands for nothing is the same number three times: 0, or −999.
        conditions.append(~((px == py) & (py == pz)) & ~((px == 0) & (py == 0)))
    return np.logical_and.reduce(conditions) if conditions else None


def _fields(values: dict[str, np.ndarray], scale: float, extra: list[str]) -> dict[str, np.ndarray]:
    """pt, eta, phi, mass if there is one, and the extra fields, all float32; momenta in GeV."""
    with np.errstate(all="ignore"):
        if "px" in values:
            x, y, z = (values[name].astype(np.float64) for name in ("px", "py", "pz"))
            fields = dict(zip(("pt", "eta", "phi"), polar(x, y, z), strict=True))
        else:
            fields = {name: values[name] for name in ("pt", "eta", "phi")}
        if "energy" in values:
            pt = fields["pt"].astype(np.float64)
            z = z if "px" in values else pt * np.sinh(fields["eta"].astype(np.float64))
            fields["mass"] = mass_of(values["energy"].astype(np.float64), pt, z)
        elif "mass" in values:
            fields["mass"] = values["mass"]
        fields |= {name: values[name] for name in extra}
        if scale != 1:
            fields = {name: _in_gev(name, item, scale) for name, item in fields.items()}
        return {name: np.ascontiguousarray(item, np.float32) for name, item in fields.items()}


def _in_gev(name: str, values: np.ndarray, scale: float) -> np.ndarray:
    """The values of an observable, scaled if it is one that hepgen knows to be in GeV."""
    in_gev = describe(name).unit == "GeV" or name in ("pt", "mass")
    return (values * np.float64(scale)).astype(np.float32) if in_gev else values


def _physical(
    batch: Batch, fields: dict[str, np.ndarray], texts: dict[str, str], offsets: np.ndarray
) -> dict[str, np.ndarray]:
    """The fields with φ in [−π, π) and no mass below zero.

    Raises:
        HepgenError: if a number is not finite, a pT is not positive or an |η| is 100 or more.
    """
    limits = {"pt": (np.nextafter(np.float32(0), np.float32(1)), np.inf), "eta": (-ETA_MAX, ETA_MAX)}
    for name, values in fields.items():
        if not len(values):
            continue
        # Smallest and largest are NaN if any number is, and take a single pass each.
        low, high = float(values.min()), float(values.max())
        floor, ceiling = limits.get(name, (-np.inf, np.inf))
        if not (np.isfinite([low, high]).all() and floor <= low and high <= ceiling):
            bad = ~np.isfinite(values) | (values < floor) | (values > ceiling)
            raise _unphysical(batch, name, values, int(bad.argmax()), texts, offsets)
        if name == "phi" and not (-np.pi <= low and high < np.pi):
            fields[name] = wrap_phi(values.astype(np.float64)).astype(np.float32)
        elif name == "mass" and low < 0:
            # ROOT gives −√−m² where rounding makes E < p.
            fields[name] = np.maximum(values, 0)
    return fields


def _unphysical(
    batch: Batch, name: str, values: np.ndarray, index: int, texts: dict[str, str], offsets: np.ndarray
) -> HepgenError:
    sources = [texts[key] for key in ((name,) if name in texts else ("px", "py", "pz", "energy")) if key in texts]
    event = int(np.searchsorted(offsets, index, "right")) - 1
    what = (
        f"{name} = {values[index]} from {', '.join(map(repr, sources))} is unphysical; leave such objects out by where"
    )
    return batch.error(what, event)


def _truth_index(batch: Batch, text: str, jets: Objects, truth: Objects) -> np.ndarray:
    """Of each jet, the position of its true jet among those that are used, −1 for none."""
    given = lists_of(batch, text, Lists(np.zeros(jets.given[-1]), jets.given, False), "the jets' momenta")
    left = slice(None) if jets.kept is None else jets.kept
    event = np.repeat(np.arange(len(batch)), np.diff(jets.given))[left]
    index = np.nan_to_num(given.values[left].astype(np.float64), nan=-1).astype(np.int64)
    begin, end = truth.given[event], truth.given[event + 1]
    # NanoAOD's indices also count true jets that were too soft to be stored.
    used = (index >= 0) & (begin + index < end)
    if truth.kept is None:
        return np.where(used, index, -1).astype(np.float32)
    used[used] = truth.kept[(begin + index)[used]]
    before = _before(truth.kept)
    return np.where(used, before[np.where(used, begin + index, 0)] - before[begin], -1).astype(np.float32)


def _unit(sample: RootSample, tree: Tree) -> str:
    """The unit of momenta: as it is given, or MeV where the tree is ATLAS's PHYSLITE."""
    if sample.unit is not None:
        return sample.unit
    physlite = tree.name.rpartition("/")[2] == "CollectionTree" or any(n.endswith("AuxDyn.pt") for n in tree.branches)
    return "MeV" if physlite else "GeV"


def _scale(sample: RootSample, tree: Tree) -> float:
    return 1e-3 if _unit(sample, tree) == "MeV" else 1.0


def _doubt_unit(events: Events, tree: Tree, unit: str) -> None:
    """Say so if the momenta look like those in another unit."""
    for particles in (events.particles, events.truth):
        if particles is None:
            continue
        sums = ak.to_numpy(ak.sum(particles.pt, axis=1))
        median = float(np.median(sums[sums > 0])) if (sums > 0).any() else None
        if median is None:
            continue
        if (unit == "GeV" and median > SUM_PT_MAX) or (unit == "MeV" and median < SUM_PT_MIN):
            other = "MeV" if unit == "GeV" else "GeV"
            read = f"read as {unit}, the median ΣpT of an event is {median:,.3g} GeV"
            Log()(f"warning: {tree.where}: {read}; if momenta are in {other}, set unit: {other} in the sample")
            return
