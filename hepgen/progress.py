"""Progress of long work: a bar on a terminal, one line a step in a batch log."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Log", "track"]

T = TypeVar("T")


class Log:
    """Where a running stage says how it gets on; called with one line of text."""

    def __init__(self, progress: Progress | None = None) -> None:
        self.progress = progress

    def __call__(self, line: str) -> None:
        if self.progress is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self.progress.update(self.progress.task_ids[0], status=line)


def track(steps: Iterable[T], total: int, description: str) -> Iterator[tuple[T, Log]]:
    """Yield each step with a `Log`: on a terminal its lines run beside a bar, elsewhere they are printed."""
    console = Console(stderr=True)
    if not console.is_terminal:
        log = Log()
        for step in steps:
            yield step, log
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[status]}"), console=console) as progress:
        task = progress.add_task(description, total=total, status="")
        log = Log(progress)
        for step in steps:
            yield step, log
            progress.advance(task)
