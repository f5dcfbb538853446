"""The head of a run, the process in which Snakemake plans and leads it; all that reaches into Snakemake's insides."""

import shlex
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import RLock
from typing import Any

from snakemake.logging import logger
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from hepgen import runs
from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.inputs import Part, is_remote
from hepgen.record import File, Record, changes, inputs_of
from hepgen.storage import read_json, refuse_links
from hepgen.text import few, printable

__all__ = ["Head", "one_line"]


@contextmanager
def one_line() -> Iterator[None]:
    """End with one line instead of a traceback, where what is wrong is no fault of the code's."""
    try:
        yield
    except HepgenError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        sys.exit(1)


class Head:
    """Whose the folder of results is, and which products a run must not take over as they are.

    Snakemake knows by its metadata of which settings a product is. It has none of what a job made when its run was
    dead, or of results that were copied here, and would keep them whatever they are; their records judge them.

    Attributes:
        stale: What is other than the records say, for each record whose job is to be done again for that.
    """

    def __init__(self, workflow: Any, config: Config) -> None:
        self.stale: dict[str, list[str]] = {}
        self._workflow, self._config = workflow, config
        self._lock = -1
        # A batch system's jobs plan just their own part, which the head has judged.
        if workflow.is_main_process:
            self._build, workflow._build_dag = workflow._build_dag, self._plan

    def start(self) -> None:
        """Clear away what killed jobs left, now that the plan is made and its first job is to be started."""
        scheduler, dag = self._workflow.scheduler, self._workflow.dag
        # Snakemake's handler of SIGTERM takes this lock in a thread that may hold it: a plain one would never be given.
        scheduler._lock = RLock()
        # Slurm's executor gives all its jobs one name.
        slurm_name = getattr(scheduler._executor, "run_uuid", "")
        runs.note(self._lock, slurm_name)
        jobs = list(dag.needrun_jobs())
        self._remove_partials(jobs)
        if slurm_name:
            fail_where_not_submitted(scheduler._executor)
            end_where_forgotten(scheduler._executor)
        if not self._workflow.storage_settings.shared_fs_usage:
            # Products are brought back to them; jobs make just their own.
            for path in (path for job in jobs for path in (*job.output, *job.log, job.benchmark) if path):
                Path(path).parent.mkdir(parents=True, exist_ok=True)

    def end(self) -> None:
        """Clear away what jobs left that were killed, and note the end, unless Slurm's jobs are still at work."""
        if not self._workflow.scheduler.running:
            self._remove_partials(self._workflow.dag.jobs)
            runs.end(self._lock)

    def _remove_partials(self, jobs: Iterable[Any]) -> None:
        runs.remove_partials([f"{self._config.output}/config.yaml", *(file for job in jobs for file in job.output)])

    def _plan(self) -> None:
        """Plan as Snakemake does, and judge what it has no metadata of; a run takes the folder of results before."""
        workflow = self._workflow
        with one_line():
            # The report after a run is planned once more.
            if workflow.executor_plugin is not None and not workflow.dryrun and self._lock < 0:
                refuse_links(self._config.output)
                self._lock = runs.begin(self._config.output)
            self._build()
            found = self._judged()
        if found:
            workflow.dag.forcefiles.update(file for job in found for file in job.output)
            workflow.async_run(workflow.dag.update_needrun())
            logger.warning(f"Made again, for their records tell of something else: {few(sorted(self.stale))}")

    def _judged(self) -> list[Any]:
        """The jobs that are to be done again."""
        dag, found, file = self._workflow.dag, [], cache(File.at)
        for job in dag.jobs:
            if job.output.get("record") and dag.reason(job).no_metadata and not dag.needrun(job):
                try:
                    record = read_json(job.output.record, Record)
                except HepgenError:
                    continue
                # One that was moved here speaks of other files.
                if record.path == job.output.record and (reasons := differences(job, record, self._config, file)):
                    self.stale[record.path] = reasons
                    found.append(job)
        return found


def differences(job: Any, record: Record, config: Config, file: Any = File.at) -> list[str]:
    """What is other than when a job left its record: settings, code, command, or the contents of files.

    Files that are gone are left to Snakemake, which knows whether they are needed.

    Args:
        job: A job of Snakemake's plan.
        record: The record of the job that made its products.
        config: The run's configuration.
        file: Looks at a file, or a part of it, as it is now.
    """
    if found := changes(record, config):
        return found
    # Without what its output is sent to.
    if shlex.split(job.shellcmd)[:-3] != record.command:
        return ["its command changed"]
    read = [Part.whole(each.path) for each in record.inputs]
    if record.stage == "ingest":
        read = inputs_of(config, "ingest", {"name": job.wildcards.sample, "chunk": int(job.wildcards.chunk)})
    if [part.path for part in read] != [each.path for each in record.inputs]:
        return ["reads other files"]
    known = [*zip(read, record.inputs, strict=True), *((Part.whole(each.path), each) for each in record.outputs)]
    here = [(file(part.path, part), each) for part, each in known if is_remote(part.path) or Path(part.path).exists()]
    if any(now.part != each.part and now.bytes == each.bytes for now, each in here):
        return ["cut into other chunks"]
    changed = [each.path for now, each in here if now != each]
    return [f"{few(changed)} changed"] if changed else []


def fail_where_not_submitted(executor: Any) -> None:
    """Let jobs fail that cannot be submitted, as on a full disk; Slurm's executor would wait for them without end."""
    submit = executor.run_job

    def run_job(job: Any) -> None:
        try:
            submit(job)
        except Exception as error:
            executor.report_job_error(SubmittedJobInfo(job), f"not submitted: {error}. ")

    executor.run_job = run_job


def end_where_forgotten(executor: Any) -> None:
    """Judge jobs by their records that Slurm knows no more; its executor would wait for them without end.

    Slurm forgets jobs some minutes after their end, which the head misses if it hangs for longer.
    """
    check, missed = executor.check_active_jobs, set()

    async def check_active_jobs(jobs: list[SubmittedJobInfo]) -> AsyncIterator[SubmittedJobInfo]:
        waiting = [job async for job in check(jobs)]
        try:
            known = runs.slurm_jobs(executor.run_uuid, "all") if waiting else []
        except HepgenError as error:
            executor.logger.warning(str(error))
            known = [job.external_jobid for job in waiting]
        unknown = {job.external_jobid for job in waiting}.difference(known)
        for job in waiting:
            # One that was submitted just now may not be known yet.
            if job.external_jobid not in unknown & missed:
                yield job
            elif left_records(job):
                executor.report_job_success(job)
            else:
                executor.report_job_error(job, "Slurm knows it no more, and it left no record. ")
        missed.clear()
        missed.update(unknown)

    executor.check_active_jobs = check_active_jobs


def left_records(submitted: SubmittedJobInfo) -> bool:
    """Whether a job of Slurm's did all that it was to do."""
    jobs = submitted.job.jobs if submitted.job.is_group() else [submitted.job]
    try:
        return all(read_json(job.output.record, Record).batch_id == submitted.external_jobid for job in jobs)
    except HepgenError:
        return False
