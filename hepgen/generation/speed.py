"""How fast events are drawn, and how fast the full simulation makes them."""

from collections.abc import Sequence
from pathlib import Path

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.record import wall_seconds
from hepgen.samples import PythiaSample

__all__ = ["SIMULATION", "simulated_events", "simulation_rate"]

SIMULATION = "simulation"


def simulation_rate(config: Config, benchmarks: Sequence[Path]) -> dict[str, list[float]]:
    """Events per second and core of the jobs that simulated the samples and clustered their jets.

    Nothing where the samples were not simulated here, or there are no benchmarks.

    Args:
        config: The run.
        benchmarks: Snakemake's benchmark files of every chunk of the samples, one of its events and one of its jets.

    Raises:
        HepgenError: if a file is not a Snakemake benchmark, or there are not two of each chunk.
    """
    events = simulated_events(config)
    expected = 2 * sum(getattr(config.samples[name], "chunks", 1) for name in config.generation.samples)
    if benchmarks and events and len(benchmarks) != expected:
        msg = f"generation: {len(benchmarks)} benchmarks of the simulation were given, but its chunks have {expected}"
        raise HepgenError(f"{msg}; give all of them or none, a part of the time would make it look too fast")
    return {SIMULATION: [events / sum(wall_seconds(path) for path in benchmarks)]} if benchmarks and events else {}


def simulated_events(config: Config) -> int | None:
    """How many events were simulated here, or None where a sample comes from elsewhere."""
    entries = [config.samples[name] for name in config.generation.samples]
    known = all(isinstance(entry, PythiaSample) for entry in entries)
    return sum(entry.events for entry in entries) if known else None
