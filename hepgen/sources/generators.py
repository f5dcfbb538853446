"""Text files of event generators: where their events lie, found in one pass, so that none is parsed to be skipped."""

import gzip
import re
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import BinaryIO

import awkward as ak
import numpy as np

from hepgen.errors import HepgenError
from hepgen.events import Events, polar
from hepgen.inputs import Part, check_file
from hepgen.sources.files import MAX_EVENT, SMALLEST, readable, refuse, warn_empty

__all__ = ["Listing", "check_any", "events_of", "find", "open_text"]

STEP = 1000
BLOCK = 1 << 24
# What no detector sees: neutrinos, and what CMS leaves out of generated jets (graviton, lightest and next-to-lightest
# supersymmetric particles, Kaluza-Klein and excited neutrinos, dark matter).
INVISIBLE = (
    12, 14, 16, 18, 39, 1000012, 1000014, 1000016, 2000012, 2000014, 2000016, 1000022, 1000039, 5100039, 4000012,
    4000014, 4000016, 9900012, 9900014, 9900016, *range(51, 61), 4900101, 4900211, 4900213,
)  # fmt: skip


@contextmanager
def open_text(path: str, kind: str) -> Iterator[BinaryIO]:
    """Open a file, which may be compressed with gzip, for reading bytes.

    Raises:
        HepgenError: if it is missing, and for whatever a damaged file leads to inside the block.
    """
    check_file(path)
    with readable(path, kind), open(path, "rb") as file:  # noqa: PTH123 - paths are strings here
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if compressed:
            with gzip.GzipFile(fileobj=file) as content:
                yield content
        else:
            yield file


def find(file: BinaryIO, pattern: re.Pattern[bytes], longest: int) -> Iterator[tuple[int, bytes]]:
    """All matches of a pattern from the file's position on, and where they begin, reading block by block.

    Args:
        file: Bytes.
        pattern: What is looked for.
        longest: How many bytes a match may have.
    """
    position, tail = file.tell(), b""
    while block := file.read(BLOCK):
        text = tail + block
        for match in pattern.finditer(text):
            if match.end() > len(tail):  # what lies wholly in the tail was found before
                yield position - len(tail) + match.start(), match[0]
        position += len(block)
        tail = text[-longest:]


class Listing:
    """The events of an open file.

    Attributes:
        path: The file, for messages.
        starts: Where each event begins and, last, where the events end, in bytes, shape (n + 1,).
    """

    def __init__(self, file: BinaryIO, path: str, starts: array) -> None:
        self.file = file
        self.path = path
        self.starts = np.frombuffer(starts, np.int64)
        if len(starts) < 2:
            warn_empty(path)
        sizes = np.diff(self.starts)
        if sizes.max(initial=0) > MAX_EVENT:
            msg = (
                f"{path}: event {sizes.argmax()} (counted from 0) takes {sizes.max()} bytes, more than any event should"
            )
            raise HepgenError(msg)

    def batches(self, part: Part) -> Iterator[tuple[int, int]]:
        """The part's events in batches of at most 1,000 and about 16 MB: first and last plus one."""
        rows = part.rows(len(self.starts) - 1)
        first = rows.start
        while first < rows.stop:
            full = int(np.searchsorted(self.starts, self.starts[first] + BLOCK, "right")) - 1
            stop = min(max(full, first + 1), first + STEP, rows.stop)
            yield first, stop
            first = stop

    def read(self, first: int, stop: int) -> list[bytes]:
        """The text of events first to stop."""
        self.file.seek(int(self.starts[first]))
        text = self.file.read(int(self.starts[stop] - self.starts[first]))
        edges = self.starts[first : stop + 1] - self.starts[first]
        return [text[low:high] for low, high in pairwise(edges)]


def events_of(
    particles: np.ndarray, event: np.ndarray, weights: np.ndarray, label: int | None, path: str, first: int
) -> Events:
    """Events of what a detector could see: stable particles but `INVISIBLE`.

    A particle along the beam, which has no direction in η, is dropped. Negative masses, which are rounding errors
    of stable particles, become 0.

    Args:
        particles: PDG number, px, py, pz, mass (GeV) and status of each, shape (k, 6); status 1 is stable.
        event: Which event each belongs to, ascending, shape (k,).
        weights: Of each event, shape (n,).
        label: Of all events, or None.
        path: The file, for messages.
        first: Number of the first event in the file.

    Raises:
        HepgenError: if a number is not finite.
    """
    pdg, px, py, pz, mass, status = particles.T
    seen = (status == 1) & ~np.isin(np.abs(pdg), INVISIBLE)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        pt, eta, phi = polar(px, py, pz)
        columns = {"pt": pt, "eta": eta, "phi": phi, "mass": np.maximum(mass, 0)}
        single = {name: values.astype(np.float32) for name, values in columns.items()}
        usable = np.isfinite(particles).all(1) & np.isfinite(single["pt"])
    unusable = np.bincount(event[seen & ~usable], minlength=len(weights)) > 0
    refuse(unusable, path, first, "a particle whose momentum is not finite")
    refuse(~np.isfinite(weights), path, first, "a weight that is not finite")
    seen &= pt > SMALLEST
    flat = ak.zip({name: values[seen] for name, values in single.items()})
    labels = {} if label is None else {"label": np.full(len(weights), label, np.int8)}
    return Events(ak.unflatten(flat, np.bincount(event[seen], minlength=len(weights))), {"weight": weights, **labels})


def check_any(batches: Iterator[Events], where: object) -> Iterator[Events]:
    """Pass batches on, and raise `HepgenError` at their end if there were events, but none of them had a particle."""
    events = particles = 0
    for batch in batches:
        events += len(batch)
        particles += int(ak.count(batch.particles.pt))
        yield batch
    if events and not particles:
        msg = f"{where}: none of {events} events has a stable particle (status 1) that could be seen"
        raise HepgenError(msg)
