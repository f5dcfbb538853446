"""An inspection in words, and as a configuration."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from hepgen.errors import HepgenError
from hepgen.inspection.findings import WITHOUT, Finding
from hepgen.inspection.identify import Inspection
from hepgen.inspection.trial import Trial, configure
from hepgen.storage import atomic
from hepgen.text import printable

__all__ = ["configuration", "deliver", "describe", "show", "write"]

MOST_CONTENTS = 24
WIDTH = 110
Rows = list[tuple[str, str]]


def describe(found: Inspection) -> list[tuple[str, Rows]]:
    """What was found, under headings."""
    parts: list[tuple[str, Rows]] = []
    for finding in found.findings:
        parts.append((finding.path, _facts(finding)))
    for trial, finding in zip(found.trials, found.findings, strict=False):
        where = f" in {finding.path}" if len(found.findings) > 1 else ""
        parts.append((f"Numbers of the first events{where}", trial.evidence))
    problems = _problems(found)
    if problems:
        parts.append(("Problems", problems))
    if found.failed:
        parts.append(("Tried without success", found.failed))
    return parts


def _facts(finding: Finding) -> Rows:
    more = f"more than {finding.events:,} ({finding.at_least})" if finding.at_least else f"{finding.events:,}"
    contents = finding.contents[:MOST_CONTENTS]
    if len(contents) < len(finding.contents):
        contents.append(("…", f"and {len(finding.contents) - len(contents)} more"))
    holds = [(reading.kind, reading.what) for reading in finding.readings if not reading.what.endswith(WITHOUT)]
    return [("kind", finding.kind), ("events", more), *contents, *((f"holds {kind}", what) for kind, what in holds)]


def _problems(found: Inspection) -> Rows:
    problems = [(finding.path, problem) for finding in found.findings for problem in finding.problems]
    for trial, finding in zip(found.trials, found.findings, strict=False):
        problems += [(finding.path, problem) for problem in trial.problems]
    if found.repeated:
        problems.append(("events", f"{found.repeated} of those looked at occur more than once"))
    return problems


def configuration(found: Inspection) -> str:
    """A complete configuration that reads the files, with the reasons of what was chosen as comments."""
    (trial, *_), paths = found.trials, [finding.path for finding in found.findings]
    content = configure(trial.reading, paths if len(paths) > 1 else paths[0], found.name, trial.jets)
    comments = trial.reading.comments | _choices(found, trial)
    return "\n".join(_lines(content, 0, comments)) + "\n"


def _choices(found: Inspection, trial: Trial) -> dict[str, str]:
    comments = {"source": f"{found.findings[0].kind}: {trial.reading.what}"}
    if found.others:
        comments["source"] += f"; also: --as {', --as '.join(found.others)}"
    if "match" in trial.reading.entry:
        comments["pt_min"] = "GeV; of the jets at both levels"
    elif trial.jets:
        comments["number"] = "leading jets that an event must have"
        comments["pt_min"] = "GeV; most events have so many jets above it"
    return comments


def _lines(content: dict[str, Any], indent: int, comments: dict[str, str]) -> Iterator[str]:
    """YAML with a comment where there is one; what fits is written in one line."""
    for key, value in content.items():
        comment = f"  # {printable(comments[key])}" if key in comments else ""
        start = f"{' ' * indent}{_flow(key)}:"
        if isinstance(value, dict) and (indent < 4 or len(start + _flow(value)) > WIDTH):
            yield start + comment
            yield from _lines(value, indent + 2, comments)
        elif isinstance(value, list) and len(start + _flow(value)) > WIDTH:
            yield start + comment
            yield from (f"{' ' * indent}  - {_flow(item)}" for item in value)
        else:
            yield f"{start} {_flow(value)}{comment}"


class _Dumper(yaml.SafeDumper):
    """Writes every text in one line: line breaks and control characters are escaped."""


def _represent(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent)


def _flow(value: Any) -> str:
    settings = {"default_flow_style": True, "sort_keys": False, "width": float("inf"), "allow_unicode": True}
    # What is not printable stands in double quotes, where its codes are escapes.
    return printable(yaml.dump(value, Dumper=_Dumper, **settings).removesuffix("...\n").strip())


def deliver(found: Inspection, output: Path | None = None) -> None:
    """Print what was found and a configuration, or write the configuration to `output`.

    Raises:
        HepgenError: if no reading of the files works, or `output` is another file already or cannot be written.
    """
    show(found, with_configuration=output is None and bool(found.trials))
    if found.trials and output is not None:
        write(found, output)
        print(f"{output}: sample {found.name}")
    elif not found.trials and (output is not None or found.needs_entry):
        raise HepgenError(_nothing(found))


def _nothing(found: Inspection) -> str:
    """Why there is no configuration."""
    first = found.findings[0]
    if not found.needs_entry:
        return f"{first.path}: is {first.kind}, which the next stage reads; it needs no configuration"
    if found.failed:
        return found.failed[0][1]
    return f"{first.path}: holds nothing that can be read: {'; '.join(first.problems) or 'no numbers of events'}"


def show(found: Inspection, *, with_configuration: bool) -> None:
    """Print what was found: as tables on a terminal, else as text that is a comment to the configuration after it."""
    console = Console()
    parts = [(printable(heading), [tuple(map(printable, row)) for row in rows]) for heading, rows in describe(found)]
    if console.is_terminal:
        for heading, rows in parts:
            # As `Text`, for brackets in names are no markup.
            table = RichTable(title=Text(heading), title_justify="left", show_header=False)
            table.add_column(no_wrap=True)
            table.add_column(overflow="fold")
            for row in rows:
                table.add_row(*map(Text, row))
            console.print(table)
    else:
        start = "# " if with_configuration else ""
        for heading, rows in parts:
            print(f"{start}{heading}")
            width = max((len(name) for name, _ in rows), default=0)
            for name, what in rows:
                print(f"{start}  {name:{width}}  {what}")
    if with_configuration:
        print(configuration(found), end="")


def write(found: Inspection, path: Path) -> None:
    """Write the configuration.

    Raises:
        HepgenError: if another file is there already, or it cannot be written.
    """
    text = configuration(found)
    if path.exists() or path.is_symlink():
        if not path.is_file() or path.read_text(errors="replace") != text:
            msg = f"{path}: is there already and says something else; move it away, or choose another name for -o"
            raise HepgenError(msg)
        return
    with atomic(path) as temporary:
        temporary.write_text(text)
