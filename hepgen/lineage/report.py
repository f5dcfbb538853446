"""Print where a file came from."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.filesize import decimal
from rich.text import Text
from rich.tree import Tree

from hepgen.errors import HepgenError
from hepgen.export.stamps import read_stamps
from hepgen.lineage.records import FOLDER, Archive, Step, other_versions, span
from hepgen.record import File, Record
from hepgen.text import few, printable

__all__ = ["deliver"]

# Characters of settings, and files of a folder, that are shown.
SETTINGS, FILES = 240, 3
# Characters of a line where there is no terminal.
LONGEST = 10_000


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
    archive = Archive(folder) if folder else None
    place = archive.find(path) if archive else None
    if archive is None or place is None:
        _deliver_stamps(path, folder, as_json=as_json)
        return
    itself = (folder / place).exists() and path.samefile(folder / place)
    (step,) = archive.trace([place], contents=contents, told=[place] if itself else [])
    changed = now.sha256 != step.files[place].sha256
    if as_json:
        jobs = {name: record.model_dump(mode="json") for name, record in step.all_jobs().items()}
        print(json.dumps({"file": str(path), "place": place, "changed": changed, "jobs": jobs}, indent=1))
        return
    state = ("is not as it was made: another checksum", "red") if changed else ("as it was made", "green")
    size, checksum = f": {decimal(now.bytes)}, ", f", sha256 {now.sha256}"
    tree = Tree(_line((str(path), "bold"), (size, ""), state, (checksum, "")))
    _grow(tree, step, set())
    how = "held against their checksums" if contents else "looked at by size only; --check compares their checksums"
    tree.add(_line((f"files before it were {how}", "dim")))
    _print(tree)


def _deliver_stamps(path: Path, folder: Path | None, *, as_json: bool) -> None:
    """Print what a file without a record says itself."""
    stamps = read_stamps(path)
    if not stamps:
        where = (
            f"no record in {folder / FOLDER} tells of it or of one with its contents"
            if folder
            else ("it lies in no folder of results; if it is a copy from one, name that with --results")
        )
        msg = f"{path}: no job of hepgen made this file: {where}, and it carries no stamp of its own"
        raise HepgenError(msg)
    if as_json:
        print(json.dumps({"file": str(path), "stamps": stamps}, indent=1))
        return
    tree = Tree(_line((str(path), "bold"), (", by its own stamp", "")))
    for stamp in stamps:
        card = {key: value for key, value in stamp["card"].items() if key not in ("stage", "name")}
        title = _line((str(stamp["card"].get("stage", "")), "bold cyan"), (f" {stamp['card'].get('name', '')}", ""))
        lines = [_line((text, "dim")) for text in (f"code {stamp.get('code', '')}", _settings(card))]
        tree.add(Group(title, *lines, *_versions([stamp.get("versions", {})])))
    where = "its record, which knows its inputs, is in the folder of results that it came from: --results"
    tree.add(_line((where, "dim")))
    _print(tree)


def _print(tree: Tree) -> None:
    # Lines of a file or a pipe stay whole, for grep and diff.
    Console(highlight=False, width=None if sys.stdout.isatty() else LONGEST).print(tree)


def _results_of(path: Path) -> Path | None:
    """The folder of results that a file lies in."""
    return next((parent for parent in path.absolute().parents if (parent / FOLDER).is_dir()), None)


def _grow(tree: Tree, step: Step, seen: set[int]) -> None:
    """Add a step and those before it to a tree; what stands there already is only named."""
    files = f"{len(step.files):,} files" if len(step.files) > 1 else next(iter(step.files))
    size = decimal(sum(file.bytes or 0 for file in step.files.values()))
    members = " ".join(["", *filter(None, (step.name, span(step.jobs)))])
    title = _line((step.rule, "bold cyan"), (f"{members}: {files}, {size}", ""))
    if id(step) in seen:
        tree.add(title.append(", see above", "dim"))
        return
    seen.add(id(step))
    records = list(step.jobs.values())
    lines = [_line((text, "dim")) for text in (_made(records), _settings(records[0].card)) if text]
    lines += [_line((f"! {remark}", "red")) for remark in step.remarks]
    branch = tree.add(Group(title, *lines, *_versions(record.versions for record in records)))
    for text in _inputs(step.inputs):
        branch.add(_line((text, "")))
    for earlier in step.steps:
        _grow(branch, earlier, seen)


def _made(records: list[Record]) -> str:
    """By which code, when, where and for how long jobs ran."""
    first, last = min(record.started for record in records), max(record.started for record in records)
    when = " to ".join(dict.fromkeys(f"{time:%Y-%m-%d %H:%M}" for time in (first, last)))
    where = few(sorted({" with ".join(filter(None, (record.host, record.device))) for record in records}))
    code = " or ".join(sorted({" ".join(filter(None, (record.code, record.commit))) for record in records}))
    seconds = sum(record.seconds for record in records)
    own = {(name, code) for record in records for name, code in record.modules.items()}
    plugins = [f"{name} {code}" for name, code in sorted(own) if name.partition(".")[0] != "hepgen"]
    return f"code {code}, {when} UTC on {where}, {seconds:,.0f} s" + (f", plug-ins {few(plugins)}" if plugins else "")


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
        if len(places) > FILES:
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


def _versions(made: Iterable[dict[str, str]]) -> list[Text]:
    other = other_versions(made)
    return [_line((f"by other versions than now: {', '.join(other)}", "yellow"))] if other else []


def _line(*parts: tuple[str, str]) -> Text:
    """A line of texts and their styles, none of which moves the cursor or colours the terminal."""
    return Text.assemble(*((printable(text), style) for text, style in parts))
