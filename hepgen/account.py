"""What a run cost, and how its products came about: tables for the report, from the records of its jobs."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from hepgen.errors import HepgenError
from hepgen.lineage import NOTES, Archive, kind, other_versions, span
from hepgen.record import Record, wall_seconds
from hepgen.summary import write_table

__all__ = ["Cost", "costs", "write_tables"]

COSTS = (
    "rule", "jobs", "core-hours", "share", "median wall time [s]", "longest [s]", "CPU efficiency",
    "peak memory [MB]", "memory asked [MB]", "with benchmark",
)  # fmt: skip
ORIGINS = ("rule", "name", "jobs", "files", "started (UTC)", "host", "device", "code", "commit", "other versions")
INPUTS = ("file", "bytes", "part read [bytes]", "SHA-256 of that part", "read by")


@dataclass(frozen=True)
class Cost:
    """What a job took.

    Attributes:
        seconds: Wall time: from its benchmark, or its record's where there is none.
        threads: The cores that it was given.
        cpu_seconds: Processor time of all its threads.
        memory_mb: The most memory that it had at a time.
        benchmarked: Whether it has a benchmark that can be read.
    """

    seconds: float
    threads: int
    cpu_seconds: float
    memory_mb: float
    benchmarked: bool

    @classmethod
    def of(cls, record: Record, benchmark: Path) -> "Cost":
        """The cost of a job by its record and its benchmark.

        The record knows memory and processor time better: a benchmark looks at a job now and then, and under Slurm
        sees only the command that started it.
        """
        # A head that dies before it writes a benchmark leaves that of the time before; while it does, half of one.
        seconds, found = record.seconds, False
        if benchmark.exists() and benchmark.stat().st_mtime >= record.started.timestamp():
            with suppress(HepgenError):
                seconds, found = wall_seconds(benchmark), True
        return cls(seconds, record.threads, record.cpu_seconds, record.memory_mb, found)


def write_tables(records: Sequence[Path], output: Path, asked: Iterable[str]) -> None:
    """Write ``tables/cost.html``, ``tables/provenance.html`` and, of files that were read, ``tables/inputs.html``.

    Args:
        records: Those of the jobs to account for, in the folder of results.
        output: That folder.
        asked: How much memory rules ask for, as ``RULE=MB``.

    Raises:
        HepgenError: if a record is damaged or lies elsewhere.
    """
    archive = Archive(output, records)
    memory = dict(text.split("=", 1) for text in asked)
    write_table(output / "tables/cost.html", "cost", COSTS, _cost_rows(costs(archive), memory), words=1)
    write_table(output / "tables/provenance.html", "provenance", ORIGINS, _origin_rows(archive), words=len(ORIGINS))
    if rows := list(_input_rows(archive)):
        write_table(output / "tables/inputs.html", "inputs", INPUTS, rows, words=len(INPUTS))


def costs(archive: Archive) -> dict[str, list[Cost]]:
    """What each job took, by rule."""
    found: dict[str, list[Cost]] = defaultdict(list)
    for job, record in archive.records.items():
        benchmark = archive.folder / "benchmarks" / f"{job}.tsv"
        found[kind(job)[0]].append(Cost.of(record, benchmark))
    return dict(found)


def _cost_rows(found: dict[str, list[Cost]], memory: dict[str, str]) -> list[tuple[str, ...]]:
    """One row for each rule, the dearest first, and one for all."""
    total = [cost for jobs in found.values() for cost in jobs]
    ordered = sorted(found.items(), key=lambda item: -_core_hours(item[1]))
    rows = [_cost_row(rule, jobs, _core_hours(total), memory.get(rule, "")) for rule, jobs in ordered]
    return [*rows, _cost_row("all", total, _core_hours(total), "")]


def _cost_row(rule: str, jobs: list[Cost], total: float, memory: str) -> tuple[str, ...]:
    hours, seconds = _core_hours(jobs), [job.seconds for job in jobs]
    efficiency = sum(job.cpu_seconds for job in jobs) / 3600 / hours
    return (
        rule, f"{len(jobs):,}", f"{hours:,.3f}", f"{hours / total:.1%}", f"{median(seconds):,.1f}",
        f"{max(seconds):,.1f}", f"{efficiency:.0%}", f"{max(job.memory_mb for job in jobs):,.0f}", memory,
        f"{sum(job.benchmarked for job in jobs):,}",
    )  # fmt: skip


def _core_hours(jobs: Iterable[Cost]) -> float:
    return sum(job.seconds * job.threads for job in jobs) / 3600


def _origin_rows(archive: Archive) -> Iterable[tuple[str, ...]]:
    """One row for each rule and sample, model or method."""
    groups: dict[tuple[str, str], dict[str, Record]] = defaultdict(dict)
    for job, record in archive.records.items():
        groups[kind(job)][job] = record
    for (rule, name), jobs in groups.items():
        records = list(jobs.values())
        started = sorted({f"{record.started:%Y-%m-%d %H:%M}" for record in records})
        files = sum(len(record.outputs) for record in records)
        hosts, devices, codes, commits = (
            ", ".join(sorted({getattr(record, key) for record in records} - {""}))
            for key in ("host", "device", "code", "commit")
        )
        when = " – ".join(dict.fromkeys((started[0], started[-1])))
        others = ", ".join(other_versions(record.versions for record in records))
        yield (
            rule, name, span(jobs) or "1", f"{files:,}", when, hosts, devices, codes, commits, others,
        )  # fmt: skip


def _input_rows(archive: Archive) -> Iterable[tuple[str, ...]]:
    """One row for each file, or part of one, that was read and that no job made."""
    readers: dict[tuple[str, ...], dict[str, None]] = {}
    for job, record in archive.records.items():
        for place, file in archive.places(job, record.inputs):
            if place not in archive.makers and not place.startswith(NOTES):
                size = "of another host" if file.bytes is None else f"{file.bytes:,}"
                part = f"{file.part[0]:,} – {file.part[1]:,}" if file.part else "all"
                readers.setdefault((place, size, part, file.sha256 or "not looked at"), {})[job] = None
    for row, jobs in sorted(readers.items()):
        yield (*row, ", ".join(jobs))
