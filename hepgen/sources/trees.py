"""Trees of ROOT files, TTree and RNTuple alike: their branches by name, and batches of events of these."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any

import awkward as ak
import uproot
from uproot.behaviors.RNTuple import RNTuple
from uproot.behaviors.TTree import TTree
from uproot.interpretation.identify import UnknownInterpretation
from uproot.interpretation.objects import AsObjects, CannotBeAwkward

from hepgen.errors import HepgenError
from hepgen.inputs import check_file, is_remote
from hepgen.registry import nearest
from hepgen.sources.files import readable

__all__ = ["MAIN_TREES", "Tree", "list_trees", "open_tree"]

MAIN_TREES = ("Events", "Delphes", "CollectionTree", "events")
CLASSES = ("TTree", "TNtuple", "TNtupleD", "ROOT::RNTuple")
# uproot knows the names of tables that ROOT's RNTuple adds for sharing the lengths of lists; no user does.
COLLECTION = re.compile(r"^_collection\d+\.")


class Tree:
    """An open TTree or RNTuple.

    Attributes:
        path: Its file.
        name: Its name, with the folders that it is in.
        entries: How many events it holds.
    """

    def __init__(self, path: str, name: str, tree: TTree | RNTuple) -> None:
        self.path = path
        self.name = name
        self.entries = int(tree.num_entries)
        self._tree = tree

    @property
    def where(self) -> str:
        """File and tree, for messages."""
        return f"{self.path}: {self.name}"

    @property
    def kind(self) -> str:
        """TTree or RNTuple."""
        return "RNTuple" if isinstance(self._tree, RNTuple) else "TTree"

    @cached_property
    def branches(self) -> dict[str, Any]:
        """The branches that hold numbers, by the names that users write (``Jet_pt``, ``EFlowTrack.PT``)."""
        with _reading(self.path):
            fields = isinstance(self._tree, RNTuple)
            return _fields(self._tree) if fields else _branches(self._tree)

    def typename(self, name: str) -> str:
        """The C++ type of a branch."""
        branch = self._branch(name)
        with _reading(self.path):
            return branch.typename or "unknown"

    def is_readable(self, name: str) -> bool:
        """Whether the branch's type is one that can be read."""
        branch = self._branch(name)
        with _reading(self.path):
            return _is_readable(branch)

    def step_for(self, names: Iterable[str], size: int) -> int:
        """How many events of these branches take about `size` bytes, at least 1."""
        branches = [self._branch(name) for name in names]
        with _reading(self.path):
            total = sum(_uncompressed_bytes(branch) for branch in branches)
        return max(1, min(self.entries, int(size * self.entries / max(total, 1))))

    def iterate(self, names: Iterable[str], start: int, stop: int, step: int) -> Iterator[dict[str, ak.Array]]:
        """The branches of events start to stop, in batches of at most `step` events.

        What is compressed together is decompressed once: a batch ends where it does in all branches, if there is such
        a place in its second half, and what a branch has read beyond is kept for the next batch.

        Raises:
            HepgenError: if a branch is unknown, of a type that cannot be read, or damaged.
        """
        columns = [_Column(self, name, start, stop) for name in names]
        common = sorted(set.intersection(*(set(column.ends) for column in columns))) if columns else []
        while start < stop:
            end = min(start + step, stop)
            place = bisect_left(common, end + 1) - 1
            if end < stop and place >= 0 and common[place] > start + step // 2:
                end = common[place]
            yield {column.name: column.read(end) for column in columns}
            start = end

    def _branch(self, name: str) -> Any:
        if name not in self.branches:
            raise _unknown(f"branch {name!r} of {self.where}", name, self.branches)
        return self.branches[name]


class _Column:
    """A branch that is read forward, in the pieces that it is compressed in."""

    def __init__(self, tree: Tree, name: str, start: int, stop: int) -> None:
        self.tree, self.name = tree, name
        self.branch = tree._branch(name)
        with _reading(tree.path):
            if not _is_readable(self.branch):
                msg = (
                    f"branch {name!r} of {tree.where} cannot be read: uproot cannot turn "
                    f"{self.branch.typename or 'its type'} into arrays; choose another branch"
                )
                raise HepgenError(msg)
            ends = _ends(self.branch)
        self.ends = [end for end in ends if start < end < stop] + [stop]
        self.first = self.last = start
        self.rest: ak.Array | None = None

    def read(self, end: int) -> ak.Array:
        """The events from where the last call ended to `end`."""
        if end > self.last or self.rest is None:
            new = self._read(self.last, self.ends[bisect_left(self.ends, end)])
            held = self.rest is not None and len(self.rest)
            self.rest = ak.concatenate([self.rest, new]) if held else new
            self.last = self.first + len(self.rest)
        taken, self.rest = self.rest[: end - self.first], self.rest[end - self.first :]
        self.first = end
        if not len(self.rest):
            self.rest = None
        return taken

    def _read(self, start: int, stop: int) -> ak.Array:
        with _reading(self.tree.path, f"branch {self.name!r} of {self.tree.name}"):
            values = self.branch.array(entry_start=start, entry_stop=stop, library="ak", array_cache=None)
            if len(values) != stop - start:
                msg = f"{len(values)} events from {start} to {stop}"
                raise ValueError(msg)
            return values


@contextmanager
def open_tree(path: str, name: str | None = None) -> Iterator[Tree]:
    """Open a tree of a ROOT file, which may be remote (``root://...``).

    Args:
        path: The file.
        name: The tree, with its folders (``nominal/events``) and perhaps a cycle (``events;2``; else the newest).
            Without a name it is the only tree of the file, or one of `MAIN_TREES`.

    Raises:
        HepgenError: if the file is missing, not readable, or has no such tree.
    """
    with _open(path) as file:
        known = _tree_keys(file, path)
        key = _choose(path, known, name) if name is None or ";" not in name else _with_cycle(file, path, known, name)
        with _reading(path):
            tree = Tree(path, key.partition(";")[0], file[key])
        yield tree


def list_trees(path: str) -> dict[str, int]:
    """The trees of a file and how many events they hold; of several cycles of a tree, the newest.

    Raises:
        HepgenError: if the file is missing or not readable.
    """
    with _open(path) as file:
        known = _tree_keys(file, path)
        with _reading(path):
            return {name: int(file[key].num_entries) for name, key in known.items()}


@contextmanager
def _open(path: str) -> Iterator[Any]:
    check_file(path)
    # A local file is read without threads, which cost more than they gain where a job has one core.
    local = {"handler": uproot.MultithreadedFileSource, "use_threads": False}
    with _reading(path):
        try:
            # As a dictionary, so that a colon in a file's name does not begin the name of a tree.
            file = uproot.open({path: None}, **({} if is_remote(path) else local))
        except ImportError as error:
            msg = (
                f"{path}: reading from other hosts needs a package that is not installed; pip install 'hepgen[xrootd]'"
            )
            raise HepgenError(msg) from error
    with file:
        yield file


def _reading(path: str, what: str = "") -> AbstractContextManager[None]:
    return readable(path, "ROOT", what)


def _tree_keys(file: Any, path: str) -> dict[str, str]:
    """The trees of a file: names without and with their newest cycle."""
    newest: dict[str, int] = {}
    with _reading(path):
        for key, kind in file.iterclassnames(recursive=True, cycle=True):
            name, _, cycle = key.rpartition(";")
            if kind in CLASSES:
                newest[name] = max(newest.get(name, 0), int(cycle))
    if not newest:
        msg = f"{path}: holds no tree (TTree or RNTuple)"
        raise HepgenError(msg)
    return {name: f"{name};{cycle}" for name, cycle in newest.items()}


def _choose(path: str, known: dict[str, str], name: str | None) -> str:
    """The key of the named tree, or of the one that is meant where none is named."""
    if name is not None:
        if name.strip("/") not in known:
            raise _unknown(f"tree {name!r} of {path}", name, known, listed=True)
        return known[name.strip("/")]
    if len(known) == 1:
        return next(iter(known.values()))
    for main in MAIN_TREES:
        if main in known:
            return known[main]
    trees = ", ".join(f"{tree} ({entries} entries)" for tree, entries in list_trees(path).items())
    msg = f"{path}: holds several trees; say which by `tree`: {trees}"
    raise HepgenError(msg)


def _with_cycle(file: Any, path: str, known: dict[str, str], name: str) -> str:
    """A key that names its cycle."""
    with _reading(path):
        keys = file.keys(recursive=True, cycle=True)
    key = name.strip("/")
    if key not in keys or key.partition(";")[0] not in known:
        raise _unknown(f"tree {name!r} of {path}", name, [k for k in keys if k.partition(";")[0] in known], listed=True)
    return key


def _unknown(what: str, name: str, known: Iterable[str], *, listed: bool = False) -> HepgenError:
    """The error for a name that a file does not have; of the hundreds of a tree it lists the nearest."""
    known = list(known)
    near = nearest(name, known, 5)
    hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
    if listed or len(known) <= 20:
        hint += f"; it has {', '.join(known)}"
    elif not near:
        hint += f"; none of its {len(known)} is called like that: `hepgen inspect` lists them"
    return HepgenError(f"unknown {what}{hint}")


def _branches(tree: TTree) -> dict[str, Any]:
    """The branches without branches of their own; the first of a name wins, if it can be read."""
    found: dict[str, Any] = {}
    for branch in tree.itervalues(recursive=True):
        if len(branch.branches):
            continue
        name = re.sub(r"(\[[^\]]*\])+$", "", branch.name)
        if name in found and _is_readable(found[name]):
            parent = getattr(branch.parent, "name", "").rstrip(".")
            # Two objects may have members of the same name: muon.pt and electron.pt.
            name = f"{parent}.{name}"
        if name not in found or not _is_readable(found[name]):
            found[name] = branch
    return found


def _fields(tree: RNTuple) -> dict[str, Any]:
    """The fields of an RNTuple that have no fields of their own."""
    # Asking every field for those below it takes seconds in a wide file: each looks through all the others.
    below: dict[int, list[int]] = {}
    for number, record in enumerate(tree.field_records):
        if record.parent_field_id != number:
            below.setdefault(record.parent_field_id, []).append(number)

    def named(number: int) -> Iterator[Any]:
        for child in below.get(number, ()):
            field = tree.all_fields[child]
            yield from named(child) if field.is_anonymous else [field]

    def leaves(field: Any) -> Iterator[Any]:
        inner = list(named(field.field_id))
        for child in inner:
            yield from leaves(child)
        if not inner and field.path is not None:
            yield field

    found: dict[str, Any] = {}
    for field in tree.fields:
        for leaf in leaves(field):
            found.setdefault(COLLECTION.sub("", leaf.path), leaf)
    return found


def _is_readable(branch: Any) -> bool:
    """Whether uproot has a description of the branch's type, and one that fits into arrays."""
    interpretation = getattr(branch, "interpretation", None)
    if isinstance(interpretation, AsObjects):
        try:
            interpretation.awkward_form(branch.file)
        except CannotBeAwkward:
            return False
    return not isinstance(interpretation, UnknownInterpretation)


def _ends(branch: Any) -> Sequence[int]:
    """Where the pieces end that a branch is compressed in."""
    if hasattr(branch, "entry_offsets"):
        return [int(end) for end in branch.entry_offsets[1:]]
    clusters = branch.ntuple.cluster_summaries
    return [int(cluster.num_first_entry + cluster.num_entries) for cluster in clusters]


def _uncompressed_bytes(branch: Any) -> int:
    if hasattr(branch, "uncompressed_bytes"):
        return branch.uncompressed_bytes
    # Nothing is read: such an array knows its size beforehand.
    return branch.array(virtual=True).nbytes
