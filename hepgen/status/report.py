"""Print where a run stands."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import chdir
from datetime import timedelta
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from hepgen.status.jobs import plan
from hepgen.status.states import STATES, WOULD_RUN, Status
from hepgen.text import few, printable

__all__ = ["show"]

FOLLOWS = "follows from jobs before it"
# How many reasons are shown.
SHOWN = 20


def show(arguments: Sequence[str], *, full: bool = False, watch: bool = False) -> None:
    """Print where a run stands.

    Args:
        arguments: Those of the command ``snakemake``.
        full: Name every job that would run, not a few of each kind.
        watch: Go on, on a terminal, until nothing runs.
    """
    found, console = plan(arguments), Console(highlight=False, markup=False)
    with chdir(found.folder):
        status = Status(found)
        if not watch:
            console.print(_progress(status))
            for line in _explanations(status, full=full):
                console.print("\n".join(map(printable, line.split("\n"))), soft_wrap=True)
            return
        with Live(_progress(status), console=console, auto_refresh=False) as live:
            while status.leader:
                clock = time.perf_counter()
                status.look()
                live.update(_progress(status), refresh=True)
                # On a file system where looking takes long, it is done less often.
                time.sleep(max(1.0, 10 * (time.perf_counter() - clock)))


def _progress(status: Status) -> Group:
    """How many jobs are in each state, how long the rest takes, and a table of all rules."""
    states, leader = status.states, status.leader
    counts, total = Counter((job.rule, states[job.name]) for job in status.plan.jobs), Counter(states.values())
    headline = f"{len(states)} jobs: {', '.join(f'{total[state]} {state}' for state in STATES)}"
    work = f"Process {leader.pid} on {leader.host} is at work{_rest(status)}." if leader else "No run is at work."
    table = Table("", "jobs", *STATES, box=SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for rule in (rule for rule in status.plan.rules if any((rule, state) in counts for state in STATES)):
        numbers = [counts[rule, state] for state in STATES]
        table.add_row(rule, str(sum(numbers)), *(str(number or "-") for number in numbers))
    return Group(headline, printable(work), table)


def _rest(status: Status) -> str:
    """How long a run still takes, as far as that is known."""
    low, high, unknown = status.time_left()
    low, high = (timedelta(seconds=round(seconds)) for seconds in (low, high))
    if unknown:
        return f"; at least {low} left: no job of {few(unknown)} has ended yet"
    return f"; {low} to {high} left if as many jobs run side by side as now"


def _explanations(status: Status, *, full: bool) -> Iterator[str]:
    """Why jobs failed, why others are stale, and how many would run; `full` names each of them."""
    states = status.states
    groups: dict[tuple[str, ...], list[str]] = {}
    for job in sorted(status.plan.jobs, key=lambda job: STATES.index(states[job.name])):
        state, why = states[job.name], "; ".join(job.why) or FOLLOWS
        if state == "failed":
            why = "interrupted" if job.output in status.begun else f"{_last_line(job.log)} ({job.log})"
        if full and state in WOULD_RUN:
            groups[state, why, job.name] = [job.name]
        elif state in ("failed", "stale"):
            groups.setdefault((state, why) if why == FOLLOWS else (state, why, job.rule), []).append(job.name)
    shown = len(groups) if full else SHOWN
    for (state, why, *_), names in list(groups.items())[:shown]:
        yield f"{state}: {few(names)}\n    {why}"
    if len(groups) > shown:
        yield f"and {len(groups) - shown} other reasons: see --full"
    left = sum(state in WOULD_RUN for state in states.values())
    yield f"A run would now execute {left} of {len(states)} jobs."


def _last_line(log: Path) -> str:
    """What a job said last."""
    said = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line for line in reversed(said) if line.strip()), "ended without a word")
