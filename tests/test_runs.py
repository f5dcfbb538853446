"""One run at a time, no job without its run, and nothing left of jobs that were killed."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hepgen import runs
from hepgen.errors import HepgenError

BEGIN = """
import sys, time
from hepgen import runs
runs.note(runs.begin(sys.argv[1]), sys.argv[2])
print("begun", flush=True)
time.sleep(100)
"""
# Starts a job as Snakemake does, and says when it is at work.
PARENT = """
import os, subprocess, sys
job = "import sys, time; from hepgen.runs import end_with; end_with(int(sys.argv[1])); print('works', flush=True); "
subprocess.run([sys.executable, "-c", job + "time.sleep(100)", sys.argv[1] or str(os.getpid())])
"""


def start(*command):
    return subprocess.Popen([sys.executable, "-c", *command], stdout=subprocess.PIPE, text=True)


@pytest.fixture
def killed(tmp_path):
    """A folder whose run was killed, with jobs under Slurm."""
    with start(BEGIN, tmp_path, "4711") as run:
        run.stdout.readline()
        with pytest.raises(HepgenError, match=rf"another run is at work here \(process {run.pid} on .*\); wait"):
            runs.begin(tmp_path)
        run.kill()
    return tmp_path


@pytest.fixture
def slurm(tmp_path_factory, monkeypatch):
    """A Slurm whose jobs end when they are asked for a second time; yields what it was told."""
    folder = tmp_path_factory.mktemp("slurm")
    log = folder / "log"
    for name in ("scancel", "squeue"):
        command = folder / name
        command.write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\n[ $(grep -c squeue {log}) != 1 ] || echo 12\n')
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(runs.time, "sleep", lambda _: None)
    return log


def test_jobs_of_a_killed_run_end_before_the_next_begins(killed, slurm, capsys):
    lock = runs.begin(killed)
    runs.note(lock, "4712")
    asked = "squeue --noheader --format=%i --name 4711"
    assert slurm.read_text().splitlines() == ["scancel --name 4711", asked, asked]
    assert "waiting for the end of jobs of the run before: 12" in capsys.readouterr().err
    assert json.loads((killed / ".lock").read_text())["slurm_name"] == "4712"
    os.close(lock)


def test_run_is_refused_where_jobs_of_a_killed_one_cannot_be_cancelled(killed, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(HepgenError, match=r"`scancel --name 4711` there, then delete .*\.lock"):
        runs.begin(killed)


def test_run_that_ended_leaves_nothing_to_cancel(tmp_path, monkeypatch):
    lock = runs.begin(tmp_path)
    runs.note(lock, "4711")
    runs.end(lock)
    os.close(lock)
    monkeypatch.setenv("PATH", "")
    os.close(runs.begin(tmp_path))


def test_only_a_run_that_lives_is_at_work(killed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    assert runs.at_work(killed) is runs.at_work(folder) is None
    lock = runs.begin(folder)
    assert runs.at_work(folder).pid == os.getpid()
    os.close(lock)
    assert runs.at_work(folder) is None


def test_run_that_merely_looks_does_not_stop_one_that_starts(tmp_path, monkeypatch):
    os.close(runs.begin(tmp_path))
    looking = os.open(tmp_path / ".lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(runs.time, "sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
    os.close(runs.begin(tmp_path))
    os.close(looking)


def test_lock_of_somebody_else_is_one_line(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(HepgenError, match=r"cannot read .*\.lock: Is a directory"):
        runs.at_work(tmp_path)


def test_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "other")
    with pytest.raises(HepgenError, match="cannot write"):
        runs.begin(tmp_path)
    assert not (tmp_path / "other").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's death")
def test_job_dies_with_the_process_that_started_it():
    with start(PARENT, "") as parent:
        assert parent.stdout.readline() == "works\n"
        parent.send_signal(signal.SIGKILL)
        began = time.monotonic()
        # The job holds the other end.
        assert parent.stdout.read() == ""
    assert time.monotonic() - began < 20


def test_job_whose_parent_is_dead_already_does_nothing():
    with start(PARENT, "1234567") as parent:
        assert parent.stdout.read() == ""


def test_partials_of_killed_jobs_are_removed(tmp_path):
    left = [".a.h5.node-1.partial", ".a.h5.checkpoint.node-1.partial"]
    kept = [".b.h5.node-1.partial", "a.h5", "a.h5.checkpoint"]
    for name in left + kept:
        (tmp_path / name).touch()
    runs.remove_partials([tmp_path / "a.h5", tmp_path / "none/c.h5"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
