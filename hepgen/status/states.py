"""What has become of the jobs of a run since it was planned, from the files that they leave."""

import os
import time
from base64 import urlsafe_b64decode
from collections import Counter
from contextlib import suppress
from pathlib import Path
from statistics import fmean

from hepgen.errors import HepgenError
from hepgen.record import wall_seconds
from hepgen.runs import at_work
from hepgen.status.jobs import Job, Plan

__all__ = ["STATES", "WOULD_RUN", "Status"]

STATES = ("done", "running", "failed", "stale", "waiting")
WOULD_RUN = STATES[2:]
MARKS = Path(".snakemake/incomplete")


class Status:
    """How far a run has come, seen from the folder that it works in.

    Attributes:
        plan: What there was to do.
        leader: The run that is at work, if any is.
        begun: The first files of the jobs that were begun and have not ended, and when they were.
        states: What has become of each job: one of `STATES`.
    """

    def __init__(self, plan: Plan) -> None:
        """Look at a run for the first time."""
        self.plan = plan
        self._seconds: dict[str, float] = {}
        self.look()

    def look(self) -> None:
        """See how far the run has come by now."""
        self.leader, self.begun = at_work(self.plan.results), _begun()
        self.states = {job.name: self._state(job) for job in self.plan.jobs}

    def time_left(self) -> tuple[float, float, list[str]]:
        """How long it takes to the end if as many jobs go on side by side as do now.

        However the jobs follow one another, it takes no less than the longest chain of them and than their sum over
        their number side by side, and no more than both together.

        Returns:
            Both limits in seconds, and the rules of which nothing is known, counted as nothing, as no job of them has
            ever finished.
        """
        now, typical = time.time(), self._typical()
        total, unknown, chains = 0.0, set(), {}
        for job in self.plan.jobs:
            if self.states[job.name] == "done":
                continue
            seconds = typical.get(job.kind, typical.get(job.rule))
            if seconds is None:
                unknown.add(job.rule)
            elapsed = now - self.begun.get(job.output, now) if self.states[job.name] == "running" else 0.0
            seconds = max((seconds or 0.0) - elapsed, 0.0)
            total += seconds
            chains[job.name] = seconds + max((chains.get(name, 0.0) for name in job.after), default=0.0)
        longest = max(chains.values(), default=0.0)
        share = total / max(Counter(self.states.values())["running"], 1)
        return max(longest, share), longest + share, sorted(unknown)

    def _state(self, job: Job) -> str:
        begun = self.begun.get(job.output)
        if begun is not None:
            # A job that waits in a batch system's queue is marked too, but has not written to its log.
            return ("running" if _changed(job.log) >= begun else "waiting") if self.leader else "failed"
        if not job.needed or (ended := _changed(job.benchmark)) >= self.plan.made:
            return "done"
        if job.record is not None and job.record.exists():
            return "stale"
        # Whatever a job made is deleted when it fails, but not what it said.
        return "failed" if _changed(job.log) > ended else "waiting"

    def _typical(self) -> dict[str, float]:
        """How long the jobs of each kind and of each rule took on average, as far as any has ended."""
        found: dict[str, list[float]] = {}
        for job in self.plan.jobs:
            if job.name not in self._seconds and job.output not in self.begun and job.benchmark.exists():
                # Snakemake is writing it now, or was killed while it did; those of other jobs tell as much.
                with suppress(HepgenError):
                    self._seconds[job.name] = wall_seconds(job.benchmark)
            if job.name in self._seconds:
                for key in {job.kind, job.rule}:
                    found.setdefault(key, []).append(self._seconds[job.name])
        return {key: fmean(seconds) for key, seconds in found.items()}


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
