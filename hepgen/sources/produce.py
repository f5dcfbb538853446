"""The first stage of a run: one chunk of a sample, from its source into the store."""

from collections.abc import Iterator
from pathlib import Path

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.events import Events, write_events
from hepgen.inputs import parts_of, total_bytes
from hepgen.plan import provenance
from hepgen.provenance import seed_for
from hepgen.registry import look_up
from hepgen.samples import FileSample, PluginSample, Sample
from hepgen.sources import SOURCES
from hepgen.storage import refuse_inputs
from hepgen.table import Table, write_table

__all__ = ["produce"]


def produce(config: Config, sample: str, chunk: int, output: Path, planned_bytes: int | None = None) -> int:
    """Stream a chunk of a sample into `output`; returns how many events it holds.

    Sources of events write an `Events` file, tables of observables write a `Table` at once.

    Args:
        config: The configuration of the run.
        sample: An entry of its samples block.
        chunk: Which chunk, from 0.
        output: The file to write.
        planned_bytes: How large the sample's files were when the run was planned, where that is known: chunks share
            files by their size, and would not fit together if one grew meanwhile.

    Raises:
        HepgenError: if the sample or the chunk is unknown, its files have changed, its source is unreadable, or the
            chunk is left with no event.
    """
    entry = look_up("sample", sample, config.samples)
    if not 0 <= chunk < entry.chunks:
        msg = f"sample {sample!r} has chunks 0 to {entry.chunks - 1}, not {chunk}"
        raise HepgenError(msg)
    inputs = [part.path for part in parts_of(entry, chunk)] if isinstance(entry, FileSample) else []
    refuse_inputs(output, inputs)
    if planned_bytes is not None and total_bytes(entry) != planned_bytes:
        msg = f"sample {sample!r}: its files were {planned_bytes} bytes when the run was planned, and are others now"
        raise HepgenError(f"{msg}; start the run again when they are complete")
    write = write_table if entry.is_table else write_events
    # Two samples of the same process and settings must not be the same events.
    batches = _batches(entry, chunk, seed_for(config.seed, sample))
    return write(output, batches, provenance(config, "ingest", sample, inputs=inputs))


def _batches(entry: Sample, chunk: int, seed: int) -> Iterator[Events | Table]:
    """What the source yields; that of a plug-in is held to what its entry says."""
    source = SOURCES.load(entry.source)
    if not isinstance(entry, PluginSample):
        yield from source(entry, chunk, seed)
        return
    kind = Table if entry.is_table else Events
    try:
        for batch in source(entry, chunk, seed, **entry.settings):
            lacking = set(entry.observables) - set(batch.columns) if isinstance(batch, kind) else {kind.__name__}
            if lacking:
                msg = f"source {entry.source!r} does not yield {', '.join(sorted(lacking))}, as its sample's entry says"
                raise HepgenError(msg)
            yield batch
    except HepgenError:
        raise
    except Exception as error:  # what a user's code may raise is not known
        msg = f"source {entry.source!r} fails ({type(error).__name__}: {error})"
        raise HepgenError(msg) from error
