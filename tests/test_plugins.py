"""Plug-ins of a user's own: exactly the examples of docs/extending.md, from the configuration to the products."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.generation.sample import read_generated
from hepgen.plugins import load_plugins
from hepgen.table import read_tables

GENERATOR = """
import torch
from torch import nn

from hepgen.models import GENERATORS


@GENERATORS.register("normals")
class Normals(nn.Module):
    scaler = "support"
    mirror_eta = False
    batch = 1000

    def __init__(self, shape, conditions, *, width=1.0):
        super().__init__()
        self.mean, self.width = nn.Parameter(torch.zeros(shape)), width

    def loss(self, x, c, weight=None):
        return (x - self.mean).square().mean()

    def noise(self, n, generator):
        return torch.randn(n, len(self.mean), generator=generator)

    @torch.no_grad()
    def draw(self, noise, c):
        return self.mean + self.width * noise
"""
# The fingerprints of four stages' code, then with each edit of a plug-in in turn.
FINGERPRINTS = """
import json, pathlib, sys

from hepgen.config import load
from hepgen.plan import code

config = load("config.yaml")
jobs = [("ingest", "toys"), ("observe", "toys"), ("tagging_train", "mine"), ("generation_train", "normals")]
found = [[code(config, *job) for job in jobs]]
for file, old, new in json.loads(sys.argv[1]):
    path = pathlib.Path(file)
    text = path.read_text()
    path.write_text(text.replace(old, new))
    found.append([code(config, *job) for job in jobs])
    path.write_text(text)
print(json.dumps(found))
"""
PAGE = (Path(__file__).parents[1] / "docs/extending.md").read_text()
EXAMPLES = ("model", "observable", "source")
# Several commands in one process, which must import only once.
SCRIPT = (
    "import json, sys; from hepgen.cli import app; [app(c, standalone_mode=False) for c in json.loads(sys.argv[1])]"
)


def example(name):
    """The module, its name and the configuration under a heading of the page."""
    section = re.search(rf"^## An? {name}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]
    (code,) = re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    (entry,) = re.findall(r"^```yaml\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return code, re.match(r"# (\w+\.py)\n", code)[1], yaml.safe_load(entry)


@pytest.fixture
def project(tmp_path):
    """A folder with a module for each example and a generator, and a configuration that joins them all."""
    content = {"seed": 1, "plugins": ["my_generators"]}
    (tmp_path / "my_generators.py").write_text(GENERATOR)
    for name in EXAMPLES:
        code, file, entry = example(name)
        (tmp_path / file).write_text(code)
        content |= {**entry, "plugins": content["plugins"] + entry["plugins"]}
    content["tagging"] |= {"samples": ["toys"], "seeds": [1]}
    flow = {"type": "rqs_flow", "settings": {"layers": 2, "hidden": 8}, "training": {"epochs": 1}}
    normals = {"type": "normals", "settings": {"width": 0.5}, "training": {"epochs": 1}}
    models = {"flow": flow, "normals": normals}
    content["generation"] |= {"samples": ["toys"], "seeds": [1], "events": 50, "models": models}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def hepgen(folder, *arguments, check=True):
    return run(folder, "-m", "hepgen.cli", *arguments, check=check)


def run(folder, *arguments, check=True):
    result = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert not check or result.returncode == 0, result.stderr
    return result


@pytest.mark.parametrize("name", EXAMPLES)
def test_each_example_is_short(name):
    code, _, entry = example(name)
    assert len(code.splitlines()) + len(yaml.safe_dump(entry).splitlines()) < 40


def test_sources_observables_and_models_work_together(project):
    commands = []
    for chunk in "01":
        commands += [
            ["ingest", "config.yaml", "toys", chunk, "-o", f"events{chunk}.h5"],
            ["observe", "config.yaml", "toys", f"events{chunk}.h5", "-o", f"table{chunk}.h5"],
        ]
    files = ["table0.h5", "table1.h5"]
    commands.append(["tagging", "train", "config.yaml", "mine", "1", *files, "-o", "mine.safetensors"])
    for name in ("flow", "normals"):
        commands += [
            ["generation", "train", "config.yaml", name, "1", *files, "-o", f"{name}.safetensors"],
            ["generation", "sample", "config.yaml", f"{name}.safetensors", *files, "-o", f"{name}.h5"],
        ]
    run(project, "-c", SCRIPT, json.dumps(commands))
    table = read_tables([project / name for name in files])
    assert len(table) == 200
    assert table.columns["pt_j1"].min() > 900
    assert (table.columns["pt_balance"] <= 1).all()
    assert table.columns["pt_balance"] == pytest.approx(table.columns["pt_j2"] / table.columns["pt_j1"], rel=1e-5)
    inside = table.columns["central_fraction_j1"]
    assert 0 < inside.mean() < 1
    assert ((inside >= 0) & (inside <= 1 + 1e-6)).all()
    features = example("observable")[2]["generation"]["features"]
    for generated in read_generated([project / "flow.h5", project / "normals.h5"]):
        assert len(generated.table) == 50
        assert generated.table.columns.keys() >= set(features)


def test_what_a_plug_in_decides_is_in_the_fingerprints(project):
    edits = [
        ("my_sources.py", "ones(10)", "ones(11)"),
        ("my_observables.py", "< 0.1", "< 0.2"),
        ("my_models.py", "tanh", "relu"),
        ("my_generators.py", "batch = 1000", "batch = 2000"),
    ]
    before, *after = json.loads(run(project, "-c", FINGERPRINTS, json.dumps(edits)).stdout)
    differ = [[old != new for old, new in zip(before, codes, strict=True)] for codes in after]
    assert differ == [[job == edit for job in range(4)] for edit in range(4)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plugins": ["my_modles"]}, "no Python module 'my_modles' can be imported"),
        ({"plugins": ["my_sources", "my_sources"]}, None),
        ({"plugins": []}, "unknown source 'back_to_back'; known: arrays, .*root"),
    ],
)
def test_a_plug_in_that_is_missing(project, change, message):
    content = yaml.safe_load((project / "config.yaml").read_text())
    (project / "config.yaml").write_text(
        yaml.safe_dump({"jets": content["jets"], "samples": content["samples"], **change})
    )
    result = hepgen(project, "check", "config.yaml", check=False)
    assert (result.returncode != 0) == (message is not None)
    assert message is None or re.search(message, result.stderr)
    assert "Traceback" not in result.stderr


def test_a_misspelt_setting_of_a_source(project):
    path = project / "config.yaml"
    path.write_text(path.read_text().replace("pt: 1300", "pT: 1300"))
    result = hepgen(project, "check", "config.yaml", check=False)
    assert "samples.toys: unknown setting of source 'back_to_back' 'pT' (did you mean 'pt'?)" in result.stderr


def test_a_plug_in_that_fails(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_plugin.py").write_text("1 / 0\n")
    with pytest.raises(HepgenError, match=r"plugins: 'broken_plugin' fails when it is imported \(ZeroDivisionError"):
        load_plugins(["broken_plugin"])


@pytest.mark.parametrize("module", [".x", "../x", "a b", "x.py/../y", ""])
def test_what_is_no_module_name(module):
    with pytest.raises(HepgenError, match="is no module's name"):
        load_plugins([module])


def test_a_module_that_registers_nothing_is_not_the_one_that_was_meant():
    with pytest.raises(
        HepgenError, match=r"plugins: 'json' \(.*json/__init__\.py\) registers no source, observable or model"
    ):
        load_plugins(["json"])


def test_plugins_are_a_list_of_modules():
    with pytest.raises(HepgenError, match=r"^plugins: "):
        parse({"plugins": "my_models", "samples": {}})
    with pytest.raises(HepgenError, match=r"^plugins"):
        parse({"plugins": [3], "samples": {}})
