"""Products on disk: written whole or not at all, opened with one clear error."""

import hashlib
import json
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from pydantic import TypeAdapter, ValidationError

from hepgen.errors import HepgenError

if TYPE_CHECKING:
    import awkward as ak

__all__ = [
    "Columns",
    "Jagged",
    "atomic",
    "checksum",
    "create_h5",
    "describe_h5",
    "open_h5",
    "read_json",
    "refuse_inputs",
    "refuse_links",
    "write_json",
    "written",
]

MIN_CHUNK, MAX_CHUNK = 1 << 10, 1 << 16
_WRITTEN: ContextVar[list[Path] | None] = ContextVar("written", default=None)
OUTSIDE = "leads to another file, which is never followed"


@contextmanager
def written() -> Iterator[list[Path]]:
    """Yield a list that `atomic` adds every file to that it writes inside the block."""
    files: list[Path] = []
    token = _WRITTEN.set(files)
    try:
        yield files
    finally:
        _WRITTEN.reset(token)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` that replaces it once the block has succeeded.

    Whatever fails inside the block, the file that stood at `path` is untouched and no partial one is left.

    Raises:
        HepgenError: if the disk is full, read-only or not writable.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made anew, for a link of this name would be followed.
        temporary.unlink(missing_ok=True)
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        try:
            yield temporary
            # Some libraries replace it by a file for its owner alone, whatever the user's umask.
            temporary.chmod(mode)
            # Else a power cut could leave the new name without the contents.
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
            if (files := _WRITTEN.get()) is not None:
                files.append(path)
        finally:
            temporary.unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) or "errno" in str(error):
            msg = f"cannot write {path}: {_reason(error)}; nothing was left behind and finished products are untouched"
            raise HepgenError(msg) from error
        raise


def _reason(error: Exception) -> str:
    """The system's words for a failed write; HDF5 buries them in a longer message."""
    number = getattr(error, "errno", None)
    return os.strerror(number) if number else str(error).splitlines()[0]


def refuse_empty(path: str | Path, rows: int) -> None:
    """Raise `HepgenError` if a product would hold nothing."""
    if rows == 0:
        reasons = "is the input empty, the selection too tight, or are there too many chunks?"
        msg = f"{path}: no event was left to write; {reasons}"
        raise HepgenError(msg)


def refuse_links(folder: str | Path) -> None:
    """Raise `HepgenError` if anything in a folder of products is a link that leads out of it.

    The folder itself may be a link, and so may its parents.
    """
    inside = Path(folder).resolve()
    waiting = [inside] if inside.is_dir() else []
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry))
                elif entry.is_symlink() and not Path(os.path.realpath(entry)).is_relative_to(inside):
                    msg = f"{Path(folder, Path(entry).relative_to(inside))}: is a link that leads out of {folder}"
                    raise HepgenError(f"{msg}, and would be written through; remove it, or make {folder} itself a link")


def refuse_inputs(output: str | Path, inputs: Iterable[str | Path]) -> None:
    """Raise `HepgenError` if a product would replace a file that it is made from."""
    if Path(output).resolve() in {Path(path).resolve() for path in inputs}:
        msg = f"{output}: is one of the files that are read; write to another one"
        raise HepgenError(msg)


@contextmanager
def create_h5(path: str | Path, kind: str, provenance: str = "{}") -> Iterator[h5py.File]:
    """An HDF5 product of the given kind, renamed to `path` when complete; equal contents give equal bytes."""
    # Since version 1.10 the format keeps checksums of everything but the data, which `Columns` adds. Without a cache
    # of chunks a full disk fails where we write; h5py drops errors of what it writes when it closes a dataset.
    options = {"libver": ("v110", "v110"), "rdcc_nbytes": 0, "track_order": True}
    with atomic(path) as temporary, h5py.File(temporary, "w", **options) as file:
        file.attrs["hepgen"] = kind
        file.attrs["provenance"] = provenance
        yield file
        file.flush()


@contextmanager
def open_h5(path: str | Path, kind: str | None = None) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, checking that it is a hepgen product of the given kind, if one is given.

    Raises:
        HepgenError: if the file is missing, unreadable, truncated, of another kind, or leads to other files.
    """
    if not Path(path).is_file():
        msg = f"{path}: no such file"
        raise HepgenError(msg)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        msg = f"{path}: not a readable HDF5 file, perhaps truncated or still being written ({error})"
        raise HepgenError(msg) from error
    with file:
        try:
            found = file.attrs.get("hepgen", "an HDF5 file that hepgen did not write")
            if kind is not None and found != kind:
                msg = f"{path}: expected {kind}, found {found}"
                raise HepgenError(msg)
            _refuse_other_files(file, path)
            yield file
        except (OSError, RuntimeError, KeyError) as error:
            msg = f"{path}: damaged HDF5 file ({error})"
            raise HepgenError(msg) from error


def _refuse_other_files(file: h5py.File, path: str | Path) -> None:
    """Raise `HepgenError` if a link or a dataset of a file leads to another file, or could."""
    links: list[tuple[bytes, int]] = []
    # Only hard links are followed, and each object is visited once, so that loops end. A soft one leads to a name in
    # this file, which is visited itself. Nothing may fail inside the visit, for HDF5 could not pass the failure on.
    file.id.links.visit(lambda name, link: links.append((name, link.type)), info=True)
    for name, kind in links:
        reason = OUTSIDE if kind not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT) else None
        if kind == h5py.h5l.TYPE_HARD:
            item = h5py.h5o.open(file.id, name)
            reason = _reason_to_refuse(item) if isinstance(item, h5py.h5d.DatasetID) else None
        if reason:
            msg = f"{path}: {name.decode(errors='replace')!r} {reason}; copy the numbers into the file"
            raise HepgenError(msg)


def _reason_to_refuse(dataset: h5py.h5d.DatasetID) -> str | None:
    layout = dataset.get_create_plist()
    if layout.get_external_count():
        return OUTSIDE
    # Even inside one file these can lead round in circles, in which the HDF5 library would crash.
    virtual = layout.get_layout() == h5py.h5d.VIRTUAL
    return "is a virtual dataset, which leads to other datasets or files and is never followed" if virtual else None


def describe_h5(path: str | Path) -> tuple[str, str]:
    """The kind of an HDF5 product, and the sample, model or method that it was made for; both empty for other files.

    Raises:
        HepgenError: if the file cannot be opened, or a product does not say how it was made.
    """
    with open_h5(path) as file:
        if "hepgen" not in file.attrs:
            return "", ""
        try:
            name = json.loads(file.attrs.get("provenance", "{}")).get("card", {}).get("name", "")
        except (ValueError, TypeError, AttributeError) as error:
            msg = f"{path}: damaged: its attribute 'provenance' is none that hepgen writes"
            raise HepgenError(msg) from error
        return str(file.attrs["hepgen"]), str(name)


class Columns:
    """A group of equally long one-dimensional datasets that grows by appending."""

    def __init__(self, group: h5py.Group) -> None:
        self.group = group

    def append(self, columns: dict[str, np.ndarray]) -> None:
        """Append equally long arrays.

        Raises:
            HepgenError: if their lengths differ, or they are not the columns that were appended before.
        """
        lengths = {name: len(values) for name, values in columns.items()}
        known = {name for name, item in self.group.items() if isinstance(item, h5py.Dataset)} or lengths.keys()
        if known != lengths.keys() or len(set(lengths.values())) > 1:
            msg = f"{self.group.name}: expected equally long columns {', '.join(sorted(known))}, got {lengths}"
            raise HepgenError(msg)
        for name, values in columns.items():
            if name not in self.group:
                # Chunks of about the first batch's size: small files stay small, large ones are read in large pieces.
                chunk = min(max(len(values), MIN_CHUNK), MAX_CHUNK)
                self.group.create_dataset(
                    name, (0,), values.dtype, maxshape=(None,), chunks=(chunk,), fletcher32=True, track_times=False
                )
            dataset = self.group[name]
            start = len(dataset)
            dataset.resize(start + len(values), axis=0)
            dataset[start:] = values

    def read(self, start: int = 0, stop: int | None = None) -> dict[str, np.ndarray]:
        """Rows start to stop of every column."""
        return {name: self.group[name][start:stop] for name in self.group}


class Jagged:
    """Records of lists (events of particles) stored as counts and flat fields, readable in slices."""

    def __init__(self, group: h5py.Group) -> None:
        self.group = group

    def append(self, lists: "ak.Array") -> None:
        """Append an array of type ``n * var * {field: number, ...}``."""
        # Here, because planning a run imports this module.
        import awkward as ak

        flat = ak.flatten(lists)
        fields = {name: ak.to_numpy(flat[name]) for name in ak.fields(lists)}
        Columns(self.group.require_group("fields")).append(fields)
        Columns(self.group).append({"counts": ak.to_numpy(ak.num(lists)).astype(np.int32)})

    def read(self, start: int = 0, stop: int | None = None) -> "ak.Array":
        """Lists start to stop.

        Raises:
            HepgenError: if the counts and the fields disagree.
        """
        import awkward as ak

        counts = self.group["counts"][:stop]
        offset, counts = int(counts[:start].sum()), counts[start:]
        end = offset + int(counts.sum())
        fields = Columns(self.group["fields"]).read(offset, end)
        for name, values in fields.items():
            if counts.min(initial=0) < 0 or len(values) != end - offset:
                msg = f"{self.group.file.filename}: {self.group.name}/fields/{name} does not match its counts"
                raise HepgenError(msg)
        return ak.unflatten(ak.zip(fields), counts)


def checksum(paths: Iterable[str | Path]) -> str:
    """A hash of the contents of files, in the order given."""
    total = hashlib.sha256()
    for path in paths:
        with Path(path).open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def read_json(path: str | Path, kind: Any = Any) -> Any:
    """Read a JSON product as a pydantic model or another annotated type.

    Raises:
        HepgenError: if the file is missing, not JSON or of another type.
    """
    try:
        return TypeAdapter(kind).validate_json(Path(path).read_bytes())
    except (OSError, ValidationError) as error:
        msg = f"{path}: not a readable JSON file of this kind ({' '.join(str(error).split())})"
        raise HepgenError(msg) from error


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as JSON, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n")
