"""What `hepgen status` says; one stage, one model, one seed by the commands of docs/running.md as they stand there."""

import re
import shutil
import subprocess
from collections import Counter

import pytest

from hepgen.status import plan
from hepgen.status.report import FOLLOWS

from ..project import ROOT, environment

PAGE = (ROOT / "docs/running.md").read_text()
COMMANDS = [line.partition("  #")[0] for line in re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)]
PRODUCT = "results/tagging/models/dense_ae/1.safetensors"

# Whatever plug-ins of Snakemake complain about when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def mine(project):
    """The finished project with the configuration of the documentation."""
    shutil.copy(project.root / "config.yaml", project.root / "my.yaml")
    return project


def command(*words):
    """The one command of the documentation that has all these words."""
    (found,) = (line for line in COMMANDS if set(words) <= set(line.split()))
    return found


def run(project, line):
    """Run a command in a shell, in the project's folder and with its code."""
    result = subprocess.run(
        ["bash", "-c", line], cwd=project.root, env=environment(project.root), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_what_each_command_would_run(mine, monkeypatch):
    def planned(*words):
        monkeypatch.chdir(mine.root)
        return {job.name for job in plan(run(mine, f"echo {command(*words)}").split()[1:]).jobs if job.needed}

    trainings = {
        f"tagging_train/{path.parent.name}/{path.stem}" for path in mine.root.glob("results/tagging/models/*/*")
    }
    assert planned("--force", PRODUCT) == {"tagging_train/dense_ae/1"}
    assert planned("--force", PRODUCT.replace("1", "{1,2}")) == {"tagging_train/dense_ae/1", "tagging_train/dense_ae/2"}
    assert planned("--until", "tagging_train") == trainings
    following = {"tagging_score/dense_ae/1", "tagging_evaluate", "tagging_plot", "summary", "account"}
    assert planned("--forcerun", PRODUCT) == {"tagging_train/dense_ae/1", *following}
    assert {"ingest/qcd/0", "account"} <= planned("--config", "output=results/again")


def test_status_tells_what_snakemake_would_run_and_why(mine):
    def change(content):
        content["tagging"]["models"]["dense_ae"]["settings"] = {"latent_dim": 3}

    mine.configure(change)
    shutil.copy(mine.root / "config.yaml", mine.root / "my.yaml")
    module = mine.root / "hepgen/unfolding/ibu.py"
    module.write_text(module.read_text() + "\nEDITED = True\n")
    (mine.root / "results/tagging/scores/cnn_ae/2.h5").unlink()
    said = run(mine, command("status", "--full"))
    planned = {**mine.planned(), "account": 1}
    rows = re.findall(r"^ +(\w+) +(\d+) +(\d+|-) ", said, re.MULTILINE)
    counts = {rule: int(total) - int(done.replace("-", "0")) for rule, total, done in rows}
    assert {rule: count for rule, count in counts.items() if count} == planned
    why = dict(re.findall(r"^stale: (.*)\n +(.*)$", said, re.MULTILINE))
    assert why["tagging_train/dense_ae/1"] == "model.settings.latent_dim: not set → 3"
    assert why["unfolding_unfold/ibu/nominal/1"] == "code of hepgen.unfolding.ibu"
    assert why["tagging_score/cnn_ae/2"] == "results/tagging/scores/cnn_ae/2.h5 missing"
    assert why["summary"] == FOLLOWS
    assert f"would now execute {sum(planned.values())} of" in said


def test_the_plan_is_that_of_a_run_with_the_same_options(empty, monkeypatch):
    """Where no file system is shared a chunk takes all files of its sample; what memory a site gives reruns nothing."""

    def change(content):
        sample = {"source": "arrays", "path": "data/*.csv", "columns": {"mjj": "m"}, "label": 0, "chunks": 2}
        content.clear()
        content["samples"] = {"mine": sample}

    empty.configure(change)
    jobs = ["table/mine/0", "table/mine/1", "overview", "overview_plot", "summary", "account"]
    files = [*(f"results/provenance/{job}.json" for job in jobs), "data/0.csv", "data/1.csv"]
    targets = ["results/observables/mine/0.h5", "results/observables/mine/1.h5", "results/tables/cost.html"]
    for path in (empty.root / file for file in [*files, *targets]):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    empty.snakemake(*targets, "--touch", "--force")
    monkeypatch.chdir(empty.root)
    for given, number in {"--set-resources summary:mem_mb=9": 0, "--workflow-profile profiles/htcondor": 6}.items():
        options = [*targets, *given.split()]
        found = Counter(job.rule for job in plan([*options, "--configfile", "config.yaml"]).jobs if job.needed)
        assert found.total() == number
        del found["account"]
        assert found == empty.planned(*options)


@pytest.mark.slow
def test_one_training_made_again_changes_nothing_else(mine):
    """Whether by Snakemake or by hand, on a CPU."""
    products = {path: path.stat().st_mtime_ns for path in mine.root.glob("results/**/*.h5")}
    before = (mine.root / PRODUCT).read_bytes()
    run(mine, command("--force", PRODUCT))
    run(mine, command("tagging", "train"))
    assert (mine.root / PRODUCT).read_bytes() == before == (mine.root / "my.safetensors").read_bytes()
    assert not mine.planned()
    assert products == {path: path.stat().st_mtime_ns for path in products}


@pytest.mark.slow
def test_products_can_be_taken_as_they_are(mine):
    module = mine.root / "hepgen/models/autoencoders.py"
    module.write_text(module.read_text() + "\nEDITED = True\n")
    assert mine.planned()["tagging_train"] == 8
    before = (mine.root / PRODUCT).read_bytes()
    run(mine, command("--touch"))
    assert not mine.planned()
    assert (mine.root / PRODUCT).read_bytes() == before
