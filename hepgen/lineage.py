"""Where a file came from: the records of the jobs behind it, back to the inputs."""

import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.filesize import decimal
from rich.text import Text
from rich.tree import Tree

from hepgen.errors import HepgenError
from hepgen.export.stamps import read_stamps
from hepgen.provenance import versions
from hepgen.record import File, Record
from hepgen.storage import read_json

__all__ = ["NOTES", "History", "Step", "deliver", "kind", "other_versions", "span"]

RECORDS = "provenance"
# What is known of jobs, and of which nothing is recorded.
NOTES = (f"{RECORDS}/", "benchmarks/")
# Characters of settings, and names in a list, that are shown.
SETTINGS, NAMES = 240, 3
# Characters of a line where there is no terminal.
LONGEST = 10_000


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


class History:
    """The records in a folder of results, and which job made which of its files.

    A place is a file's path within the folder, wherever that stood when the file was made or stands now; of files
    outside of it, the whole path.
    """

    def __init__(self, folder: Path, records: Iterable[Path] | None = None) -> None:
        """Read some records of a folder of results, or all.

        Raises:
            HepgenError: if there are none, or one is damaged or lies elsewhere.
        """
        self.folder, root = folder, folder / RECORDS
        try:
            self.records = {
                path.relative_to(root).with_suffix("").as_posix(): read_json(path, Record)
                for path in (sorted(root.rglob("*.json")) if records is None else records)
            }
        except ValueError as error:
            msg = f"{root}: {error}; records are read from one folder of results"
            raise HepgenError(msg) from error
        if not self.records:
            msg = f"{folder}: holds no records of jobs, which a run writes into {RECORDS}/; is it a folder of results?"
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
        root = os.path.normpath(here).removesuffix(f"{RECORDS}/{job}.json")
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

    def trace(self, places: Collection[str], *, contents: bool) -> list[Step]:
        """The steps that made the files at some places; the same object for the same files.

        Args:
            places: The files, all of them made by jobs.
            contents: Whether files are held against their checksums, or only against their sizes.
        """
        groups: dict[tuple[str, str], dict[str, File]] = {}
        for place in places:
            job, file = self.makers[place]
            groups.setdefault(kind(job), {})[place] = file
        for group, files in groups.items():
            if frozenset(files) not in self._steps:
                self._steps[frozenset(files)] = self._step(*group, files, contents)
        return [self._steps[frozenset(files)] for files in groups.values()]

    def _step(self, rule: str, name: str, files: dict[str, File], contents: bool) -> Step:
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
            *_remark([place for place, state in states if state == "changed"], "changed after it was made"),
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


def deliver(path: Path, results: Path | None, *, contents: bool = False, as_json: bool = False) -> None:
    """Print where a file came from, back to the inputs.

    Args:
        path: The file: a product of a run or a copy of one, or any file with a stamp.
        results: The folder of results that has its record; else the one that it lies in.
        contents: Whether the files before it are held against their checksums, too.
        as_json: Print the records whole, as JSON.

    Raises:
        HepgenError: if there is no such file, or hepgen did not make it.
    """
    now = File.at(path)
    folder = results or _results_of(path)
    history = History(folder) if folder else None
    place = history.find(path) if history else None
    if history is None or place is None:
        _deliver_stamps(path, folder, as_json=as_json)
        return
    (step,) = history.trace([place], contents=contents)
    file = step.files[place]
    changed = now.sha256 != file.sha256
    if as_json:
        jobs = {name: record.model_dump(mode="json") for name, record in step.all_jobs().items()}
        print(json.dumps({"file": str(path), "place": place, "changed": changed, "jobs": jobs}, indent=1))
        return
    state = ("is not as it was made: another checksum", "red") if changed else ("as it was made", "green")
    step.remarks = [remark for remark in step.remarks if not remark.startswith(f"{place} changed")]
    label = Text.assemble((str(path), "bold"), f": {decimal(now.bytes)}, ", state, f", sha256 {now.sha256}")
    tree = Tree(_clean(label))
    _grow(tree, step, set())
    how = "held against their checksums" if contents else "looked at by size only; --check compares their checksums"
    tree.add(Text(f"files before it were {how}", "dim"))
    _print(tree)


def _deliver_stamps(path: Path, folder: Path | None, *, as_json: bool) -> None:
    """Print what a file without a record says itself."""
    stamps = read_stamps(path)
    if not stamps:
        where = (
            f"no record in {folder / RECORDS} tells of it or of one with its contents"
            if folder
            else ("it lies in no folder of results; if it is a copy from one, name that with --results")
        )
        msg = f"{path}: no job of hepgen made this file: {where}, and it carries no stamp of its own"
        raise HepgenError(msg)
    if as_json:
        print(json.dumps({"file": str(path), "stamps": stamps}, indent=1))
        return
    tree = Tree(_clean(Text.assemble((str(path), "bold"), ", by its own stamp")))
    for stamp in stamps:
        card = {key: value for key, value in stamp["card"].items() if key not in ("stage", "name")}
        title = Text.assemble((str(stamp["card"].get("stage", "")), "bold cyan"), f" {stamp['card'].get('name', '')}")
        lines = [title, Text(f"code {stamp.get('code', '')}", "dim"), Text(_settings(card), "dim")]
        lines += _versions([stamp.get("versions", {})])
        tree.add(Group(*map(_clean, lines)))
    tree.add(
        Text("its record, which knows its inputs, is in the folder of results that it came from: --results", "dim")
    )
    _print(tree)


def _print(tree: Tree) -> None:
    # Lines of a file or a pipe stay whole, for grep and diff.
    Console(highlight=False, width=None if sys.stdout.isatty() else LONGEST).print(tree)


def _results_of(path: Path) -> Path | None:
    """The folder of results that a file lies in."""
    return next((parent for parent in path.absolute().parents if (parent / RECORDS).is_dir()), None)


def _grow(tree: Tree, step: Step, seen: set[int]) -> None:
    """Add a step and those before it to a tree; what stands there already is only named."""
    members = span(step.jobs)
    files = f"{len(step.files):,} files" if len(step.files) > 1 else next(iter(step.files))
    size = decimal(sum(file.bytes or 0 for file in step.files.values()))
    title = Text.assemble(
        (step.rule, "bold cyan"), " ".join(["", *filter(None, (step.name, members))]), f": {files}, {size}"
    )
    if id(step) in seen:
        tree.add(_clean(title.append(", see above", "dim")))
        return
    seen.add(id(step))
    records = list(step.jobs.values())
    lines = [title, Text(_made(records), "dim")]
    lines += [Text(settings, "dim") for settings in [_settings(records[0].card)] if settings]
    lines += [Text(f"! {remark}", "red") for remark in step.remarks]
    lines += _versions(record.versions for record in records)
    branch = tree.add(Group(*map(_clean, lines)))
    for line in _inputs(step.inputs):
        branch.add(_clean(Text(line)))
    for earlier in step.steps:
        _grow(branch, earlier, seen)


def kind(job: str) -> tuple[str, str]:
    """The rule of a job, and the sample, model or method that it was for; empty where it was for all."""
    rule, _, wildcards = job.partition("/")
    return rule, wildcards.partition("/")[0]


def span(jobs: Iterable[str]) -> str:
    """The wildcards of one rule's jobs for one name: `chunks 0-999`, or `nominal/1, toy-1/1, ... (12)`; maybe none."""
    words = ["/".join(job.split("/")[2:]) for job in jobs if job.count("/") > 1]
    if not all(word.isdigit() for word in words):
        return _some(words)
    numbers = sorted(map(int, words))
    if len(numbers) < 2:
        return "".join(f"{_noun(jobs)} {number}" for number in numbers)
    whole = numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{_noun(jobs)}s {f'{numbers[0]}-{numbers[-1]}' if whole else _some(list(map(str, numbers)))}"


def _noun(jobs: Iterable[str]) -> str:
    return "chunk" if next(iter(jobs)).partition("/")[0] in ("ingest", "table", "observe") else "seed"


def _some(names: list[str]) -> str:
    """The first few of many names, and how many there are."""
    return ", ".join(names) if len(names) <= NAMES else f"{', '.join(names[:NAMES])}, ... ({len(names):,})"


def _made(records: list[Record]) -> str:
    """By which code, when, where and for how long jobs ran."""
    first, last = min(record.started for record in records), max(record.started for record in records)
    when = " to ".join(dict.fromkeys(f"{time:%Y-%m-%d %H:%M}" for time in (first, last)))
    where = _some(sorted({" with ".join(filter(None, (record.host, record.device))) for record in records}))
    code = " or ".join(sorted({" ".join(filter(None, (record.code, record.commit))) for record in records}))
    seconds = sum(record.seconds for record in records)
    own = {(name, code) for record in records for name, code in record.modules.items()}
    plugins = [f"{name} {code}" for name, code in sorted(own) if name.partition(".")[0] != "hepgen"]
    return f"code {code}, {when} UTC on {where}, {seconds:,.0f} s" + (f", plug-ins {_some(plugins)}" if plugins else "")


def _settings(card: dict[str, Any]) -> str:
    """The settings of a card that are set, kinds of models first, as far as they fit on a few lines."""
    ordered = sorted(_flat(card), key=lambda item: not item[0].endswith(".type"))
    text = ", ".join(f"{key}={value}" for key, value in ordered)
    return text if len(text) <= SETTINGS else f"{text[:SETTINGS].rpartition(', ')[0]}, ... (--json shows all)"


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else key)
    elif value not in (None, "", []):
        yield name, f"[{', '.join(map(str, value))}]" if isinstance(value, list) else value


def _inputs(inputs: dict[str, list[File]]) -> Iterator[str]:
    """Lines for files that no job made: a few by name and checksum, many by folder."""
    folders: dict[str, list[str]] = {}
    for place in inputs:
        folders.setdefault(place.rpartition("/")[0], []).append(place)
    for folder, places in folders.items():
        if len(places) > NAMES:
            size = sum(file.bytes or 0 for place in places for file in inputs[place][:1])
            yield f"input {folder}: {len(places):,} files, {decimal(size)} (--json shows all)"
            continue
        for place in places:
            first, *others = inputs[place]
            if first.sha256 is None:
                yield f"input {place}: of another host, not looked at"
            elif others:
                yield f"input {place}: {decimal(first.bytes)}, read in {len(others) + 1:,} parts (--json shows all)"
            else:
                part = f" of bytes {first.part[0]} to {first.part[1]}" if first.part else ""
                yield f"input {place}: {decimal(first.bytes)}, sha256{part} {first.sha256}"


def _remark(places: list[str], what: str) -> list[str]:
    return [f"{_some(places)} {what}"] if places else []


def _differing(records: Collection[Record]) -> list[str]:
    """What jobs of one step do not have in common, though they should."""
    codes = {record.code for record in records}
    cards = {json.dumps(record.card, sort_keys=True) for record in records}
    remarks = [f"these jobs ran {len(codes)} different codes"] if len(codes) > 1 else []
    return [*remarks, *([f"these jobs had {len(cards)} different settings"] if len(cards) > 1 else [])]


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


def _versions(made: Iterable[dict[str, str]]) -> list[Text]:
    other = other_versions(made)
    return [Text(f"by other versions than now: {', '.join(other)}", "yellow")] if other else []


def _clean(text: Text) -> Text:
    """A text without characters that would move the cursor or colour the terminal."""
    for character in {character for character in text.plain if not character.isprintable()}:
        text.plain = text.plain.replace(character, "?")
    return text
