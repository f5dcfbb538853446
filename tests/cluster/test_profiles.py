"""The profiles are what Snakemake and its plug-ins understand; jobs run by way of pretended HTCondor, LSF and PBS."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from snakemake.cli import parse_args

from ..project import ROOT, copy_code, environment

HERE = Path(__file__).parent
PROFILES = sorted(path.name for path in (ROOT / "profiles").iterdir())
TABLES = {
    "samples": {"jets": {"source": "arrays", "path": "data/*.csv", "columns": {"x": "x", "y": "y", "label": "label"}}},
    "tagging": {
        "samples": ["jets"],
        "mass": "x",
        "models": {"pca": {"type": "pca", "inputs": ["x", "y"], "settings": {"components": 1}}},
    },
}
TABLE = "results/observables/jets/0.h5"


@pytest.fixture
def tables(tmp_path):
    """A project of two small tables in which nothing was run."""
    root = tmp_path / "project"
    copy_code(root)
    (root / "config.yaml").write_text(yaml.safe_dump(TABLES))
    (root / "data").mkdir()
    for number in (1, 2):
        rows = [f"{row % 7},{row % 5 + number},{row % 3 // 2}" for row in range(60)]
        (root / f"data/{number}.csv").write_text("\n".join(["x,y,label", *rows]))
    return root


@pytest.fixture
def batch(tmp_path, monkeypatch):
    """The commands of LSF and PBS, which run jobs here; returns the folder of what they know of jobs."""
    commands, jobs = tmp_path / "commands", tmp_path / "jobs"
    commands.mkdir()
    jobs.mkdir()
    for name in ("bsub", "bjobs", "qsub", "qstat"):
        (commands / name).symlink_to(HERE / "batch.py")
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("BATCH_JOBS", str(jobs))
    return jobs


def snakemake(root, *arguments, program=("-m", "snakemake"), check=True):
    """Run Snakemake in a project, asking jobs for their state each second."""
    often = ("--seconds-between-status-checks", "1")
    result = subprocess.run(
        [sys.executable, *program, *arguments, *often, "--configfile", "config.yaml"], cwd=root, timeout=300,
        env=environment(root), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


def condor(root, pool, *arguments, **options):
    """Run Snakemake with the profile for HTCondor, whose jobs run in the folder of the pool."""
    pool.mkdir()
    program = (HERE / "condor.py", pool)
    return snakemake(root, *arguments, "--workflow-profile", "profiles/htcondor", program=program, **options)


@pytest.mark.parametrize("name", PROFILES)
def test_every_key_is_an_option(name, monkeypatch):
    """A key that neither Snakemake nor the plug-in knows ends Snakemake; all profiles share the default's settings."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["snakemake", "--workflow-profile", f"profiles/{name}"])
    options = vars(parse_args(None)[1])
    content = yaml.safe_load(Path("profiles", name, "config.yaml").read_text())
    assert content.keys() <= {key.replace("_", "-") for key in options}
    default = yaml.safe_load(Path("profiles/default/config.yaml").read_text())
    assert all(content[key] == value for key, value in default.items() if key != "cores")


def test_a_job_of_htcondor_has_just_what_was_transferred(tables, tmp_path):
    """Its log, benchmark and record come back, and it asks for what the profile says."""
    condor(tables, tmp_path / "pool", TABLE)
    scratch = tmp_path / "pool/dir_1"
    assert not (scratch / "hepgen").exists()
    assert (scratch / "data/2.csv").exists()
    for kind, suffix in (("logs", "log"), ("benchmarks", "tsv"), ("provenance", "json")):
        assert (tables / f"results/{kind}/table/jets/0.{suffix}").exists()
    record = json.loads((tables / "results/provenance/table/jets/0.json").read_text())
    assert record["folder"] == str(scratch)
    assert record["batch_id"] == "1"
    job = (tmp_path / "pool/1.sub").read_text()
    assert 'MY.JobFlavour = "longlunch"\n' in job
    assert "request_memory = 4000MB\n" in job
    assert str(tables) not in re.search(r"arguments = .*", job)[0]


@pytest.mark.slow
def test_a_job_of_htcondor_that_fails_is_tried_with_more(tables, tmp_path):
    """It is not held for the products that it owes, and its log comes back."""
    (tables / "config.yaml").write_text(yaml.safe_dump(TABLES).replace("components: 1", "components: 2"))
    model = "results/tagging/models/pca/1.safetensors"
    result = condor(tables, tmp_path / "pool", model, "--retries", "1", check=False)
    assert result.returncode == 1
    assert "components is 2" in (tables / "results/logs/tagging_train/pca/1.log").read_text()
    assert not (tables / model).exists()
    assert "held" not in (tables / ".snakemake/htcondor/snakemake-rules.log").read_text()
    jobs = [(tmp_path / f"pool/{number}.sub").read_text() for number in (2, 3)]
    assert [re.search(r"JobFlavour = \"(\w+)", job)[1] for job in jobs] == ["longlunch", "workday"]
    assert [re.search(r"request_memory = (\w+)", job)[1] for job in jobs] == ["4000MB", "8000MB"]
    assert [re.search(r"allowed_execute_duration = (\d+)", job)[1] for job in jobs] == ["7200", "28800"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "asked"), [("lsf", "-M\n2000MB\n-W\n60\n"), ("pbs", "mem=2000mb\n-l\nwalltime=3600")])
def test_a_job_of_other_systems(name, asked, tables, batch):
    """Submitted, waited for and finished."""
    snakemake(tables, TABLE, "--workflow-profile", f"profiles/{name}")
    assert (tables / TABLE).exists()
    assert asked in (batch / "1/arguments").read_text()
    assert (batch / "1/status").read_text() == "0\n"
    assert any((tables / ".snakemake" / name).iterdir())


@pytest.mark.parametrize("name", ["lsf", "pbs"])
def test_states_of_jobs(name, tmp_path, batch, monkeypatch):
    """A job is running, has succeeded or failed; one that is unknown has failed, and silence says nothing.

    SIGTERM to all of a job's processes ends the one that heeds it, as hepgen does, and none that waits for it.
    """
    monkeypatch.chdir(tmp_path)
    folder = ROOT / "profiles" / name

    def submit(script: str) -> str:
        # A file of its own, which the job reads whenever it starts.
        file = tmp_path / f"{len(list(batch.iterdir()))}.sh"
        file.write_text(script)
        command = [folder / "submit.sh", "rule", "1", "2000", "60", "1", file]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def state(number: str) -> str:
        return subprocess.run([folder / "status.sh", number], check=True, capture_output=True, text=True).stdout.strip()

    def wait_for(*paths: Path) -> None:
        end = time.monotonic() + 60
        while not all(path.exists() for path in paths):
            assert time.monotonic() < end, paths
            time.sleep(0.05)

    Path("long.py").write_text(
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: pathlib.Path('checkpoint').touch() or exit(143))\n"
        "pathlib.Path('started').touch()\n"
        "time.sleep(60)\n"
    )
    good, bad, long = submit("true"), submit("exit 3"), submit(f"{sys.executable} long.py || exit 1")
    wait_for(batch / good / "status", batch / bad / "status", tmp_path / "started")
    assert [state(number) for number in (good, bad, long, "99")] == ["success", "failed", "running", "failed"]
    os.killpg(int((batch / long / "pid").read_text()), signal.SIGTERM)
    wait_for(tmp_path / "checkpoint", batch / long / "status")
    assert (batch / long / "status").read_text() == "1\n"
    (batch / "down").touch()
    assert state(good) == "running"
    assert re.search("-gpu\nnum=1|ngpus=1", (batch / good / "arguments").read_text())
