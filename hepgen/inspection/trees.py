"""ROOT files: the format of their main tree, and how its branches can be read."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import awkward as ak
import numpy as np

from hepgen.errors import HepgenError
from hepgen.events import ETA_MAX
from hepgen.expressions import Expression
from hepgen.inspection.findings import COMMON, SAMPLED, WITHOUT, Finding, Reading
from hepgen.inspection.formats import FORMATS, Format, Objects
from hepgen.inspection.names import Family, as_name, families, is_label, is_weight, level, numbered
from hepgen.samples import JET_FIELDS
from hepgen.sources.trees import MAIN_TREES, Tree, list_trees, open_tree

__all__ = ["inspect_root"]

MOST_OBSERVABLES = 60
MOST_MEMBERS = 12
# Weights and scale factors, of which one may be the weight and none is an observable.
WEIGHING = re.compile(r"weight|wgt|(^|_)(sf|wt|xsec|scalefactor)(_|$)", re.IGNORECASE)
# What jets' numbers are called elsewhere, and here.
NAMES_HERE = {
    "msoftdrop": "msd", "softdrop_mass": "msd", "m_sd": "msd", "sdmass": "msd",
    "nconstituents": "multiplicity", "nconst": "multiplicity", "n_constituents": "multiplicity", "mult": "multiplicity",
}  # fmt: skip
MEV_FROM = 5000.0
PARTICLES = ("part", "cand", "track", "constit", "pf", "tower", "cluster", "hadron")
JETS = ("jet", "fj", "ak4", "ak8", "ak10")
# Collections whose members are no constituents of jets.
SINGLE = re.compile(
    r"(good|sel|sig|tight|loose|baseline)?_?(el|ele|electrons?|mu|muons?|lep|leptons?|taus?|ph|photons?|gam|gamma|met|z|w|higgs)s?\d*",
    re.IGNORECASE,
)
# Numbers of an event that are no observables of it.
BOOKKEEPING = re.compile(r"(.*_)?(run|lumi|luminosityblock|event|entry|index)(_?(number|id|block))?", re.IGNORECASE)


class Peek:
    """The first events of a tree, each branch read when it is asked for."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.get = cache(self._get)

    def _get(self, name: str) -> ak.Array | None:
        """A branch that holds numbers, or None."""
        try:
            stop = min(SAMPLED, self.tree.entries)
            values = ak.concatenate([batch[name] for batch in self.tree.iterate([name], 0, stop, SAMPLED)])
            numbers = ak.to_numpy(ak.flatten(values, axis=None))
        except (HepgenError, TypeError, ValueError):
            return None
        return values if numbers.dtype.kind in "fiub" else None

    def depth(self, name: str) -> int:
        """1 for one number an event, 2 for a list of them, 0 for what is no number."""
        values = self.get(name)
        return 0 if values is None else values.ndim

    def value(self, expression: str) -> ak.Array | None:
        """An expression of branches, or None if it cannot be computed."""
        parsed = Expression(expression)
        branches = {name: self.get(name) for name in parsed.names if name in self.tree.branches}
        if len(branches) < len(parsed.names) or any(values is None for values in branches.values()):
            return None
        try:
            return parsed(branches)
        except HepgenError:
            return None


def inspect_root(path: str) -> Finding:
    """What the main tree of a ROOT file is.

    Raises:
        HepgenError: if the file cannot be read, or has no tree.
    """
    trees = list_trees(path)
    name = next((name for name in MAIN_TREES if name in trees), max(trees, key=lambda tree: (trees[tree], tree)))
    contents, finding = [], None
    for other, entries in trees.items():
        with open_tree(path, other) as tree:
            what = f"{tree.kind}, {entries:,} entries, {len(tree.branches):,} branches"
            contents.append((other, what + (" (the one that is read)" if other == name and len(trees) > 1 else "")))
            finding = _inspect(tree) if other == name else finding
    finding.contents = contents
    if len(trees) > 1:
        for place, reading in enumerate(finding.readings):
            finding.readings[place] = replace(reading, entry={"source": "root", "tree": name, **reading.entry})
    return finding


def _inspect(tree: Tree) -> Finding:
    peek, names = Peek(tree), list(tree.branches)
    known = next((form for form in FORMATS if _fits(form, names)), None)
    kind = f"{known.name if known else 'flat tree'}{' in an RNTuple' if tree.kind == 'RNTuple' else ''}"
    finding = Finding(tree.path, kind, tree.entries)
    unreadable = sum(not tree.is_readable(name) for name in names)
    if unreadable:
        what = "hold types that the file does not describe, and cannot be read"
        finding.problems.append(f"{unreadable} of {len(names):,} branches of {tree.name} {what}")
    if tree.entries == 0:
        finding.problems.append(f"{tree.name} holds no event")
        return finding
    finding.problems += known.remarks if known and tree.entries else ()
    found = {stem: family for stem, family in families(names).items() if all(map(tree.is_readable, family.values()))}
    if known:
        readings = list(_known_readings(known, found, peek))
    else:
        # Two levels of the same events are what is rare: such a reading goes first.
        readings = sorted(_flat_readings(found, peek), key=lambda reading: "truth" not in reading.entry)
    finding.readings = [alternative for reading in readings for alternative in _with_and_without_truth(reading)]
    return finding


def _fits(form: Format, names: list[str]) -> bool:
    return all(any(fnmatchcase(name, mark) for name in names) for mark in form.marks)


def _with_and_without_truth(reading: Reading) -> Iterator[Reading]:
    yield reading
    if "truth" in reading.entry:
        entry = {key: value for key, value in reading.entry.items() if key not in ("truth", "match", "passed")}
        yield replace(reading, entry=entry, what=f"{reading.what.partition(' with truth')[0]} {WITHOUT}")


def _known_readings(form: Format, found: dict[str, Family], peek: Peek) -> Iterator[Reading]:
    common: dict[str, Any] = {"unit": form.unit} if form.unit != "GeV" else {}
    comments = {"unit": f"{form.name} files hold {form.unit}"}
    weight = next((weight for weight in form.weights if _has_numbers(peek.value(weight))), None)
    if weight:
        common["weight"] = weight
    there = []
    for objects in form.objects:
        collections = [_first(pattern, found) for pattern in objects.collections]
        if all(stem is not None for stem in collections):
            there.append((objects, collections))
    # Collections that most events have nothing in, such as large jets in soft events, go last.
    for objects, collections in sorted(there, key=lambda item: _is_rare(found[item[1][0]], peek)):
        yield _objects_reading(objects, collections, found, peek, common, comments)


def _is_rare(family: Family, peek: Peek) -> bool:
    values = peek.get(next(iter(family.values())))
    return values is None or values.ndim < 2 or float(np.mean(ak.to_numpy(ak.num(values)) > 0)) < COMMON


def _first(pattern: str, found: dict[str, Family]) -> str | None:
    return next((stem for stem in found if fnmatchcase(stem, pattern)), None)


def _has_numbers(values: Any) -> bool:
    return values is not None and bool(ak.all(~ak.is_none(values))) and bool(np.isfinite(ak.to_numpy(values)).all())


def _varies(values: ak.Array) -> bool:
    """Whether numbers are finite, and not the same in all events, if there are several."""
    return _has_numbers(values) and (len(values) == 1 or np.ptp(ak.to_numpy(values)) > 0)


def _objects_reading(
    objects: Objects,
    collections: list[str],
    found: dict[str, Family],
    peek: Peek,
    common: dict[str, Any],
    comments: dict[str, str],
) -> Reading:
    """The entry for the particles or the jets of a format."""
    truth = next((stem for pattern in objects.truth if (stem := _first(pattern, found)) is not None), None)
    truth = None if truth in collections else truth
    own = objects.where if not objects.truth else None
    momenta = [
        _of_hard_scatter(objects, _momenta(stem, found[stem], objects.massive, own, peek), stem, peek)
        for stem in collections
    ]
    true = None if truth is None else _momenta(truth, found[truth], True, objects.where, peek)
    what = ", ".join(collections) + (f" with truth {truth}" if truth else "")
    if objects.kind == "particles":
        entry = {"source": "root", "particles": momenta if len(momenta) > 1 else momenta[0], **common}
        if true:
            entry["truth"] = {"particles": true}
        return Reading("particles", what, entry, objects.radius, comments=comments)
    entry = {"source": "root", "jet_collection": momenta[0] | _extra(objects, collections[0], peek), **common}
    if true:
        entry |= {"truth": {"jet_collection": true | _extra(objects, truth, peek)}, **_match(objects, peek)}
        comments = comments | {"match": "one row for each pair of jets; without it, one for each event"}
    return Reading("jets", what, entry, objects.radius, comments=comments)


def _momenta(stem: str, family: Family, massive: bool, where: str | None, peek: Peek) -> dict[str, Any]:
    kept = {key: _quoted(name) for key, name in family.items() if massive or key not in ("mass", "energy")}
    return _where(kept, ([where.replace("{}", stem)] if where else []) + _guards(kept, peek))


def _guards(momenta: dict[str, Any], peek: Peek) -> list[str]:
    """Conditions that leave out objects without a direction, where the first events have any."""
    if "pt" in momenta:
        tests = [f"{momenta['pt']} > 0", f"abs({momenta['eta']}) < {ETA_MAX:g}"]
    else:
        tests = [f"({momenta['px']} != 0) | ({momenta['py']} != 0)"]
    values = {test: peek.value(test) for test in tests}
    return [test for test in tests if values[test] is not None and not ak.all(values[test], axis=None)]


def _of_hard_scatter(objects: Objects, momenta: dict[str, Any], stem: str, peek: Peek) -> dict[str, Any]:
    """Momenta of good objects, each by the share of it that is not of pile-up, where the file says so."""
    conditions = [condition.replace("{}", stem) for condition in objects.quality]
    conditions = [condition for condition in conditions if peek.value(condition) is not None]
    share = objects.share.replace("{}", stem) if objects.share else ""
    if share in peek.tree.branches:
        momenta = momenta | {key: f"{momenta[key]} * {share}" for key in ("pt", "mass") if key in momenta}
        conditions.append(f"{share} > 0")
    return _where(momenta, [*([momenta["where"]] if "where" in momenta else []), *conditions])


def _where(momenta: dict[str, Any], conditions: list[str]) -> dict[str, Any]:
    """Momenta of the objects that fulfil all conditions."""
    if len(conditions) > 1:
        conditions = [f"({condition})" for condition in conditions]
    return momenta | ({"where": " & ".join(conditions)} if conditions else {})


def _quoted(name: str) -> str:
    """A branch's name as an expression has it: in backquotes if Python would read it otherwise."""
    try:
        plain = Expression(name).names == {name}
    except HepgenError:
        plain = False
    return name if plain else f"`{name}`"


def _extra(objects: Objects, stem: str, peek: Peek) -> dict[str, Any]:
    """The further numbers of jets that are in the file and not the same for all."""
    kept = {}
    for name, pattern in objects.observables.items():
        values = peek.value(pattern.replace("{}", stem))
        if values is not None and len(numbers := ak.to_numpy(ak.flatten(values, axis=None))) and np.ptp(numbers) > 0:
            kept[name] = pattern.replace("{}", stem)
    return {"observables": kept} if kept else {}


def _match(objects: Objects, peek: Peek) -> dict[str, Any]:
    if objects.index in peek.tree.branches and peek.tree.is_readable(objects.index):
        return {"match": {"index": objects.index}}
    return {"match": {"radius": round(objects.radius / 2, 2)}}


def _flat_readings(found: dict[str, Family], peek: Peek) -> Iterator[Reading]:
    """What the branches of a tree of no known format may be, by their names: particles, then jets, then numbers."""
    lists = {stem: family for stem, family in found.items() if {peek.depth(name) for name in family.values()} == {2}}
    single = {stem: family for stem, family in found.items() if {peek.depth(name) for name in family.values()} == {1}}
    padded = {stem: _together(several) for stem, several in numbered(single).items() if len(several) > 1}
    common, comments = _common(peek)
    for kind, words, radius in (("particles", PARTICLES, 0.4), ("jets", JETS, 0.4)):
        for stem, family in {**lists, **padded}.items():
            of, _ = level(stem)
            jets = any(word in stem.lower() for word in JETS)
            if of is not True and any(word in stem.lower() for word in words) and (kind == "jets") == jets:
                yield _flat_objects(kind, stem, family, {**lists, **padded}, peek, (common, comments, radius))
    others = [stem for stem in lists if not any(word in stem.lower() for word in (*PARTICLES, *JETS))]
    for stem in others if len(lists) == len(others) else []:
        if level(stem)[0] is not True and not SINGLE.fullmatch(level(stem)[1]):
            yield _flat_objects("particles", stem, lists[stem], lists, peek, (common, comments, 0.4))
    yield from _numbers(peek, common, comments)


def _together(several: list[Family]) -> dict[str, list[str]]:
    keys = [key for key in several[0] if all(key in family for family in several)]
    return {key: [family[key] for family in several] for key in keys}


def _flat_objects(
    kind: str,
    stem: str,
    family: dict[str, Any],
    others: dict[str, Any],
    peek: Peek,
    settings: tuple[dict[str, Any], dict[str, str], float],
) -> Reading:
    common, comments, radius = settings
    key = "particles" if kind == "particles" else "jet_collection"
    unit, why = _unit(family, peek)
    jets = _members if kind == "jets" else lambda family, peek: {}
    entry: dict[str, Any] = {
        "source": "root",
        key: _as_expressions(family, peek) | jets(family, peek),
        **unit,
        **common,
    }
    what = f"{stem or 'pt, eta, phi'}"
    truth = next((other for other in others if level(other) in ((True, level(stem)[1]), (True, ""))), None)
    if truth is not None:
        entry["truth"] = {key: _as_expressions(others[truth], peek) | jets(others[truth], peek)}
        what += f" with truth {truth}"
        if kind == "jets":
            entry["match"] = {"radius": radius / 2}
            comments = comments | {"match": "one row for each pair of jets; without it, one for each event"}
    return Reading(kind, what, entry, radius, comments=comments | {"unit": why})


def _members(family: dict[str, Any], peek: Peek) -> dict[str, Any]:
    """Further numbers of each jet: the lists whose names begin alike and that are as long."""
    if isinstance(next(iter(family.values())), list):
        return {}
    # Of the names' letters, not of folders in a path.
    prefix = os.path.commonprefix(list(family.values()))  # noqa: RUF071
    prefix = prefix.removesuffix("p" if "px" in family else "")
    counts = ak.num(peek.get(next(iter(family.values()))))
    kept: dict[str, str] = {}
    for name in peek.tree.branches:
        rest = as_name(name.removeprefix(prefix)).lower()
        member = NAMES_HERE.get(rest, rest)
        if not prefix or not name.startswith(prefix) or name in family.values() or member in JET_FIELDS:
            continue
        if peek.depth(name) == 2 and ak.all(ak.num(peek.get(name)) == counts) and _varies(ak.flatten(peek.get(name))):
            kept[member] = _quoted(name)
    return {"observables": dict(list(kept.items())[:MOST_MEMBERS])} if kept else {}


def _as_expressions(family: dict[str, Any], peek: Peek) -> dict[str, Any]:
    """The momenta of lists, or those of numbered branches, of which padding is left out when they are read."""
    if isinstance(next(iter(family.values())), list):
        return {key: [_quoted(name) for name in names] for key, names in family.items()}
    return _momenta("", family, True, None, peek)


def _unit(family: dict[str, Any], peek: Peek) -> tuple[dict[str, str], str]:
    """The unit of momenta by their size, and why."""
    name = family.get("pt", family.get("px"))
    values = peek.get(name if isinstance(name, str) else name[0])
    # What is not above zero is padding.
    sizes = values[values > 0] if "pt" in family else np.abs(values)
    leading = ak.to_numpy(ak.drop_none(ak.max(sizes, axis=1) if sizes.ndim > 1 else sizes))
    median = float(np.median(leading)) if len(leading) else 0.0
    why = f"the leading {'pT' if 'pt' in family else '|px|'} is {median:,.4g} in the median"
    return {"unit": "MeV" if median > MEV_FROM else "GeV"}, why


def _common(peek: Peek) -> tuple[dict[str, Any], dict[str, str]]:
    """Weight and label, by the names of branches that hold one number an event."""
    common: dict[str, Any] = {}
    for name in peek.tree.branches:
        if is_weight(name) and "weight" not in common and peek.depth(name) in (1, 2):
            expression = _quoted(name) + ("[0]" if peek.depth(name) == 2 else "")
            if _has_numbers(peek.value(expression)):
                common["weight"] = expression
        elif is_label(name) and "label" not in common and _is_binary(peek.get(name)):
            common["label"] = _quoted(name)
    others = [name for name in peek.tree.branches if WEIGHING.search(name) and _quoted(name) != common.get("weight")]
    more = f"; there are {', '.join(others[:5])} too: multiply what is needed" if others else ""
    return common, {"weight": f"by its name{more}", "label": "by its name; it is 0 or 1"}


def _is_binary(values: ak.Array | None) -> bool:
    return values is not None and values.ndim == 1 and bool(np.isin(ak.to_numpy(values), (0, 1)).all())


def _numbers(peek: Peek, common: dict[str, Any], comments: dict[str, str]) -> Iterator[Reading]:
    """Numbers of each event as observables; in pairs where there are two levels of them."""
    names = [name for name in peek.tree.branches if not BOOKKEEPING.fullmatch(name) and not WEIGHING.search(name)]
    candidates = [name for name in names if _quoted(name) not in common.values() and not name.startswith("pass")]
    numbers = [name for name in candidates[: 4 * MOST_OBSERVABLES] if peek.depth(name) == 1]
    levels = {name: level(name) for name in numbers}
    true = {rest: name for name, (of, rest) in levels.items() if of is True}
    pairs = {rest: (name, true[rest]) for name, (of, rest) in levels.items() if of is not True and rest in true}
    if pairs:
        entry = _paired(pairs, peek) | common
        yield Reading("observables", f"{len(pairs)} pairs of numbers with truth", entry, comments=comments)
        return
    kept = {_observable(name): _quoted(name) for name in numbers if _varies(peek.get(name))}
    kept = dict(list(kept.items())[:MOST_OBSERVABLES])
    if kept:
        dropped = len(numbers) - len(kept)
        padded = [name for name in numbers if _sentinel(peek.get(name)) is not None]
        said = [f"{dropped} more are the same in all events, not finite or too many"] if dropped else []
        said += [f"{len(padded)} hold {_sentinel(peek.get(padded[0])):g} for nothing: cut it away"] if padded else []
        note = {"observables": "; ".join(said)} if said else {}
        entry = {"source": "root", "observables": kept, **common}
        yield Reading("observables", f"{len(kept)} numbers of each event", entry, comments=comments | note)


def _sentinel(values: ak.Array) -> float | None:
    """A number that stands for nothing: −999 and the like, in more than one event in fifty."""
    numbers = ak.to_numpy(values)
    for number in (numbers.min(), numbers.max()):
        if re.fullmatch(r"-?(9{2,}|1e\d+)", f"{number:g}") and np.mean(numbers == number) > 0.02:
            return float(number)
    return None


def _observable(name: str) -> str:
    """A name that is not that of the label: a branch may be called so and hold other numbers."""
    return f"{name}_value" if as_name(name) == "label" else as_name(name)


def _paired(pairs: dict[str, tuple[str, str]], peek: Peek) -> dict[str, Any]:
    """The entry for observables at detector level and their truth, by the name that both share."""
    reco = {as_name(rest): _quoted(name) for rest, (name, _) in pairs.items()}
    entry: dict[str, Any] = {"source": "root", "observables": reco}
    entry["truth"] = {"observables": {as_name(rest): _quoted(name) for rest, (_, name) in pairs.items()}}
    for flag, place in (("pass_reco", entry), ("pass_truth", entry["truth"]), ("pass_gen", entry["truth"])):
        if flag in peek.tree.branches:
            place["passed"] = flag
    for place in (entry, entry["truth"]):
        nothing = [name for name in place["observables"].values() if _sentinel(peek.value(name)) is not None]
        if nothing and "passed" not in place:
            place["passed"] = f"{nothing[0]} != {_sentinel(peek.value(nothing[0])):g}"
    return entry
