"""Where a run stands, from made-up plans and the files that jobs leave."""

import os
import time
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from hepgen import runs
from hepgen.status import Job, Plan, report
from hepgen.status.states import MARKS, Status


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def at_work():
    """A run that is at work in the folder of results."""
    lock = runs.begin("results")
    yield
    os.close(lock)


def job(name, *, needed=True, why=(), after=()):
    forms = {"logs": "log", "benchmarks": "tsv", "provenance": "json"}
    places = (Path("results", kind, f"{name}.{form}") for kind, form in forms.items())
    return Job(name, f"results/{name}.h5", *places, needed, why, after)


def plan_of(*jobs):
    return Plan(list(jobs), list(dict.fromkeys(job.rule for job in jobs)), Path.cwd(), "results", time.time())


def write(path, text="", *, after=0.0):
    """A file, written some seconds from now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() + after,) * 2)


def mark(job, letters=200):
    """Snakemake's note that a job was begun, its name cut into folders after so many letters."""
    name = urlsafe_b64encode(job.output.encode()).decode()
    *folders, last = (name[start : start + letters] for start in range(0, len(name), letters))
    write(MARKS.joinpath(*(f"@{part}" for part in folders), last))


def took(job, seconds, *, after=-10.0):
    write(job.benchmark, f"s\th:m:s\n{seconds}\t0:00:00\n", after=after)


def test_a_job_is_what_its_files_say():
    jobs = [job("a/done", needed=False), job("a/ended"), job("a/stale"), job("a/failed"), job("a/killed"), job("a/new")]
    jobs += [job("a/deleted")]
    plan = plan_of(*jobs)
    took(jobs[1], 3, after=5)
    write(jobs[2].record)
    write(jobs[3].log, "working\nerror: no disk\n\n")
    mark(jobs[4])
    took(jobs[6], 3)
    write(jobs[6].log, after=-20)
    status = Status(plan)
    assert list(status.states.values()) == ["done", "done", "stale", "failed", "failed", "waiting", "waiting"]
    lines = list(report._explanations(status, full=False))
    assert lines[0] == "failed: a/failed\n    error: no disk (results/logs/a/failed.log)"
    assert lines[1] == "failed: a/killed\n    interrupted"
    assert lines[-1] == "A run would now execute 5 of 7 jobs."


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize(("log", "state"), [(-5, "waiting"), (5, "running")])
def test_a_job_in_a_queue_has_not_begun(log, state):
    """Whatever an earlier attempt said."""
    begun = job("train/x/1")
    write(begun.log, after=log)
    mark(begun)
    assert Status(plan_of(begun)).states == {"train/x/1": state}


def test_a_mark_with_a_long_name_is_read():
    begun = job("train/a_very_long_name/1")
    mark(begun, letters=9)
    assert list(Status(plan_of(begun)).begun) == [begun.output]


@pytest.mark.usefixtures("at_work")
def test_the_time_left_is_between_the_longest_chain_and_one_after_another():
    """Two chains of 10 + 5 s, two jobs at work."""
    ended = [job("train/x/1", needed=False), job("score/x/1", needed=False)]
    waiting = [job(f"train/x/{seed}") for seed in (2, 3)]
    waiting += [job(f"score/x/{seed}", after=(f"train/x/{seed}",)) for seed in (2, 3)]
    took(ended[0], 10)
    took(ended[1], 5)
    status = Status(plan_of(*ended, *waiting))
    status.states |= {"train/x/2": "running", "train/x/3": "running"}
    low, high, unknown = status.time_left()
    assert (low, high, unknown) == (15, 30, [])
    assert "0:00:15 to 0:00:30 left" in report._rest(status)


@pytest.mark.usefixtures("at_work")
def test_what_never_ran_is_not_guessed():
    ended, new = job("train/x/1", needed=False), job("plot")
    took(ended, 10)
    status = Status(plan_of(ended, job("train/y/1"), new))
    low, _, unknown = status.time_left()
    assert low == 10
    assert unknown == ["plot"]
    assert "at least 0:00:10 left: no job of plot has ended yet" in report._rest(status)


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize("content", ["", "s\th:m:s\n"])
def test_a_benchmark_that_is_being_written_is_left_out_until_it_is_there(content):
    ended, new = [job(f"train/x/{seed}", needed=False) for seed in (1, 2)], job("train/x/3")
    took(ended[0], 10)
    write(ended[1].benchmark, content)
    status = Status(plan_of(*ended, new))
    assert status.time_left() == (10, 20, [])
    took(ended[1], 20)
    status.look()
    assert status.time_left() == (15, 30, [])


def test_equal_reasons_are_one_line_and_full_names_all():
    jobs = [job(f"train/x/{seed}", why=("inputs.0: a → b",)) for seed in range(5)] + [job("plot")]
    jobs += [job(f"other{number}", why=(f"reason {number}",)) for number in range(30)]
    for each in jobs:
        write(each.record)
    status = Status(plan_of(*jobs))
    lines = list(report._explanations(status, full=False))
    assert lines[0] == "stale: train/x/0, train/x/1, train/x/2 and 2 more\n    inputs.0: a → b"
    assert lines[1] == "stale: plot\n    follows from jobs before it"
    assert len(lines) == report.SHOWN + 2
    assert lines[-2] == "and 12 other reasons: see --full"
    assert len(list(report._explanations(status, full=True))) == 36 + 1
