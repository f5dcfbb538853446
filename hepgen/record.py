"""What a job did: its settings, code, seed and files, and where, when and for how long it ran."""

import csv
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

from pydantic import BaseModel

import hepgen
from hepgen.config import Config, load
from hepgen.errors import HepgenError
from hepgen.inputs import Part, check_file, is_remote, parts_of
from hepgen.plan import card, code, modules
from hepgen.provenance import versions
from hepgen.samples import FileSample
from hepgen.storage import write_json, written
from hepgen.text import few, short

__all__ = ["File", "Record", "changes", "inputs_of", "recording", "recording_command", "wall_seconds"]

# What batch systems call a job, in its environment.
BATCH_IDS = ("SLURM_JOB_ID", "LSB_JOBID", "PBS_JOBID", "JOB_ID")
ABSENT = "not set"


class File(BaseModel):
    """A file as a job found or left it.

    Attributes:
        path: Its name, as the job was given it.
        bytes: The size of the whole file; None, like the checksum, for one of another host.
        part: First byte and end of what the checksum covers, where several jobs share a file: each answers for as
            large a part of its bytes as it reads of its events, so that together they read it for this once.
        sha256: The checksum of that part, or of the whole file.
    """

    path: str
    bytes: int | None
    part: tuple[int, int] | None = None
    sha256: str | None

    @classmethod
    def at(cls, path: str | Path, part: Part | None = None) -> "File":
        """The file as it is now.

        Raises:
            HepgenError: if there is none that can be read.
        """
        if is_remote(str(path)):
            return cls(path=str(path), bytes=None, sha256=None)
        check_file(str(path))
        size = Path(path).stat().st_size
        share = (int(size * part.start), int(size * part.stop)) if part else (0, size)
        shared = None if share == (0, size) else share
        return cls(path=str(path), bytes=size, part=shared, sha256=_sha256(path, *share))

    def change(self, path: Path, *, contents: bool) -> str:
        """What has become of the file at `path`: nothing, `changed` or `gone`; by its size, or by its contents too."""
        if self.sha256 is None:
            return ""
        if not path.is_file():
            return "gone"
        if path.stat().st_size != self.bytes:
            return "changed"
        share = self.part or (0, self.bytes)
        return "changed" if contents and _sha256(path, *share) != self.sha256 else ""


class Record(BaseModel):
    """The record that a job of the workflow leaves beside its products; these hold neither time nor host.

    Attributes:
        path: Where it is written, as the job was told: within the folder of results, like its products.
        stage, name, seed: What was done, for which sample, model or method, and the training's seed.
        card: The settings that the stage reads.
        code, modules: The fingerprint of the code that it runs, and a hash of each of its modules.
        commit: The commit of the checkout that hepgen ran from, with ``-dirty`` after it where files were edited;
            empty where it was installed.
        versions: Python, hepgen and the packages that results depend on.
        command, folder: What was run, and where.
        inputs, outputs: The files read and written.
        host, device, threads, batch_id: Where it ran: computer, graphics card, threads of the libraries, batch job.
        started, seconds: When it began, and how long it took.
        cpu_seconds, memory_mb: Processor time of all threads, and the most memory at a time.
    """

    path: str
    stage: str
    name: str
    seed: int | None
    card: dict[str, Any]
    code: str
    modules: dict[str, str]
    commit: str
    versions: dict[str, str]
    command: list[str]
    folder: str
    inputs: list[File]
    outputs: list[File]
    host: str
    device: str
    threads: int
    batch_id: str
    started: datetime
    seconds: float
    cpu_seconds: float
    memory_mb: float


@contextmanager
def recording(
    path: Path, config: Config | None, stage: str, name: str = "", *, seed: int | None = None, inputs: Iterable[Part]
) -> Iterator[None]:
    """Write a record of what the block made of the inputs, once it has succeeded.

    Args:
        path: The record's file.
        config: The run's configuration, if the stage reads one.
        stage: What was done, as `hepgen.plan.card` calls it.
        name: The sample, model or method that it was done for.
        seed: That of a training.
        inputs: What is read.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    # All this is as the job finds it; a file or a module may be edited while it runs.
    before = {
        "card": card(config, stage, name),
        "code": code(config, stage, name),
        "modules": modules(config, stage, name),
        "commit": _commit(),
        "versions": versions(),
        "inputs": [File.at(part.path, part) for part in inputs],
    }
    with written() as made:
        yield
    record = Record(
        path=str(path),
        stage=stage,
        name=name,
        seed=seed,
        **before,
        command=["hepgen", *sys.argv[1:]],
        folder=str(Path.cwd()),
        outputs=[File.at(file) for file in dict.fromkeys(made) if file.exists()],
        host=platform.node(),
        device=_device(),
        threads=int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())),
        batch_id=next(filter(None, map(os.environ.get, BATCH_IDS)), ""),
        started=started,
        seconds=time.perf_counter() - clock,
        **_spent(),
    )
    write_json(path, record.model_dump(mode="json"))


def recording_command(path: Path, stage: str, given: dict[str, Any]) -> AbstractContextManager[None]:
    """`recording` of a command of hepgen, by the arguments that it was given.

    Raises:
        HepgenError: if its configuration or its trained model cannot be read.
    """
    config = load(given["config"]) if isinstance(given.get("config"), Path) else None
    name, seed = next((given[key] for key in ("name", "model", "method") if key in given), ""), given.get("seed")
    if isinstance(name, Path):
        from hepgen.models.files import read_card

        about = read_card(name)
        name, seed = about["name"], about["seed"]
    return recording(path, config, stage, name, seed=seed, inputs=inputs_of(config, stage, given))


def inputs_of(config: Config | None, stage: str, given: dict[str, Any]) -> list[Part]:
    """What a command reads, by its arguments; the configuration is recorded as the stage's card."""
    if stage == "ingest":
        entry = config.samples[given["name"]]
        return parts_of(entry, given["chunk"]) if isinstance(entry, FileSample) else []
    values = [value for key, value in given.items() if key not in ("config", "output")]
    listed = [value if isinstance(value, list) else [value] for value in values]
    files = [value for values in listed for value in values if isinstance(value, Path)]
    # Other tools' scores are named by the configuration alone.
    files += config.tagging.external.values() if stage == "tagging_evaluate" else []
    return [Part.whole(str(file)) for file in files]


def changes(record: Record, config: Config) -> list[str]:
    """What is other than when a job left its record: settings, and modules of the code."""
    settings = _differences(record.card, card(config, record.stage, record.name))
    code = modules(config, record.stage, record.name)
    edited = sorted(name for name in code if record.modules.get(name) != code[name])
    return [*settings, *([f"code of {few(edited)}"] if edited else [])]


def wall_seconds(benchmark: Path) -> float:
    """Wall time of a job by the benchmark that Snakemake wrote, the mean over its repeats.

    Raises:
        HepgenError: if the file is none.
    """
    try:
        with benchmark.open(newline="") as file:
            return mean(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))
    except (OSError, KeyError, ValueError) as error:
        msg = f"{benchmark}: not a readable Snakemake benchmark ({error!r}); it should have a column 's' of seconds"
        raise HepgenError(msg) from error


def _differences(before: Any, now: Any, where: str = "") -> list[str]:
    """What differs between two JSON-like values, one line for each key."""
    if before == now:
        return []
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [f"{where}: {_said(before)} → {_said(now)}"]
    keys = sorted(before.keys() | now.keys())
    inner = ((f"{where}.{key}".lstrip("."), before.get(key, ABSENT), now.get(key, ABSENT)) for key in keys)
    return [line for key, *values in inner for line in _differences(*values, key)]


def _said(value: Any) -> str:
    """A setting in a few words."""
    return short(value if isinstance(value, str) else json.dumps(value))


def _sha256(path: str | Path, start: int, stop: int) -> str:
    """The checksum of the bytes from `start` to `stop` of a file."""
    total = hashlib.sha256()
    with Path(path).open("rb") as file:
        file.seek(start)
        while block := file.read(min(1 << 20, stop - file.tell())):
            total.update(block)
    return total.hexdigest()


def _commit() -> str:
    """The commit of the checkout that hepgen runs from; empty where it was installed, or is not under Git."""
    root = Path(hepgen.__file__).parents[1]
    if not (root / ".git").exists():
        return ""
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    # Jobs side by side must not wait for one another's lock on the checkout.
    environment = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _device() -> str:
    """The graphics card that was computed on; empty where none was."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch and torch.cuda.is_initialized() else ""


def _spent() -> dict[str, float]:
    """Processor seconds and peak memory of this process; Snakemake's benchmarks look at it only now and then."""
    usage, status = resource.getrusage(resource.RUSAGE_SELF), Path("/proc/self/status")
    peak = usage.ru_maxrss / 1024
    if status.exists():
        # The peak above is inherited from the process that started this one.
        peak = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 1024
    return {"cpu_seconds": usage.ru_utime + usage.ru_stime, "memory_mb": peak}
