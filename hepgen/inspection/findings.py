"""What an inspection finds: a file's kind and contents, and the ways in which hepgen can read it."""

from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["COMMON", "SAMPLED", "WITHOUT", "Finding", "Kind", "Reading"]

Kind = Literal["particles", "jets", "observables"]
# How many events of a file are looked at.
SAMPLED = 1000
# The fraction of events in which a reading should find something, if another one does.
COMMON = 0.5
# How the words for a reading end that leaves out a truth that is there.
WITHOUT = "without its truth"


@dataclass(frozen=True)
class Reading:
    """One way to read a file.

    Attributes:
        kind: What is read.
        what: The branches or arrays that it takes, in words.
        entry: The sample's entry, without ``path`` and ``jets``.
        radius: Jet radius; None for a table of observables.
        number: Jets an event, where the format says so.
        comments: Why a key of the entry is what it is.
    """

    kind: Kind
    what: str
    entry: dict[str, Any]
    radius: float | None = None
    number: int | None = None
    comments: dict[str, str] = field(default_factory=dict)


@dataclass
class Finding:
    """What a file is.

    Attributes:
        path: The file.
        kind: Its format.
        events: How many events it holds.
        contents: Its trees or arrays, and what each is.
        readings: How it can be read, the best first; none for products of hepgen.
        problems: What is wrong with it.
        at_least: Whether the events were counted only so far, and what they were estimated from.
    """

    path: str
    kind: str
    events: int
    contents: list[tuple[str, str]] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    at_least: str = ""
