"""A sample's input files: patterns become lists, and lists are shared evenly among the chunks."""

import os
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from glob import glob, has_magic
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from hepgen import datasets
from hepgen.errors import HepgenError
from hepgen.samples import FileSample

__all__ = ["Part", "check_file", "expand", "is_remote", "matching", "parts", "parts_of", "total_bytes"]


class Part(NamedTuple):
    """A contiguous part of a file's events, as fractions of their number, which is known only once it is open."""

    path: str
    start: Fraction
    stop: Fraction

    @classmethod
    def whole(cls, path: str) -> "Part":
        """All of a file."""
        return cls(path, Fraction(0), Fraction(1))

    def rows(self, total: int) -> range:
        """The part's events, where the file has `total`."""
        return range(int(total * self.start), int(total * self.stop))

    def batches(self, total: int, step: int) -> Iterator[tuple[int, int]]:
        """The part's events in batches of at most `step`: first and last plus one."""
        rows = self.rows(total)
        for first in rows[::step]:
            yield first, min(first + step, rows.stop)


def is_remote(path: str) -> bool:
    """Whether a path is an address such as ``root://host//store/file.root``."""
    return re.match(r"[a-z]+://", path) is not None


def expand(paths: str | Sequence[str]) -> list[str]:
    """The files that paths and patterns stand for, patterns sorted by name, in the order given.

    Raises:
        HepgenError: if a pattern matches nothing, or a file is named twice.
    """
    files: list[str] = []
    for path in matching(paths):
        files += datasets.files(path.removeprefix(datasets.PREFIX)) if path.startswith(datasets.PREFIX) else [path]
    known: dict[str, str] = {}
    for file in files:
        if "{" in file or "}" in file:
            msg = f"{file}: its name holds braces, which Snakemake takes for wildcards; rename the file"
            raise HepgenError(msg)
        place = file if is_remote(file) else str(Path(file).resolve())
        if place in known:
            msg = f"{file}: is named twice (as {known[place]!r} before); its events would be counted twice"
            raise HepgenError(msg)
        known[place] = file
    return files


def matching(paths: str | Sequence[str]) -> list[str]:
    """The paths, with the files in place of each pattern that match it now.

    Raises:
        HepgenError: if a pattern matches nothing.
    """
    found: list[str] = []
    for path in _listed(paths):
        if is_remote(path) or path.startswith(datasets.PREFIX) or not has_magic(path) or os.path.exists(path):  # noqa: PTH110 - says no to an impossible name
            found.append(path)
            continue
        files = sorted(glob(path, recursive=True))  # noqa: PTH207 - Path.glob refuses absolute patterns
        if not files:
            msg = f"no file matches {path!r}; patterns are relative to {Path.cwd()}"
            raise HepgenError(msg)
        found += files
    return found


def _listed(paths: str | Sequence[str]) -> Sequence[str]:
    return [paths] if isinstance(paths, str) else paths


def check_file(path: str) -> None:
    """Raise `HepgenError` unless a local path is a regular file that may be read; a device or a pipe could hang."""
    if is_remote(path):
        return
    try:
        if not Path(path).exists():
            reason = "no such file"
        elif not Path(path).is_file():
            reason = "is not a regular file"
        else:
            with Path(path).open("rb"):
                return
    except OSError as error:
        reason = error.strerror
    msg = f"{path}: {reason}"
    raise HepgenError(msg)


def total_bytes(sample: FileSample) -> int | None:
    """How large a sample's files are together; None where they are shared alike, whatever their size."""
    return None if _elsewhere(sample) else sum(_size(file) for file in expand(sample.path))


def _elsewhere(sample: FileSample) -> bool:
    """Whether any file is of another host or of an official data set, which may not be here yet."""
    return any(is_remote(path) or path.startswith(datasets.PREFIX) for path in _listed(sample.path))


def parts_of(sample: FileSample, chunk: int) -> list[Part]:
    """The parts of a sample's files that a chunk reads; see `parts`.

    Raises:
        HepgenError: if a file is missing; for one of an official data set, it says how to get it.
    """
    share = parts(sample)[chunk]
    for part in share:
        datasets.require(part.path)
    return share


def parts(sample: FileSample) -> list[list[Part]]:
    """The parts of a sample's files that each chunk reads, by file size, so that chunks are about equally long.

    Nothing is opened: planning a thousand files takes a moment. Files of other hosts and of official data sets, which
    may not be here yet, count alike.

    Returns:
        One list for each chunk. Together they hold every event once, in the order of the files.

    Raises:
        HepgenError: if a file is missing or not a file.
    """
    files, chunks = expand(sample.path), sample.chunks
    sizes = [1] * len(files) if _elsewhere(sample) else [_size(file) for file in files]
    ends = list(accumulate(sizes))
    shares: list[list[Part]] = [[] for _ in range(chunks)]
    for file, size, end in zip(files, sizes, ends, strict=True):
        begin = end - size
        for chunk in range(begin * chunks // ends[-1], -(-end * chunks // ends[-1])):
            low = max(Fraction(ends[-1] * chunk, chunks) - begin, Fraction(0))
            high = min(Fraction(ends[-1] * (chunk + 1), chunks) - begin, Fraction(size))
            shares[chunk].append(Part(file, low / size, high / size))
    return shares


def _size(file: str) -> int:
    try:
        return max(Path(file).stat().st_size, 1)
    except OSError as error:
        msg = f"{file}: {error.strerror.lower()}"
        raise HepgenError(msg) from error
