"""Where a run stands: what is done, running, failed or stale and why, and what would run now.

Snakemake is asked for its plan; what has become of the jobs since is read from the files that they leave.
"""

import csv
import io
import json
import logging
import os
import time
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import chdir, redirect_stderr
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.plan import card, modules
from hepgen.record import Record
from hepgen.runs import at_work
from hepgen.storage import read_json
from hepgen.text import printable

__all__ = ["Job", "Run", "changes", "plan", "show"]

STATES = ("done", "running", "failed", "stale", "waiting")
WOULD_RUN = STATES[2:]
FOLLOWS = "follows from jobs before it"
MARKS = Path(".snakemake/incomplete")
ABSENT = "not set"
# How many reasons are shown, and how many letters of a value.
SHOWN, LONG = 20, 60


@dataclass(frozen=True)
class Job:
    """A job of a run, as it was planned.

    Attributes:
        name: RULE/WILDCARDS, as its log, benchmark and record are called.
        output: The first of its files, by which Snakemake marks that it was begun.
        log, benchmark, record: What it leaves beside them; no record, where it needs none.
        needed: Whether it would run now.
        why: Why it would; nothing, where only jobs before it are the reason.
        after: The names of the jobs that would run before it.
    """

    name: str
    output: str
    log: Path
    benchmark: Path
    record: Path | None
    needed: bool
    why: tuple[str, ...] = ()
    after: tuple[str, ...] = ()

    @property
    def rule(self) -> str:
        """The rule that it is of."""
        return self.name.partition("/")[0]

    @property
    def kind(self) -> str:
        """Its rule and sample, model or method: such jobs take about equally long."""
        return self.name.rpartition("/")[0] or self.name


@dataclass
class Run:
    """A plan, and what has become of it.

    Attributes:
        jobs: All jobs of the run, each after those that it needs.
        rules: The names of the workflow's rules, in its order.
        folder: Where Snakemake works; paths are relative to it.
        results: The folder of the products.
        planned: When the plan was made, as seconds since the epoch.
    """

    jobs: list[Job]
    rules: list[str]
    folder: Path
    results: str
    planned: float
    _seconds: dict[str, float] = field(default_factory=dict)

    def states(self) -> dict[str, str]:
        """What has become of each job until now: one of `STATES`."""
        begun, alive = _begun(), at_work(self.results) is not None
        return {job.name: self._state(job, begun.get(job.output), alive=alive) for job in self.jobs}

    def time_left(self, states: dict[str, str]) -> tuple[float, float, list[str]]:
        """How long it takes to the end if as many jobs go on side by side as do now.

        However the jobs follow one another, it takes no less than the longest chain of them and than their sum over
        their number side by side, and no more than both together.

        Returns:
            Both limits in seconds, and the rules of which nothing is known, counted as nothing, as no job of them has
            ever finished.
        """
        now, begun = time.time(), _begun()
        typical = self._typical(begun)
        total, unknown, chains = 0.0, set(), {}
        for job in self.jobs:
            if states[job.name] == "done":
                continue
            seconds = typical.get(job.kind, typical.get(job.rule))
            if seconds is None:
                unknown.add(job.rule)
            elapsed = now - begun.get(job.output, now) if states[job.name] == "running" else 0.0
            seconds = max((seconds or 0.0) - elapsed, 0.0)
            total += seconds
            chains[job.name] = seconds + max((chains.get(name, 0.0) for name in job.after), default=0.0)
        longest = max(chains.values(), default=0.0)
        share = total / max(Counter(states.values())["running"], 1)
        return max(longest, share), longest + share, sorted(unknown)

    def _state(self, job: Job, begun: float | None, *, alive: bool) -> str:
        if begun is not None:
            # A job that waits in a batch system's queue is marked too, but has not written to its log.
            return ("running" if _changed(job.log) >= begun else "waiting") if alive else "failed"
        if not job.needed or (ended := _changed(job.benchmark)) >= self.planned:
            return "done"
        if job.record is not None and job.record.exists():
            return "stale"
        # Whatever a job made is deleted when it fails, but not what it said.
        return "failed" if _changed(job.log) > ended else "waiting"

    def _typical(self, begun: Container[str]) -> dict[str, float]:
        """How long the jobs of each kind and of each rule took on average, as far as any has ended."""
        found: dict[str, list[float]] = {}
        for job in self.jobs:
            if job.name not in self._seconds and job.output not in begun and job.benchmark.exists():
                self._seconds[job.name] = _duration(job.benchmark)
            if job.name in self._seconds:
                for key in {job.kind, job.rule}:
                    found.setdefault(key, []).append(self._seconds[job.name])
        return {key: fmean(seconds) for key, seconds in found.items()}


def plan(arguments: Sequence[str]) -> Run:
    """Ask Snakemake what it would run now, without running, locking or changing anything.

    Args:
        arguments: Those of the command ``snakemake``.

    Raises:
        HepgenError: if Snakemake refuses.
    """
    planned = time.time()
    # Snakemake's plug-ins have things to say when they are imported, which would stand before the answer.
    with redirect_stderr(io.StringIO()):
        from snakemake.api import SnakemakeApi
        from snakemake.cli import parse_config
        from snakemake.exceptions import CliException, RuleException
        from snakemake.settings import types
        from snakemake_interface_common.exceptions import ApiError, WorkflowError
    try:
        args = _parsed(arguments)
        dag = types.DAGSettings(
            targets=args.targets, until=args.until, omit_from=args.omit_from, allowed_rules=args.allowed_rules,
            forcerun=args.forcerun, forcetargets=args.force, forceall=args.forceall,
            force_incomplete=args.rerun_incomplete, rerun_triggers=args.rerun_triggers,
            max_checksum_file_size=args.max_checksum_file_size,
        )  # fmt: skip
        with SnakemakeApi(types.OutputSettings(dryrun=True, log_level_override=logging.CRITICAL)) as api:
            workflow = api.workflow(
                resource_settings=types.ResourceSettings(cores=1),
                config_settings=types.ConfigSettings(config=parse_config(args.config), configfiles=args.configfile),
                storage_settings=types.StorageSettings(),
                snakefile=args.snakefile,
                workdir=args.directory,
            )
            workflow.dag(dag).execute_workflow(executor="dryrun")
            # There is no other way to the jobs that are done already.
            found = workflow._workflow
            rules = [rule.name for rule in found.rules]
            return Run(list(_jobs(found)), rules, Path.cwd(), found.globals["OUT"], planned)
    except (ApiError, CliException, OSError, RuleException, WorkflowError) as error:
        raise HepgenError(" ".join(str(error).split())) from error


def show(arguments: Sequence[str], *, full: bool = False, watch: bool = False) -> None:
    """Print where a run stands.

    Args:
        arguments: Those of the command ``snakemake``.
        full: Name every job that would run, not a few of each kind.
        watch: Go on, on a terminal, until nothing runs.
    """
    run, console = plan(arguments), Console(highlight=False, markup=False)
    with chdir(run.folder):
        if not watch:
            states = run.states()
            console.print(_progress(run, states))
            for line in _explanations(run, states, full=full):
                console.print("\n".join(map(printable, line.split("\n"))), soft_wrap=True)
            return
        with Live(console=console, auto_refresh=False) as live:
            while True:
                clock = time.perf_counter()
                live.update(_progress(run, run.states()), refresh=True)
                if at_work(run.results) is None:
                    return
                # On a file system where looking takes long, it is done less often.
                time.sleep(max(1.0, 10 * (time.perf_counter() - clock)))


def changes(record: Record, config: Config) -> list[str]:
    """What is other than when a job left its record: settings, and modules of the code."""
    settings = _differences(record.card, card(config, record.stage, record.name))
    code = modules(config, record.stage, record.name)
    edited = sorted(name for name in code if record.modules.get(name) != code[name])
    return [*settings, *([f"code of {_few(edited)}"] if edited else [])]


def _parsed(arguments: Sequence[str]) -> Any:
    """What the command ``snakemake`` understands by its arguments and the profile."""
    from snakemake.cli import parse_args

    with redirect_stderr(io.StringIO()) as said:
        try:
            return parse_args(["--dry-run", *arguments])[1]
        except SystemExit as error:
            msg = said.getvalue().strip().rpartition("error: ")[2]
            raise HepgenError(msg) from error


def _jobs(workflow: Any) -> Iterator[Job]:
    """The jobs that a workflow has planned, each after those that it needs."""
    dag, results = workflow.dag, Path(workflow.globals["OUT"])
    named = {job: Path(job.log[0]).relative_to(results / "logs").with_suffix("") for job in dag.jobs if job.log}
    for job in (job for level in dag.toposorted() for job in sorted(named.keys() & level, key=named.get)):
        needed, name, record = dag.needrun(job), str(named[job]), job.output.get("record")
        yield Job(
            name=name,
            output=str(job.output[0]),
            log=Path(job.log[0]),
            benchmark=results / "benchmarks" / f"{name}.tsv",
            record=Path(record) if record else None,
            needed=needed,
            why=tuple(_reasons(workflow, job)) if needed else (),
            after=tuple(str(named[other]) for other in dag.dependencies[job] if dag.needrun(other)) if needed else (),
        )


def _reasons(workflow: Any, job: Any) -> Iterator[str]:
    """Why Snakemake would run a job, in words, if not only because it runs others before."""
    reason, params = workflow.dag.reason(job), workflow.dag.reason(job).params_changed
    if reason.forced:
        yield "asked for"
    if reason.missing_output:
        yield f"{_few(reason.missing_output)} missing"
    if updated := reason.updated_input - reason.updated_input_run:
        yield f"{_few(updated)} changed"
    if reason.input_changed:
        before, now = set(workflow.persistence.input(job.output[0]) or ()), set(job.input)
        for files, word in ((now - before, "now"), (before - now, "no more")):
            if files:
                yield f"reads {_few(files)} {word}"
    if params:
        try:
            found = changes(read_json(job.output.record, Record), workflow.globals["CONFIG"])
        except HepgenError:
            found = ["settings or code changed, and its record is of another version"]
        values = (_short(", ".join(sorted(values))) for values in (params.only_old, params.only_new))
        yield from found or [" → ".join(values)]
    if reason.code_changed:
        yield "the rule's command changed"


def _differences(before: Any, now: Any, where: str = "") -> list[str]:
    """What differs between two JSON-like values, one line for each key."""
    if before == now:
        return []
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [f"{where}: {_short(before)} → {_short(now)}"]
    keys = sorted(before.keys() | now.keys())
    inner = ((f"{where}.{key}".lstrip("."), before.get(key, ABSENT), now.get(key, ABSENT)) for key in keys)
    return [line for key, *values in inner for line in _differences(*values, key)]


def _short(value: Any) -> str:
    """A value in a few words."""
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONG else f"{text[: LONG - 1]}…"


def _few(names: Iterable[str], most: int = 3) -> str:
    """Names in a list that does not get long."""
    found = sorted(map(str, names))
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def _begun() -> dict[str, float]:
    """The files of the jobs that were begun and have not ended, and when they were."""
    found = {}
    for folder, _, names in os.walk(MARKS):
        for path in (Path(folder, name) for name in names):
            # Long names are cut into folders.
            name = "".join(part.removeprefix("@") for part in path.relative_to(MARKS).parts)
            if when := _changed(path):
                found[urlsafe_b64decode(name).decode()] = when
    return found


def _changed(path: Path) -> float:
    """When a file was written, as seconds since the epoch; 0 for none."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _duration(benchmark: Path) -> float:
    """The seconds that a job took."""
    with benchmark.open() as file:
        return float(next(csv.DictReader(file, delimiter="\t"))["s"])


def _last_line(log: Path) -> str:
    """What a job said last."""
    said = log.read_text(errors="replace").split("\n") if log.exists() else []
    return next((line for line in reversed(said) if line.strip()), "ended without a word")


def _progress(run: Run, states: dict[str, str]) -> Group:
    """How many jobs are in each state, how long the rest takes, and a table of all rules."""
    counts, total = Counter((job.rule, states[job.name]) for job in run.jobs), Counter(states.values())
    headline = f"{len(states)} jobs: {', '.join(f'{total[state]} {state}' for state in STATES)}"
    leader = at_work(run.results)
    work = f"Process {leader.pid} on {leader.host} is at work{_rest(run, states)}." if leader else "No run is at work."
    table = Table("", "jobs", *STATES, box=SIMPLE_HEAD)
    for column in table.columns[1:]:
        column.justify = "right"
    for rule in (rule for rule in run.rules if any((rule, state) in counts for state in STATES)):
        numbers = [counts[rule, state] for state in STATES]
        table.add_row(rule, str(sum(numbers)), *(str(number or "-") for number in numbers))
    return Group(headline, printable(work), table)


def _rest(run: Run, states: dict[str, str]) -> str:
    """How long a run still takes, as far as that is known."""
    low, high, unknown = run.time_left(states)
    low, high = (timedelta(seconds=round(seconds)) for seconds in (low, high))
    if unknown:
        return f"; at least {low} left: no job of {_few(unknown)} has ended yet"
    return f"; {low} to {high} left if as many jobs run side by side as now"


def _explanations(run: Run, states: dict[str, str], *, full: bool) -> Iterator[str]:
    """Why jobs failed, why others are stale, and how many would run; `full` names each of them."""
    begun = _begun()
    groups: dict[tuple[str, ...], list[str]] = {}
    for job in sorted(run.jobs, key=lambda job: STATES.index(states[job.name])):
        state, why = states[job.name], "; ".join(job.why) or FOLLOWS
        if state == "failed":
            why = "interrupted" if job.output in begun else f"{_last_line(job.log)} ({job.log})"
        if full and state in WOULD_RUN:
            groups[state, why, job.name] = [job.name]
        elif state in ("failed", "stale"):
            groups.setdefault((state, why) if why == FOLLOWS else (state, why, job.rule), []).append(job.name)
    shown = len(groups) if full else SHOWN
    for (state, why, *_), names in list(groups.items())[:shown]:
        yield f"{state}: {_few(names)}\n    {why}"
    if len(groups) > shown:
        yield f"and {len(groups) - shown} other reasons: see --full"
    left = sum(state in WOULD_RUN for state in states.values())
    yield f"A run would now execute {left} of {len(states)} jobs."
