import hashlib
import os
import platform
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest
import yaml

import hepgen
from hepgen import plan, record
from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.inputs import Part, parts_of
from hepgen.models.files import save_model
from hepgen.record import File, Record, changes, inputs_of, recording, recording_command, wall_seconds
from hepgen.storage import read_json, write_json

CONFIG = """
samples:
  mine: {source: arrays, path: table.csv, columns: {mjj: a, tau21_heavy: b}, label: 0}
tagging:
  samples: [mine]
  models:
    pca: {type: pca, inputs: [mjj, tau21_heavy], settings: {components: 1}}
"""
SAMPLE = {"source": "arrays", "columns": {"mjj": "m", "pt_j1": "p"}, "label": 0}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("m,p\n" + "1,2\n" * 1000)
    return path


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_a_record_says_what_made_a_product_of_what_where_and_how(table, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    config = parse({"samples": {"mine": {**SAMPLE, "path": str(table)}}})
    path, product = tmp_path / "record.json", tmp_path / "product.json"
    with recording(path, config, "ingest", "mine", seed=5, inputs=[Part.whole(str(table))]):
        write_json(product, [1])
    record = read_json(path, Record)
    assert (record.path, record.stage, record.name, record.seed) == (str(path), "ingest", "mine", 5)
    assert record.inputs == [File(path=str(table), bytes=4004, sha256=sha256(table.read_bytes()))]
    assert record.outputs == [
        File(path=str(product), bytes=product.stat().st_size, sha256=sha256(product.read_bytes()))
    ]
    assert record.card["sample"]["columns"] == {"mjj": "m", "pt_j1": "p"}
    assert (record.host, record.batch_id, record.threads, record.device) == (platform.node(), "77", 3, "")
    assert {"hepgen.sources.produce", "hepgen.sources.arrays"} <= record.modules.keys()
    assert {"python", "hepgen", "numpy", "pyarrow"} <= record.versions.keys()
    assert 0 <= record.seconds < 60
    assert record.memory_mb > 10


def test_code_and_versions_are_those_that_the_job_began_with(tmp_path, monkeypatch):
    """A module may be edited, and a package installed, while it runs."""
    monkeypatch.setattr(record, "modules", lambda *_: {"hepgen.a": "as it ran"})
    with recording(tmp_path / "record.json", None, "plot", inputs=[]):
        for name in ("card", "code", "modules", "versions", "_commit"):
            monkeypatch.setattr(record, name, lambda *_: 1 / 0)
    assert read_json(tmp_path / "record.json", Record).modules == {"hepgen.a": "as it ran"}


def test_a_trained_model_says_whose_job_it_is(tmp_path):
    """As only its file is named in the command."""
    config, model = tmp_path / "config.yaml", tmp_path / "model.safetensors"
    config.write_text(CONFIG)
    save_model(model, {}, {"name": "pca", "seed": 7})
    given = {"config": config, "model": model, "files": [], "output": tmp_path / "scores.h5"}
    with recording_command(tmp_path / "record.json", "tagging_score", given):
        pass
    found = read_json(tmp_path / "record.json", Record)
    assert (found.stage, found.name, found.seed) == ("tagging_score", "pca", 7)
    assert [file.path for file in found.inputs] == [str(model)]
    assert found.card["model"]["settings"] == {"components": 1}


def test_a_stage_that_fails_leaves_no_record(tmp_path):
    with pytest.raises(ZeroDivisionError), recording(tmp_path / "record.json", None, "plot", inputs=[]):
        1 / 0  # noqa: B018
    assert not list(tmp_path.iterdir())


def test_chunks_of_a_file_hash_it_once_together(table):
    entry = parse({"samples": {"mine": {**SAMPLE, "path": str(table), "chunks": 3}}}).samples["mine"]
    files = [File.at(part.path, part) for chunk in range(3) for part in parts_of(entry, chunk)]
    content = table.read_bytes()
    assert [file.part for file in files] == [(0, 1334), (1334, 2669), (2669, 4004)]
    assert [file.sha256 for file in files] == [sha256(content[slice(*file.part)]) for file in files]


def test_what_became_of_a_file(table):
    half = Part(str(table), Fraction(0), Fraction(1, 2))
    whole, first = File.at(table), File.at(table, half)
    assert whole.change(table, contents=True) == ""
    table.write_bytes(table.read_bytes()[:-2] + b"3\n")
    assert (whole.change(table, contents=True), whole.change(table, contents=False)) == ("changed", "")
    assert first.change(table, contents=True) == ""
    table.write_bytes(b"")
    assert first.change(table, contents=False) == "changed"
    table.unlink()
    assert first.change(table, contents=False) == "gone"


def test_a_file_of_another_host_is_named_and_not_read():
    file = File.at("root://host//store/file.root")
    assert (file.bytes, file.sha256, file.change(Path("x"), contents=True)) == (None, None, "")


def test_an_absent_input_is_the_users_mistake(tmp_path):
    with pytest.raises(HepgenError, match=r"absent\.h5: no such file"):
        File.at(tmp_path / "absent.h5")


def test_other_tools_scores_are_inputs_though_no_argument_names_them(table):
    models = {"pca": {"type": "pca", "inputs": ["mjj"]}}
    tagging = {"samples": ["mine"], "models": models, "external": {"theirs": "scores.npz"}}
    config = parse({"samples": {"mine": {**SAMPLE, "path": str(table)}}, "tagging": tagging})
    given = {"config": Path("config.yaml"), "files": [Path("a.h5")], "output": Path("out"), "device": "cpu"}
    assert [part.path for part in inputs_of(config, "tagging_evaluate", given)] == ["a.h5", "scores.npz"]
    assert [part.path for part in inputs_of(config, "search", given)] == ["a.h5"]


def test_the_commit_of_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / "hepgen/__init__.py"
    package.parent.mkdir()
    package.write_text("")
    monkeypatch.setattr(hepgen, "__file__", str(package))

    def commit():
        with recording(tmp_path / "record.json", None, "plot", inputs=[]):
            pass
        return read_json(tmp_path / "record.json", Record).commit

    assert commit() == ""
    person = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "hepgen"], [*person, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True, env=os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null"})
    clean = commit()
    assert len(clean) == 12
    package.write_text("EDITED = 1\n")
    assert commit() == f"{clean}-dirty"


def test_wall_time_is_the_mean_over_a_benchmarks_repeats(tmp_path):
    (tmp_path / "a.tsv").write_text("s\th:m:s\n1.5\t0\n2.5\t0\n")
    assert wall_seconds(tmp_path / "a.tsv") == 2
    (tmp_path / "a.tsv").write_text("s\n")
    with pytest.raises(HepgenError, match=r"a\.tsv: not a readable Snakemake benchmark"):
        wall_seconds(tmp_path / "a.tsv")


def test_a_change_is_named_by_its_setting_and_module():
    def config(settings):
        content = yaml.safe_load(CONFIG)
        content["tagging"]["models"]["pca"]["settings"] = settings
        return parse(content)

    before, stage = config({"components": 1}), ("tagging_train", "pca")
    code = plan.modules(before, *stage)
    record = Record.model_construct(stage=stage[0], name=stage[1], card=plan.card(before, *stage), modules=code)
    assert changes(record, before) == []
    assert changes(record, config({"components": 2})) == ["model.settings.components: 1 → 2"]
    record.modules = code | {"hepgen.models.linear": "another"}
    assert changes(record, config({})) == [
        "model.settings.components: 1 → not set",
        "code of hepgen.models.linear",
    ]
