"""Les Houches event files: the partons of a matrix-element generator."""

import io
import re
import warnings
from array import array
from collections.abc import Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pylhe

from hepgen.errors import HepgenError
from hepgen.events import Events
from hepgen.inputs import Part, parts_of
from hepgen.registry import unknown_name
from hepgen.samples import LheSample
from hepgen.sources.generators import Listing, check_any, events_of, find, open_text

__all__ = ["stream"]

ROOT = re.compile(rb"<LesHouchesEvents[\s>]")
INIT = re.compile(rb"</init\s*>")
MARKS = re.compile(rb"<event[\s>]|</LesHouchesEvents\s*>")
LONGEST = 32
MAX_HEADER = 1 << 26
# Any: pylhe wants one, and nothing is made of it.
BEAMS = b"<init>\n 2212 2212 6.5e3 6.5e3 0 0 0 0 3 1\n 1 1 1 1\n</init>\n"


def stream(sample: LheSample, chunk: int = 0, seed: int = 0) -> Iterator[Events]:
    """The events of one chunk in batches of at most 1,000: outgoing visible particles, and ``weight``.

    Each batch is given to the XML parser as a document of its own. So memory stays bounded, events of other chunks
    are not parsed, and entities, which could expand to any size, are undefined. `seed` is not used: nothing here is
    random.

    Args:
        sample: The files, and the id of a reweighting weight; without one it is the event's own.
        chunk: Which contiguous part of the events of all files, counted from 0.
        seed: Part of the interface of every source.

    Raises:
        HepgenError: if a file is missing, truncated or damaged, not in this format, if no event has
            any parton to be seen, or if the weight is unknown (the message lists the known ones).

    References:
        Alwall et al. 2006, arXiv:hep-ph/0609017; Butterworth et al. 2010, arXiv:1003.1643 (weights).
    """
    parts = parts_of(sample, chunk)
    yield from check_any((batch for part in parts for batch in _read_part(part, sample)), sample.path)


def _read_part(part: Part, sample: LheSample) -> Iterator[Events]:
    with open_text(part.path, "LHE") as file:
        header = _header(file, part.path)
        listing = _listing(file, part.path)
        block = re.search(rb"<initrwgt\b.*?</initrwgt\s*>", header, re.DOTALL) if sample.weight is not None else None
        for first, stop in listing.batches(part):
            texts = [
                _body(text, sample.weight is not None, f"{part.path}: event {first + index} (counted from 0)")
                for index, text in enumerate(listing.read(first, stop))
            ]
            events = _parse(texts, block[0] if block else b"", f"{part.path}: events {first} to {stop - 1}")
            yield _convert(events, sample, part.path, first)


def _header(file: BinaryIO, path: str) -> bytes:
    """All that stands before the first event; leaves the file where this ends."""
    if not ROOT.search(file.read(4096)):
        msg = f"{path}: not an LHE file: it does not begin with <LesHouchesEvents>"
        raise HepgenError(msg)
    file.seek(0)
    end = next((place for place, _ in find(file, INIT, LONGEST)), None)
    if end is None or end > MAX_HEADER:
        msg = f"{path}: no </init> ends its header; is it an LHE file, or a truncated one?"
        raise HepgenError(msg)
    file.seek(0)
    return file.read(end)


def _listing(file: BinaryIO, path: str) -> Listing:
    starts, ended = array("q"), False
    for place, mark in find(file, MARKS, LONGEST):
        if ended:
            msg = f"{path}: goes on after </LesHouchesEvents>; give files that were put together one by one"
            raise HepgenError(msg)
        starts.append(place)
        ended = mark.startswith(b"</")
    if not ended:
        msg = f"{path}: truncated LHE file: it does not end with </LesHouchesEvents>"
        raise HepgenError(msg)
    return Listing(file, path, starts)


def _body(text: bytes, weights: bool, where: str) -> bytes:
    """An event's element, without the elements inside it unless the weights among them are wanted."""
    end = text.find(b"</event>")
    if end < 0:
        msg = f"{where} has no </event>; is the file truncated or damaged?"
        raise HepgenError(msg)
    return text[: end if weights else text.find(b"<", 1)] + b"</event>\n"


def _parse(texts: Sequence[bytes], block: bytes, where: str) -> list[pylhe.LHEEvent]:
    """Events of their elements; `block` names the weights that these give by position."""
    header = b"<header>\n" + block + b"</header>\n" if block else b""
    document = b'<LesHouchesEvents version="3.0">\n' + header + BEAMS + b"".join(texts) + b"</LesHouchesEvents>\n"
    try:
        with warnings.catch_warnings():
            # pylhe ends with a warning where it should fail.
            warnings.simplefilter("error")
            events = list(pylhe.LHEFile.frombuffer(io.BytesIO(document)).events)
    except Exception as error:  # what it may raise on damaged text is not known
        msg = f"{where} are not readable LHE, perhaps truncated or damaged ({str(error)[:300]})"
        raise HepgenError(msg) from error
    if len(events) != len(texts):
        msg = f"{where} hold {len(events)} events, not {len(texts)}; is the file damaged?"
        raise HepgenError(msg)
    return events


def _convert(events: Sequence[pylhe.LHEEvent], sample: LheSample, path: str, first: int) -> Events:
    weights = np.empty(len(events))
    for index, event in enumerate(events):
        where = f"{path}: event {first + index} (counted from 0)"
        if len(event.particles) != event.eventinfo.nparticles:
            stated = event.eventinfo.nparticles
            msg = f"{where} states {stated} particles and has {len(event.particles)}; is the file damaged?"
            raise HepgenError(msg)
        if sample.weight is not None and sample.weight not in event.weights:
            raise unknown_name(f"weight of {where}", sample.weight, event.weights)
        weights[index] = event.eventinfo.weight if sample.weight is None else event.weights[sample.weight]
    rows = [(p.id, p.px, p.py, p.pz, p.m, p.status) for event in events for p in event.particles]
    counts = [len(event.particles) for event in events]
    particles = np.array(rows, np.float64).reshape(-1, 6)
    return events_of(particles, np.repeat(np.arange(len(events)), counts), weights, sample.label, path, first)
