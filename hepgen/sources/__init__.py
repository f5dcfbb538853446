"""Anything that holds events, streamed in chunks."""

from hepgen.registry import Registry

__all__ = ["SOURCES"]

SOURCES = Registry(
    "source",
    {
        "pythia": "hepgen.sources.pythia:stream",
        "lhco": "hepgen.sources.lhco:stream",
        "arrays": "hepgen.sources.arrays:stream",
        "root": "hepgen.sources.root:stream",
        "hepmc": "hepgen.sources.hepmc:stream",
        "lhe": "hepgen.sources.lhe:stream",
        "energyflow": "hepgen.sources.energyflow:stream",
        "padded": "hepgen.sources.padded:stream",
    },
)
