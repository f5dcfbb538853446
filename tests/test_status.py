"""Where a run stands, from made-up plans and the files that jobs leave."""

import os
import time
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
import yaml

from hepgen import plan, runs, status
from hepgen.config import parse
from hepgen.record import Record
from hepgen.status import Job, Run

CONFIG = """
samples:
  mine: {source: arrays, path: table.csv, columns: {mjj: a, tau21_heavy: b}, label: 0}
tagging:
  samples: [mine]
  models:
    pca: {type: pca, inputs: [mjj, tau21_heavy], settings: {components: 1}}
"""


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


def run_of(*jobs):
    return Run(list(jobs), list(dict.fromkeys(job.rule for job in jobs)), Path.cwd(), "results", time.time())


def write(path, text="", *, after=0.0):
    """A file, written some seconds from now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (time.time() + after,) * 2)


def mark(job, letters=200):
    """Snakemake's note that a job was begun, its name cut into folders after so many letters."""
    name = urlsafe_b64encode(job.output.encode()).decode()
    *folders, last = (name[start : start + letters] for start in range(0, len(name), letters))
    write(status.MARKS.joinpath(*(f"@{part}" for part in folders), last))


def took(job, seconds, *, after=-10.0):
    write(job.benchmark, f"s\th:m:s\n{seconds}\t0:00:00\n", after=after)


def test_a_job_is_what_its_files_say():
    jobs = [job("a/done", needed=False), job("a/ended"), job("a/stale"), job("a/failed"), job("a/killed"), job("a/new")]
    jobs += [job("a/deleted")]
    run = run_of(*jobs)
    took(jobs[1], 3, after=5)
    write(jobs[2].record)
    write(jobs[3].log, "working\nerror: no disk\n\n")
    mark(jobs[4])
    took(jobs[6], 3)
    write(jobs[6].log, after=-20)
    assert list(run.states().values()) == ["done", "done", "stale", "failed", "failed", "waiting", "waiting"]
    lines = list(status._explanations(run, run.states(), full=False))
    assert lines[0] == "failed: a/failed\n    error: no disk (results/logs/a/failed.log)"
    assert lines[1] == "failed: a/killed\n    interrupted"
    assert lines[-1] == "A run would now execute 5 of 7 jobs."


@pytest.mark.usefixtures("at_work")
@pytest.mark.parametrize(("log", "state"), [(-5, "waiting"), (5, "running")])
def test_a_job_in_a_queue_has_not_begun(log, state):
    """Whatever an earlier attempt said."""
    run = run_of(job("train/x/1"))
    write(run.jobs[0].log, after=log)
    mark(run.jobs[0])
    assert run.states() == {"train/x/1": state}


def test_a_mark_with_a_long_name_is_read():
    begun = job("train/a_very_long_name/1")
    mark(begun, letters=9)
    assert list(status._begun()) == [begun.output]


@pytest.mark.usefixtures("at_work")
def test_the_time_left_is_between_the_longest_chain_and_one_after_another():
    """Two chains of 10 + 5 s, two jobs at work."""
    ended = [job("train/x/1", needed=False), job("score/x/1", needed=False)]
    waiting = [job(f"train/x/{seed}") for seed in (2, 3)]
    waiting += [job(f"score/x/{seed}", after=(f"train/x/{seed}",)) for seed in (2, 3)]
    run = run_of(*ended, *waiting)
    took(ended[0], 10)
    took(ended[1], 5)
    states = dict.fromkeys(run.states(), "waiting") | {ended[0].name: "done", ended[1].name: "done"}
    states |= {"train/x/2": "running", "train/x/3": "running"}
    low, high, unknown = run.time_left(states)
    assert (low, high, unknown) == (15, 30, [])
    assert "0:00:15 to 0:00:30 left" in status._rest(run, states)


@pytest.mark.usefixtures("at_work")
def test_what_never_ran_is_not_guessed():
    ended, new = job("train/x/1", needed=False), job("plot")
    took(ended, 10)
    run = run_of(ended, job("train/y/1"), new)
    low, _, unknown = run.time_left(run.states())
    assert low == 10
    assert unknown == ["plot"]
    assert "at least 0:00:10 left: no job of plot has ended yet" in status._rest(run, run.states())


def test_equal_reasons_are_one_line_and_full_names_all():
    jobs = [job(f"train/x/{seed}", why=("inputs.0: a → b",)) for seed in range(5)] + [job("plot")]
    jobs += [job(f"other{number}", why=(f"reason {number}",)) for number in range(30)]
    run = run_of(*jobs)
    for each in jobs:
        write(each.record)
    lines = list(status._explanations(run, run.states(), full=False))
    assert lines[0] == "stale: train/x/0, train/x/1, train/x/2 and 2 more\n    inputs.0: a → b"
    assert lines[1] == "stale: plot\n    follows from jobs before it"
    assert len(lines) == status.SHOWN + 2
    assert lines[-2] == "and 12 other reasons: see --full"
    assert len(list(status._explanations(run, run.states(), full=True))) == 36 + 1


def test_a_change_is_named_by_its_setting_and_module():
    def config(settings):
        content = yaml.safe_load(CONFIG)
        content["tagging"]["models"]["pca"]["settings"] = settings
        return parse(content)

    before, stage = config({"components": 1}), ("tagging_train", "pca")
    code = plan.modules(before, *stage)
    record = Record.model_construct(stage=stage[0], name=stage[1], card=plan.card(before, *stage), modules=code)
    assert status.changes(record, before) == []
    assert status.changes(record, config({"components": 2})) == ["model.settings.components: 1 → 2"]
    record.modules = code | {"hepgen.models.linear": "another"}
    assert status.changes(record, config({})) == [
        "model.settings.components: 1 → not set",
        "code of hepgen.models.linear",
    ]
