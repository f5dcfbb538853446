"""HepMC files: what generators write of whole events, in the text formats of HepMC 3 and HepMC 2."""

import re
from array import array
from collections.abc import Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from hepgen.errors import HepgenError
from hepgen.events import Events
from hepgen.inputs import Part, parts_of
from hepgen.registry import unknown_name
from hepgen.samples import HepmcSample
from hepgen.sources.generators import Listing, check_any, events_of, find, open_text

__all__ = ["stream"]

MARKS = re.compile(rb"\n(?:E |He)")
MAX_HEADER = 1 << 24
UNITS = {b"GEV": 1.0, b"MEV": 1e-3}
Words = list[bytes]


class Layout(NamedTuple):
    """One of the two formats.

    Attributes:
        name: As it stands in the file's second line.
        columns: Words of a particle's line: PDG number, px, py, pz, mass and status.
        vertices: The word of an event's line that tells how many vertices there are.
        implicit: Whether vertices without a line of their own are counted too.
    """

    name: bytes
    columns: tuple[int, ...]
    vertices: int
    implicit: bool


HEPMC3 = Layout(b"Asciiv3", (3, 4, 5, 6, 8, 9), 2, implicit=True)
HEPMC2 = Layout(b"IO_GenEvent", (2, 3, 4, 5, 7, 8), 8, implicit=False)


def stream(sample: HepmcSample, chunk: int = 0, seed: int = 0) -> Iterator[Events]:
    """The events of one chunk in batches of at most 1,000: stable visible particles, and ``weight``.

    The few fields that are needed are read here, not by the HepMC library: it reports success on files that end
    early, and trusts the numbers of particles that a file states. `seed` is not used: nothing here is random.

    Args:
        sample: The files, and the name of the weight; without one it is the first, or 1 where a file has none.
        chunk: Which contiguous part of the events of all files, counted from 0.
        seed: Part of the interface of every source.

    Raises:
        HepgenError: if a file is missing, truncated or damaged, not in this format, if no event has
            any particle, or if the weight is unknown (the message lists the known ones).

    References:
        Buckley et al. 2019, arXiv:1912.08005; Dobbs and Hansen 2001, doi:10.1016/S0010-4655(00)00189-2.
    """
    parts = parts_of(sample, chunk)
    yield from check_any((batch for part in parts for batch in _read_part(part, sample)), sample.path)


def _read_part(part: Part, sample: HepmcSample) -> Iterator[Events]:
    with open_text(part.path, "HepMC") as file:
        layout = _layout(file, part.path)
        listing = _listing(file, part.path, layout)
        file.seek(0)
        names = _names(file.read(int(listing.starts[0])).splitlines())
        for first, stop in listing.batches(part):
            yield _convert(listing.read(first, stop), layout, names, sample, part.path, first)


def _layout(file: BinaryIO, path: str) -> Layout:
    head = file.read(4096)
    for layout in (HEPMC3, HEPMC2):
        if b"HepMC::" + layout.name + b"-START_EVENT_LISTING" in head:
            return layout
    msg = f"{path}: not a HepMC file: its first lines announce neither HepMC::Asciiv3 nor HepMC::IO_GenEvent"
    raise HepgenError(msg)


def _listing(file: BinaryIO, path: str, layout: Layout) -> Listing:
    """Where the events are, once the file is known to be one listing with its end."""
    file.seek(0)
    starts, headings, last = array("q"), 0, 0
    for place, mark in find(file, MARKS, 3):
        last = place + 1
        if mark == b"\nE " and headings < 1:
            starts.append(last)
        elif mark == b"\nE " or headings > 1:
            msg = f"{path}: goes on after its last line; give files that were put together one by one"
            raise HepgenError(msg)
        elif starts:
            starts.append(last)
            headings += 1
    file.seek(last)
    end = b"HepMC::" + layout.name + b"-END_EVENT_LISTING"
    if file.read(len(end)) != end:
        msg = f"{path}: truncated HepMC file: it does not end with {end.decode()}"
        raise HepgenError(msg)
    if not starts:
        starts.append(last)
    if starts[0] > MAX_HEADER:
        msg = f"{path}: its first event begins only after {starts[0]} bytes; is it a HepMC file?"
        raise HepgenError(msg)
    return Listing(file, path, starts)


def _names(header: Sequence[bytes]) -> list[str]:
    """The names of the weights, which HepMC 3 gives once: after N in some versions, W in others."""
    lines = {line[:2]: line[2:].decode() for line in header if line[:2] in (b"N ", b"W ")}
    names = lines.get(b"N ", lines.get(b"W ", "")).strip()
    return [re.sub(r"\\(.)", r"\1", name) for name in names.split("\\|")] if names else []


class Lines:
    """The lines of some events.

    Attributes:
        texts: All of them.
        kinds: The first two bytes of each.
        event: Which event each belongs to, counted from 0.
    """

    def __init__(self, events: Sequence[bytes]) -> None:
        split = [event.splitlines() for event in events]
        self.count = len(split)
        self.texts = [line for lines in split for line in lines]
        self.kinds = np.array([line[:2] for line in self.texts])
        self.event = np.repeat(np.arange(len(split)), [len(lines) for lines in split])

    def number(self, kind: bytes) -> np.ndarray:
        """How many lines of a kind each event has, shape (n,)."""
        return np.bincount(self.event[self.kinds == kind], minlength=self.count)

    def words(self, kind: bytes) -> list[Words]:
        """The words of the last line of a kind of each event; none where it has no such line."""
        found: list[Words] = [[]] * self.count
        for index in np.flatnonzero(self.kinds == kind):
            found[self.event[index]] = self.texts[index].split()
        return found

    def table(self, kind: bytes, columns: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Numbers from all lines of a kind, shape (k, columns), and the event of each, shape (k,)."""
        rows = np.flatnonzero(self.kinds == kind)
        if not len(rows):
            return np.zeros((0, len(columns))), rows
        texts = [self.texts[row] for row in rows]
        return np.loadtxt(texts, usecols=columns, comments=None, ndmin=2), self.event[rows]


def _convert(
    events: Sequence[bytes], layout: Layout, names: Sequence[str], sample: HepmcSample, path: str, first: int
) -> Events:
    """Events of their texts, the first of which is event `first` of the file."""
    lines = Lines(events)
    heads = lines.words(b"E ")
    _check_counts(lines, heads, layout, path, first)
    particles, event = lines.table(b"P ", layout.columns)
    particles[:, 1:5] *= _scales(lines.words(b"U "), path, first)[event, None]
    if layout is HEPMC3:
        values = [words[1:] for words in lines.words(b"W ")]
        known = [names] * len(events)
    else:
        values = [head[13 + int(head[11]) :] if len(head) > 11 else [] for head in heads]
        known = [re.findall(r'"([^"]*)"', b" ".join(words).decode()) for words in lines.words(b"N ")]
    weights = [
        _weight(known[index], values[index], sample.weight, f"{path}: event {first + index} (counted from 0)")
        for index in range(len(events))
    ]
    return events_of(particles, event, np.array(weights), sample.label, path, first)


def _check_counts(lines: Lines, heads: list[Words], layout: Layout, path: str, first: int) -> None:
    """Raise `HepgenError` for the first event that has not as many vertices and particles as it states."""
    vertices = np.array([int(head[layout.vertices]) for head in heads])
    if layout is HEPMC3:
        particles = np.array([int(head[3]) for head in heads])
    else:
        ends, event = lines.table(b"V ", (7, 8))
        particles = np.bincount(event, ends.sum(1), lines.count)
    found = lines.number(b"V ")
    checks = {
        "particles": (particles, lines.number(b"P "), particles != lines.number(b"P ")),
        "vertices": (vertices, found, vertices < found if layout.implicit else vertices != found),
    }
    for what, (stated, counted, bad) in checks.items():
        if bad.any():
            row = int(bad.argmax())
            msg = (
                f"{path}: event {first + row} (counted from 0) states {stated[row]:.0f} {what} and has "
                f"{counted[row]}; is the file truncated or damaged?"
            )
            raise HepgenError(msg)


def _scales(units: list[Words], path: str, first: int) -> np.ndarray:
    """The factor of each event's momenta and masses to GeV, shape (n,)."""
    for row, words in enumerate(units):
        if len(words) < 2 or words[1] not in UNITS:
            found = f"unit {words[1].decode(errors='replace')!r}" if len(words) > 1 else "no unit"
            msg = f"{path}: event {first + row} (counted from 0) states {found} of momenta; known: GEV, MEV"
            raise HepgenError(msg)
    return np.array([UNITS[words[1]] for words in units])


def _weight(names: Sequence[str], values: Sequence[bytes], wanted: str | None, where: str) -> float:
    if wanted is None:
        return float(values[0]) if values else 1.0
    if wanted not in names:
        raise unknown_name(f"weight of {where}", wanted, names)
    if len(names) != len(values):
        msg = f"{where} has {len(values)} weights for {len(names)} names"
        raise HepgenError(msg)
    return float(values[names.index(wanted)])
