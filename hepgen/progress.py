"""Progress of long work: a bar on a terminal, one line a step in a batch log."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hepgen.text import printable

__all__ = ["Log", "track"]

T = TypeVar("T")


class Log:
    """Where a running stage says how it gets on; called with one line of text."""

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress

    def __call__(self, line: str) -> None:
        if self.progress is None:
            print(printable(line), file=sys.stderr, flush=True)
        else:
            self.progress.update(self.progress.task_ids[0], status=printable(line))


def track(steps: Iterable[T], total: int, description: str) -> Iterator[tuple[T, Log]]:
    """Yield each step with a `Log`: on a terminal its lines run beside a bar, elsewhere they are printed."""
    console = Console(stderr=True)
    if not console.is_terminal:
        log = Log()
        for step in steps:
            yield step, log
        return
    # Brackets in names are no markup.
    name, status = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[status]}"))
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), status)
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(printable(description), total=total, status="")
        log = Log(progress)
        for step in steps:
            yield step, log
            progress.advance(task)
