"""The records in a folder of results, and the steps that lead from its inputs to any of its files."""

import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from hepgen.errors import HepgenError
from hepgen.provenance import versions
from hepgen.record import File, Record
from hepgen.storage import read_json
from hepgen.text import few

__all__ = ["FOLDER", "NOTES", "Archive", "Step", "kind", "other_versions", "span"]

FOLDER = "provenance"
# What is known of jobs, and of which nothing is recorded.
NOTES = (f"{FOLDER}/", "benchmarks/")


@dataclass
class Step:
    """Jobs of one rule for one sample, model or method, and what they read.

    Attributes:
        rule, name: What was done, and for which sample, model or method.
        jobs: Their records, by the names that the workflow gives them.
        files: Those of their products that are asked for, by place.
        inputs: Files that no job made, by place.
        steps: What made the other files that they read.
        remarks: What is no longer as it was.
    """

    rule: str
    name: str
    jobs: dict[str, Record]
    files: dict[str, File]
    inputs: dict[str, list[File]] = field(default_factory=dict)
    steps: list["Step"] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def all_jobs(self) -> dict[str, Record]:
        """The jobs of this step and of all before it."""
        return self.jobs | {name: job for step in self.steps for name, job in step.all_jobs().items()}


class Archive:
    """The records in a folder of results, and which job made which of its files.

    A place is a file's path within the folder, wherever that stood when the file was made or stands now; of files
    outside of it, the whole path.
    """

    def __init__(self, folder: Path, records: Iterable[Path] | None = None) -> None:
        """Read some records of a folder of results, or all.

        Raises:
            HepgenError: if there are none, or one is damaged or lies elsewhere.
        """
        self.folder, root = folder, folder / FOLDER
        try:
            self.records = {
                path.relative_to(root).with_suffix("").as_posix(): _read(path)
                for path in (sorted(root.rglob("*.json")) if records is None else records)
            }
        except ValueError as error:
            msg = f"{root}: {error}; records are read from one folder of results"
            raise HepgenError(msg) from error
        if not self.records:
            msg = f"{folder}: holds no records of jobs, which a run writes into {FOLDER}/; is it a folder of results?"
            raise HepgenError(msg)
        self.makers = {
            place: (name, file)
            for name, record in self.records.items()
            for place, file in self.places(name, record.outputs)
        }
        self._steps: dict[frozenset[str], Step] = {}

    def places(self, job: str, files: Iterable[File]) -> Iterator[tuple[str, File]]:
        """The places of files that a job read or wrote."""
        record = self.records[job]
        here = os.path.join(record.folder, record.path)  # noqa: PTH118 - a million times
        root = os.path.normpath(here).removesuffix(f"{FOLDER}/{job}.json")
        for file in files:
            whole = os.path.normpath(os.path.join(record.folder, file.path)) if file.bytes is not None else file.path  # noqa: PTH118
            yield whole.removeprefix(root), file

    def find(self, path: Path) -> str | None:
        """The place of a product: by its path, or else that of the same contents; None where no job made it."""
        place = path.absolute()
        if place.is_relative_to(self.folder.absolute()):
            known = str(place.relative_to(self.folder.absolute()))
            if known in self.makers:
                return known
        now = File.at(path)
        same = (
            place for place, (_, file) in self.makers.items() if (file.bytes, file.sha256) == (now.bytes, now.sha256)
        )
        return next(same, None)

    def trace(self, places: Collection[str], *, contents: bool, told: Collection[str] = ()) -> list[Step]:
        """The steps that made the files at some places; the same object for the same files.

        Args:
            places: The files, all of them made by jobs.
            contents: Whether files are held against their checksums, or only against their sizes.
            told: Those of which it is said elsewhere whether they are as they were made.
        """
        groups: dict[tuple[str, str], dict[str, File]] = {}
        for place in places:
            job, file = self.makers[place]
            groups.setdefault(kind(job), {})[place] = file
        for group, files in groups.items():
            if frozenset(files) not in self._steps:
                self._steps[frozenset(files)] = self._step(*group, files, contents, told)
        return [self._steps[frozenset(files)] for files in groups.values()]

    def _step(self, rule: str, name: str, files: dict[str, File], contents: bool, told: Collection[str]) -> Step:
        names = dict.fromkeys(self.makers[place][0] for place in files)
        step = Step(rule, name, {job: self.records[job] for job in names}, files)
        made: dict[str, None] = {}
        anew, unknown = [], []
        for job, record in step.jobs.items():
            for place, file in self.places(job, record.inputs):
                if place in self.makers:
                    made[place] = None
                    anew += [place] if self.makers[place][1].sha256 != file.sha256 else []
                else:
                    listed = step.inputs.setdefault(place, [])
                    listed += [file] if file not in listed else []
                    unknown += [place] if not (place.startswith(NOTES) or self._outside(place)) else []
        states = [(place, file.change(self.folder / place, contents=contents)) for place, file in files.items()]
        given = [
            (place, file.change(self.folder / place, contents=contents))
            for place, listed in step.inputs.items()
            for file in listed
        ]
        step.remarks = [
            *_remark([p for p, state in states if state == "changed" and p not in told], "changed after it was made"),
            *_remark([place for place, state in states if state == "gone"], "is no longer there"),
            *_remark([place for place, state in given if state == "changed"], "changed after it was read"),
            *_remark([place for place, state in given if state == "gone"], "is no longer there"),
            *_remark(anew, "was made anew after it was read"),
            *_remark(unknown, "has no record of how it was made"),
            *_differing(step.jobs.values()),
        ]
        step.steps = self.trace(made, contents=contents) if made else []
        return step

    @staticmethod
    def _outside(place: str) -> bool:
        return place.startswith("/") or "://" in place


def _read(path: Path) -> Record:
    try:
        return read_json(path, Record)
    except HepgenError as error:
        msg = f"{error}; if another version of hepgen wrote it, delete it, and the next run does its job again"
        raise HepgenError(msg) from error


def kind(job: str) -> tuple[str, str]:
    """The rule of a job, and the sample, model or method that it was for; empty where it was for all."""
    rule, _, wildcards = job.partition("/")
    return rule, wildcards.partition("/")[0]


def span(jobs: Iterable[str]) -> str:
    """The wildcards of one rule's jobs for one name: `chunks 0-999`, or `nominal/1, toy-1/1 and 9 more`; maybe none."""
    words = ["/".join(job.split("/")[2:]) for job in jobs if job.count("/") > 1]
    if not all(word.isdigit() for word in words):
        return few(words)
    numbers = sorted(map(int, words))
    if len(numbers) < 2:
        return "".join(f"{_noun(jobs)} {number}" for number in numbers)
    whole = numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{_noun(jobs)}s {f'{numbers[0]}-{numbers[-1]}' if whole else few(list(map(str, numbers)))}"


def _noun(jobs: Iterable[str]) -> str:
    return "chunk" if next(iter(jobs)).partition("/")[0] in ("ingest", "table", "observe") else "seed"


def other_versions(made: Iterable[dict[str, str]]) -> list[str]:
    """Packages of another version than those that are installed now."""
    known, found = dict(versions()), {item for versions_then in made for item in versions_then.items()}
    other = [(name, then) for name, then in sorted(found) if then != _now(name, known)]
    return [f"{name} {then} (now {_now(name, known)})" for name, then in other]


def _now(package: str, known: dict[str, str]) -> str:
    if package not in known:
        try:
            known[package] = version(package)
        except PackageNotFoundError:
            known[package] = "none"
    return known[package]


def _remark(places: list[str], what: str) -> list[str]:
    return [f"{few(places)} {what}"] if places else []


def _differing(records: Collection[Record]) -> list[str]:
    """What jobs of one step do not have in common, though they should."""
    codes = {record.code for record in records}
    cards = {json.dumps(record.card, sort_keys=True) for record in records}
    remarks = [f"these jobs ran {len(codes)} different codes"] if len(codes) > 1 else []
    return [*remarks, *([f"these jobs had {len(cards)} different settings"] if len(cards) > 1 else [])]
