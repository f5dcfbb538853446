"""Anything that holds events, streamed in chunks."""

from hepgen.registry import Registry

__all__ = ["SOURCES"]

SOURCES = Registry(
    "source",
    {
        "pythia": "hepgen.sources.pythia:stream",
        "lhco": "hepgen.sources.lhco:stream",
        "arrays": "hepgen.sources.arrays:stream",
    },
)
