"""The head of a run: what it judges that Snakemake knows nothing of, and what becomes of Slurm's jobs."""

import asyncio
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from snakemake.scheduling.job_scheduler import JobScheduler

from hepgen import head, runs
from hepgen.status import plan

ROOT = Path(__file__).parents[1]
CONFIG = """
samples:
  mine: {source: arrays, path: table.csv, columns: {mjj: a, tau21_heavy: b}, label: 0}
"""
RUN = ["samples", "--snakefile", str(ROOT / "Snakefile"), "--configfile", "config.yaml"]
# As the real one, it is not replaced by what it runs.
APPTAINER = """#!/bin/sh
[ "$1" = --version ] && echo apptainer version 1.3.0 && exit
while [ "$1" != -c ]; do shift; done
bash -c "$2"
exit $?
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run of one job, in a container, without what Snakemake knows of it."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.yaml").write_text(CONFIG)
    (folder / "table.csv").write_text("a,b\n1,0.1\n2,0.2\n")
    (folder / "containers").mkdir()
    (folder / "containers/hepgen.sif").touch()
    (folder / "bin").mkdir()
    (folder / "bin/apptainer").write_text(APPTAINER)
    (folder / "bin/apptainer").chmod(0o755)
    command = ["-m", "snakemake", *RUN, "--cores", "1", "--software-deployment-method", "apptainer"]
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "results/.lock").read_text() == ""
    shutil.rmtree(folder / ".snakemake")
    return folder


@pytest.fixture
def copied(finished, tmp_path, monkeypatch):
    """Results that were copied without what Snakemake knows of them."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def needed():
    """The jobs that a run would do now, and why."""
    return {job.name: list(job.why) for job in plan(RUN).jobs if job.needed}


def kept(folder):
    return {path.name: path.read_bytes() for path in folder.glob("results/**/*.*") if path.is_file()}


def test_only_what_its_record_does_not_speak_of_is_made_again(copied):
    before = kept(copied)
    assert needed() == {}
    (copied / "config.yaml").write_text(CONFIG.replace("label: 0", "label: 1"))
    assert needed() == {"table/mine/0": ["sample.label: 0 → 1"]}
    assert kept(copied) == before


def test_products_of_other_contents_are_made_again(copied):
    table = copied / "table.csv"
    time = table.stat().st_mtime
    table.write_text(table.read_text().replace("0.2", "0.3"))
    os.utime(table, (time, time))
    assert needed() == {"table/mine/0": ["table.csv changed"]}


def test_chunk_of_other_rows_is_made_again(copied):
    (copied / "config.yaml").write_text(CONFIG.replace("label: 0", "label: 0, chunks: 2"))
    assert needed()["table/mine/0"] == ["cut into other chunks"]


def test_damaged_product_is_made_again(copied):
    product = copied / "results/observables/mine/0.h5"
    with product.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    assert needed() == {"table/mine/0": ["results/observables/mine/0.h5 changed"]}


def test_product_without_a_readable_record_is_left_to_snakemake(copied):
    (copied / "results/provenance/table/mine/0.json").write_text("{}")
    (copied / "config.yaml").write_text(CONFIG.replace("label: 0", "label: 1"))
    assert needed() == {}


@pytest.mark.parametrize("running", [set(), {"job"}])
def test_run_that_was_stopped_with_jobs_at_work_is_not_over(tmp_path, running):
    job = SimpleNamespace(output=[str(tmp_path / "product.h5")])
    parts = {"scheduler": SimpleNamespace(running=running), "dag": SimpleNamespace(jobs=[job])}
    leader = head.Head(SimpleNamespace(is_main_process=False, **parts), SimpleNamespace(output=str(tmp_path)))
    left = tmp_path / ".product.h5.node1-42.partial"
    left.touch()
    leader._lock = runs.begin(tmp_path)
    runs.note(leader._lock, "4711")
    leader.end()
    assert ("4711" in (tmp_path / ".lock").read_text()) == left.exists() == bool(running)
    os.close(leader._lock)


def test_sigterm_is_heeded_by_a_thread_that_holds_snakemakes_lock(tmp_path):
    scheduler = SimpleNamespace(_executor=None, _lock=threading.Lock(), _open_jobs=threading.Semaphore(0))
    parts = {"scheduler": scheduler, "dag": SimpleNamespace(needrun_jobs=list)}
    workflow = SimpleNamespace(is_main_process=False, storage_settings=SimpleNamespace(shared_fs_usage=True), **parts)
    leader = head.Head(workflow, SimpleNamespace(output=str(tmp_path)))
    leader._lock = runs.begin(tmp_path)
    leader.start()
    with scheduler._lock:
        assert scheduler._lock.acquire(blocking=False)
        JobScheduler.exit_gracefully(scheduler)
    assert scheduler._user_kill == "graceful"
    os.close(leader._lock)


class Executor:
    """Slurm's executor, as far as it is used: it waits for all jobs, and cannot submit any."""

    run_uuid = "4711"

    def __init__(self):
        self.reports = []

    def run_job(self, job):
        raise OSError(28, "No space left on device")

    async def check_active_jobs(self, jobs):
        for job in jobs:
            yield job

    def report_job_success(self, job):
        self.reports.append((job.external_jobid, "done"))

    def report_job_error(self, job, msg):
        self.reports.append((job.external_jobid, msg))


def test_job_that_cannot_be_submitted_fails():
    executor = Executor()
    head.fail_where_not_submitted(executor)
    executor.run_job(None)
    assert executor.reports == [(None, "not submitted: [Errno 28] No space left on device. ")]


def test_job_that_slurm_has_forgotten_is_judged_by_its_record(monkeypatch):
    monkeypatch.setattr(runs, "slurm_jobs", lambda *_: ["1"])
    monkeypatch.setattr(head, "left_records", lambda job: job.external_jobid == "2")
    executor, jobs = Executor(), [SimpleNamespace(external_jobid=number) for number in "123"]
    head.end_where_forgotten(executor)

    async def waiting():
        return [job async for job in executor.check_active_jobs(jobs)]

    assert asyncio.run(waiting()) == jobs
    assert asyncio.run(waiting()) == jobs[:1]
    assert executor.reports == [("2", "done"), ("3", "Slurm knows it no more, and it left no record. ")]


def test_job_is_done_if_it_is_the_one_that_left_the_record(finished):
    record = SimpleNamespace(output=SimpleNamespace(record=finished / "results/provenance/table/mine/0.json"))
    job = SimpleNamespace(is_group=lambda: True, jobs=[record])
    submitted = SimpleNamespace(job=job, external_jobid="12")
    assert not head.left_records(submitted)
    submitted.external_jobid = ""
    assert head.left_records(submitted)
