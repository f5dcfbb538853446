"""The profile for Slurm, on a real one of two nodes."""

import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from ..products import differences, products
from ..project import environment
from .slurm import Slurm, Unavailable

PROFILE = ["--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "5"]


@pytest.fixture
def project(empty, slurm, monkeypatch):
    """A project in which nothing was run, whose snakemake finds Slurm."""
    use(slurm, monkeypatch)
    return empty


def use(slurm, monkeypatch):
    """Make snakemake find this Slurm."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)


def listed(slurm, project, *fields):
    """The jobs of a project that Slurm knows, finished ones too: lists of rule and fields, in squeue's letters."""
    lines = slurm.run("squeue", "--noheader", "--states=all", "--sort=i", "--format", "|".join(["%Z", "%k", *fields]))
    rows = [line.split("|") for line in lines.splitlines()]
    return [row[1:] for row in rows if row[0] == str(project.root)]


def until(condition):
    """Wait, for five minutes at most."""
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("nothing happens")


def test_jobs_are_grouped_run_on_both_nodes_and_get_more_memory(project, slurm, finished):
    project.configure(lambda c: [c.pop(name) for name in ("tagging", "search", "generation", "unfolding")])
    project.configure(lambda c: c.update(samples={"qcd": c["samples"]["qcd"]}))
    events = [f"results/integration/events/{method}/1.h5" for method in ("vegas", "flow")]
    # Two snakemakes, which take 100 MB each, and a training never fit into the memory of the first attempt.
    little = "integration_sample:mem_mb=250 * attempt ** 2"
    project.snakemake("samples", *events, *PROFILE, "--set-resources", little)
    jobs = listed(slurm, project, "%T", "%N", "%C", "%m", "%l")
    (chunks,) = (job for job in jobs if job[0] == "rule_chunks_ingest_observe")
    assert chunks[3:] == ["2", "4000M", "2:00:00"]
    for method in ("vegas", "flow"):
        tries = [job[3:] for job in jobs if job[0] == f"rule_integration_sample_wildcards_{method}_1"]
        assert tries[0] == ["1", "250M", "2:00:00"]
        assert tries[-1] == ["1", "1000M", "4:00:00"]
    assert {job[2] for job in jobs} == {"node1", "node2"}
    tables = {name: value for name, value in products(project.root / "results").items() if name.endswith(".h5")}
    assert len(tables) == 6
    assert tables.items() <= products(finished.root / "results").items()


@pytest.fixture(params=["linuxproc", "cgroup"])
def cluster(request, tmp_path):
    """A Slurm that tells a job's processes from others in this way."""
    if request.param == "cgroup" and not os.access("/sys/fs/cgroup/freezer", os.W_OK):
        pytest.skip("no Slurm with cgroups: /sys/fs/cgroup/freezer is not there, or not to be written to")
    try:
        with Slurm(tmp_path / "slurm", tracking=request.param) as slurm:
            yield slurm
    except Unavailable as reason:
        pytest.skip(f"no Slurm: {reason}")


@pytest.mark.slow
def test_a_cancelled_training_goes_on_and_an_interrupted_run_cancels_its_jobs(empty, cluster, monkeypatch):
    use(cluster, monkeypatch)
    (empty.root / "table.csv").write_text("".join(["mjj,x,y\n", *(f"{i},{i % 7},{i % 11}\n" for i in range(1000))]))
    columns = {"mjj": "mjj", "mass_light": "x", "mass_heavy": "y"}
    samples = {
        name: {"source": "arrays", "path": "table.csv", "columns": columns, "label": name == "b"} for name in "ab"
    }
    model = {"type": "dense_autoencoder", "inputs": ["mass_light", "mass_heavy"], "training": {"epochs": 1_000_000}}
    tagging = {"samples": ["a", "b"], "seeds": [1], "models": {"dense": model}}
    config = {"output": "results", "samples": samples, "tagging": tagging}
    (empty.root / "config.yaml").write_text(yaml.safe_dump(config))
    product = empty.root / "results/tagging/models/dense/1.safetensors"
    log = empty.root / "results/logs/tagging_train/dense/1.log"
    command = [sys.executable, "-m", "snakemake", *PROFILE, "--configfile", "config.yaml"]
    command += ["--", product.relative_to(empty.root)]
    head = subprocess.Popen(command, cwd=empty.root, env=environment(empty.root))
    try:
        until(lambda: log.exists() and "epoch 2/" in log.read_text())
        (job,) = cluster.run("squeue", "-ho", "%i", "--states=running").split()
        cluster.run("scancel", job)
        until(product.with_name("1.safetensors.checkpoint").exists)
        assert "stopped" in log.read_text()
        until(lambda: "stopped" not in log.read_text() and "epoch" in log.read_text())
        assert "epoch 1/" not in log.read_text()
    finally:
        head.send_signal(signal.SIGINT)
        head.wait(120)
    until(lambda: not cluster.run("squeue", "-h"))
    assert {job[1] for job in listed(cluster, empty, "%T")} == {"COMPLETED", "CANCELLED"}


@pytest.mark.slow
def test_all_stages_run_and_give_the_same_products_as_without_slurm(project, finished):
    project.snakemake(*PROFILE)
    assert not differences(*(products(each.root / "results") for each in (project, finished)))
    assert not project.planned()
