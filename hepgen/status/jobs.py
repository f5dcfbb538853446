"""The jobs of a run, and which of them Snakemake would execute now and why."""

import io
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hepgen.errors import HepgenError
from hepgen.record import Record, changes
from hepgen.storage import read_json
from hepgen.text import few, short

__all__ = ["Job", "Plan", "plan"]


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


@dataclass(frozen=True)
class Plan:
    """What Snakemake would run, and what there is already.

    Attributes:
        jobs: All jobs of the run, each after those that it needs.
        rules: The names of the workflow's rules, in its order.
        folder: Where Snakemake works; paths are relative to it.
        results: The folder of the products.
        made: When the plan was made, as seconds since the epoch.
    """

    jobs: list[Job]
    rules: list[str]
    folder: Path
    results: str
    made: float


def plan(arguments: Sequence[str]) -> Plan:
    """Ask Snakemake what it would run now, without running, locking or changing anything.

    Args:
        arguments: Those of the command ``snakemake``.

    Raises:
        HepgenError: if Snakemake refuses.
    """
    made = time.time()
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
            targets=args.targets, batch=args.batch, until=args.until, omit_from=args.omit_from,
            allowed_rules=args.allowed_rules, forcerun=args.forcerun, forcetargets=args.force, forceall=args.forceall,
            force_incomplete=args.rerun_incomplete, rerun_triggers=args.rerun_triggers,
            max_checksum_file_size=args.max_checksum_file_size,
        )  # fmt: skip
        with SnakemakeApi(types.OutputSettings(dryrun=True, log_level_override=logging.CRITICAL)) as api:
            workflow = api.workflow(
                resource_settings=types.ResourceSettings(
                    cores=1, nodes=1, overwrite_resources=args.set_resources, default_resources=args.default_resources
                ),
                config_settings=types.ConfigSettings(config=parse_config(args.config), configfiles=args.configfile),
                # Which files a job reads depends on it, and by which image it was made is a reason to run it.
                storage_settings=types.StorageSettings(shared_fs_usage=args.shared_fs_usage),
                deployment_settings=types.DeploymentSettings(deployment_method=args.software_deployment_method),
                workflow_settings=types.WorkflowSettings(consider_ancient=args.consider_ancient),
                snakefile=args.snakefile,
                workdir=args.directory,
            )
            workflow.dag(dag).execute_workflow(executor=args.executor or "local", pseudo_executor="dryrun")
            # There is no other way to the jobs that are done already.
            found = workflow._workflow
            rules = [rule.name for rule in found.rules]
            return Plan(list(_jobs(found)), rules, Path.cwd(), found.globals["OUT"], made)
    except (ApiError, CliException, OSError, RuleException, WorkflowError) as error:
        raise HepgenError(" ".join(str(error).split())) from error


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
        yield from workflow.globals["HEAD"].stale.get(job.output.get("record"), ["asked for"])
    if reason.missing_output:
        yield f"{few(sorted(reason.missing_output))} missing"
    if updated := reason.updated_input - reason.updated_input_run:
        yield f"{few(sorted(updated))} changed"
    if reason.input_changed:
        before, now = set(workflow.persistence.input(job.output[0]) or ()), set(job.input)
        for files, word in ((now - before, "now"), (before - now, "no more")):
            if files:
                yield f"reads {few(sorted(files))} {word}"
    if params:
        try:
            found = changes(read_json(job.output.record, Record), workflow.globals["CONFIG"])
        except HepgenError:
            found = ["settings or code changed, and its record is of another version"]
        values = (short(", ".join(sorted(values))) for values in (params.only_old, params.only_new))
        yield from found or [" → ".join(values)]
    if reason.code_changed:
        yield "the rule's command changed"
    if reason.software_stack_changed:
        yield "it was made in another image or environment"
