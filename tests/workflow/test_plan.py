"""What reruns, and what does not, as Snakemake plans it."""

import os
import subprocess
import sys

import pytest
import yaml

from hepgen.table import read_tables


def test_a_finished_run_has_nothing_left_to_do(project):
    assert not project.planned()


def test_touching_files_reruns_nothing(project):
    for pattern in ("config.yaml", "hepgen/**/*.py", "results/**/*.h5"):
        for path in project.root.glob(pattern):
            os.utime(path)
    assert not project.planned()


def test_a_comment_reruns_nothing(project):
    module = project.root / "hepgen/models/autoencoders.py"
    module.write_text(f"# A remark.\n{module.read_text()}")
    assert not project.planned()


def test_a_models_setting_retrains_that_model_and_its_scans_alone(project):
    project.configure(lambda c: c["tagging"]["models"]["dense_ae"].update(settings={"latent_dim": 3}))
    planned = project.planned()
    assert planned == {"tagging_train": 6, "tagging_score": 6, "tagging_evaluate": 1, "tagging_plot": 1, "summary": 1}
    assert project.planned_models("tagging_train") == {"dense_ae", "dense_ae__size_50", "dense_ae__size_100"}


def test_a_replaced_input_file_is_read_again(project):
    entry = {"source": "arrays", "path": "table.csv", "columns": {"mjj": "m"}, "label": 0}
    project.configure(lambda c: c["samples"].update(mine=entry))
    (project.root / "table.csv").write_text("m\n1\n2\n")
    project.snakemake("samples")
    assert not project.planned("samples")
    (project.root / "table.csv").write_text("m\n3\n4\n")
    assert project.planned("samples") == {"table": 1}


def test_names_of_files_may_be_odd_and_the_frozen_configuration_plans_the_same(empty):
    """Blanks, brackets, quotes, shell characters; a chunk is not remade because the pattern was written out."""
    for name in ("we $(ird);.csv", "we 'quoted' [1].csv"):
        (empty.root / name).write_text("m\n1\n2\n3\n")
    entry = {"source": "arrays", "path": "we*.csv", "columns": {"mjj": "m"}, "label": 0, "chunks": 2}
    (empty.root / "config.yaml").write_text(yaml.safe_dump({"output": "out put", "samples": {"mine": entry}}))
    empty.snakemake("samples")
    tables = sorted(empty.root.glob("out put/observables/mine/*.h5"))
    assert read_tables(tables).columns["mjj"].tolist() == [1, 2, 3, 1, 2, 3]
    (empty.root / "config.yaml").write_text((empty.root / "out put/config.yaml").read_text())
    assert not empty.planned("samples")


def test_a_missing_input_file_is_noticed_before_anything_runs(project):
    entry = {"source": "lhco", "path": "absent.h5", "jets": "dijet"}
    project.configure(lambda c: c["samples"].update(mine=entry))
    result = project.snakemake("samples", "--dry-run", check=False)
    assert result.returncode == 1
    assert "absent.h5" in result.stdout + result.stderr


def test_a_further_seed_trains_only_that_seed(project):
    project.configure(lambda c: c["tagging"].update(seeds=[1, 2, 3]))
    assert project.planned()["tagging_train"] == 5
    assert project.planned()["ingest"] == 0


def test_a_cut_is_evaluated_without_training(project):
    project.configure(lambda c: c["tagging"]["cuts"].update(mass_cut={"observable": "mass_heavy", "signal": "high"}))
    assert project.planned() == {"tagging_evaluate": 1, "tagging_plot": 1, "summary": 1}


@pytest.mark.parametrize(
    ("module", "rules"),
    [
        ("models/autoencoders.py", {"tagging_train", "tagging_score"}),
        ("models/trees.py", {"tagging_train", "tagging_score", "tagging_evaluate", "tagging_plot", "generation_train"}),
        ("models/flows.py", {"generation_train", "generation_sample", "generation_evaluate", "integration_sample"}),
        ("unfolding/ibu.py", {"unfolding_unfold", "unfolding_evaluate"}),
        ("simulation/detector.py", {"ingest", "observe"}),
        ("plots/draw.py", {"tagging_plot", "generation_plot", "unfolding_plot", "integration_plot"}),
        ("summary.py", {"summary"}),
    ],
)
def test_an_edited_module_reruns_what_uses_it(project, module, rules):
    path = project.root / "hepgen" / module
    path.write_text(path.read_text() + "\nEDITED = True\n")
    planned = project.planned().keys()
    assert rules <= planned
    if module != "simulation/detector.py":
        assert not {"ingest", "observe", "tagging_train", "generation_train", "unfolding_unfold"} - rules & planned


def test_each_analysis_is_a_target(project):
    planned = project.planned("tagging", "--forceall").keys()
    assert planned == {"ingest", "observe", "tagging_train", "tagging_score", "tagging_evaluate", "tagging_plot"}


def test_a_wrong_configuration_is_one_line(project):
    project.configure(lambda c: c["tagging"]["models"]["cnn_ae"].update(type="cnn"))
    result = project.snakemake("--dry-run", check=False)
    assert result.returncode == 1
    assert "error: configuration: tagging.models.cnn_ae: unknown tagger 'cnn'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_failing_stage_says_why_and_leaves_finished_products(project):
    damaged = project.root / "results/observables/qcd/0.h5"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    score = project.root / "results/tagging/scores/dense_ae/1.h5"
    result = subprocess.run(
        [sys.executable, "-m", "hepgen.cli", "tagging", "train", "results/config.yaml", "dense_ae", "1",
         str(damaged), "--output", "new.safetensors"],
        cwd=project.root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "qcd/0.h5" in result.stderr
    assert score.exists()
    assert not list(project.root.glob("*new*"))


def test_lint_is_clean(project):
    result = project.snakemake("--lint", check=False)
    assert result.returncode == 0, result.stdout + result.stderr
