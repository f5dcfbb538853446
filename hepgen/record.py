"""What a job did: its settings, code, seed and files, and where, when and for how long it ran."""

import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hepgen.config import Config
from hepgen.inputs import is_remote, parts_of
from hepgen.plan import card, code
from hepgen.provenance import versions
from hepgen.samples import FileSample
from hepgen.storage import checksum, write_json, written

__all__ = ["File", "Record", "inputs_of", "recording"]

# What batch systems call a job, in its environment.
BATCH_IDS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "JOB_ID")


class File(BaseModel):
    """A file as a job found or left it."""

    path: str
    bytes: int
    sha256: str


class Record(BaseModel):
    """The record that a job of the workflow leaves beside its products; these hold neither time nor host."""

    stage: str
    name: str
    seed: int | None
    card: dict[str, Any]
    code: str
    versions: dict[str, str]
    command: list[str]
    folder: str
    inputs: list[File]
    outputs: list[File]
    host: str
    batch_id: str
    started: datetime
    seconds: float


@contextmanager
def recording(
    path: Path, config: Config | None, stage: str, name: str = "", *, seed: int | None = None, inputs: Iterable[Path]
) -> Iterator[None]:
    """Write a record of what the block made of the inputs, once it has succeeded.

    Args:
        path: The record's file.
        config: The run's configuration, if the stage reads one.
        stage: What was done, as `hepgen.plan.card` calls it.
        name: The sample, model or method that it was done for.
        seed: That of a training.
        inputs: The files that are read.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    found = [_file(file) for file in inputs]
    with written() as made:
        yield
    record = Record(
        stage=stage,
        name=name,
        seed=seed,
        card=card(config, stage, name),
        code=code(config, stage, name),
        versions=versions(),
        command=["hepgen", *sys.argv[1:]],
        folder=str(Path.cwd()),
        inputs=found,
        outputs=[_file(file) for file in dict.fromkeys(made) if file.exists()],
        host=platform.node(),
        batch_id=next(filter(None, map(os.environ.get, BATCH_IDS)), ""),
        started=started,
        seconds=time.perf_counter() - clock,
    )
    write_json(path, record.model_dump(mode="json"))


def inputs_of(config: Config | None, stage: str, given: dict[str, Any]) -> list[Path]:
    """The files that a command reads, by its arguments; the configuration is recorded as the stage's card."""
    if stage == "ingest":
        entry = config.samples[given["name"]]
        shares = parts_of(entry, given["chunk"]) if isinstance(entry, FileSample) else []
        return [Path(part.path) for part in shares if not is_remote(part.path)]
    values = [value for key, value in given.items() if key not in ("config", "output")]
    listed = [value if isinstance(value, list) else [value] for value in values]
    return [value for values in listed for value in values if isinstance(value, Path)]


def _file(path: Path) -> File:
    return File(path=str(path), bytes=path.stat().st_size, sha256=checksum([path]))
