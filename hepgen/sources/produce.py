"""The first stage of a run: one chunk of a sample, from its source into the store."""

from pathlib import Path

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.events import write_events
from hepgen.plan import provenance
from hepgen.provenance import seed_for
from hepgen.registry import look_up
from hepgen.samples import PluginSample
from hepgen.sources import SOURCES
from hepgen.table import write_table

__all__ = ["produce"]


def produce(config: Config, sample: str, chunk: int, output: Path) -> int:
    """Stream a chunk of a sample into `output`; returns how many events it holds.

    Sources of events write an `Events` file, tables of observables write a `Table` at once.

    Raises:
        HepgenError: if the sample or the chunk is unknown, or its source is unreadable or holds no event.
    """
    entry = look_up("sample", sample, config.samples)
    if not 0 <= chunk < entry.chunks:
        msg = f"sample {sample!r} has chunks 0 to {entry.chunks - 1}, not {chunk}"
        raise HepgenError(msg)
    # Two samples of the same process and settings must not be the same events.
    settings = entry.settings if isinstance(entry, PluginSample) else {}
    batches = SOURCES.load(entry.source)(entry, chunk, seed_for(config.seed, sample), **settings)
    write = write_table if entry.is_table else write_events
    return write(output, batches, provenance(config, "sample", sample))
