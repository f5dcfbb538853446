"""The recipes of images and the workflow for REANA fit the project; neither is built or run here."""

import re
import shlex
import sys

import pytest
import yaml
from snakemake.cli import parse_args

from hepgen import __version__

from ..project import ROOT

DOCKERFILE = ROOT / "containers/Dockerfile"
APPTAINER = ROOT / "containers/hepgen.def"


def dockerfile() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, each with its arguments."""
    lines = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text()).splitlines()
    return [tuple(line.split(" ", 1)) for line in lines if line and not line.startswith("#")]


def section(name: str) -> list[str]:
    """The lines of a section of Apptainer's recipe."""
    return re.search(rf"^%{name}\n((?:    .*\n)+)", APPTAINER.read_text(), re.MULTILINE)[1].split("\n    ")


def test_both_recipes_make_the_same():
    """The same base, labels, files and commands; only the user differs, whom Apptainer keeps."""
    docker = dockerfile()
    assert docker[0] == ("FROM", "python:3.11-slim")
    assert "Bootstrap: docker\nFrom: python:3.11-slim\n" in APPTAINER.read_text()
    assert [text for key, text in docker if key == "RUN"] == [line.strip() for line in section("post")]
    labels = dict(word.split("=") for key, text in docker if key == "LABEL" for word in shlex.split(text))
    assert labels == dict(line.split() for line in section("labels"))
    assert labels["org.opencontainers.image.version"] == __version__
    copied = [text.split() for key, text in docker if key == "COPY"]
    targets = {
        name: target if target.endswith(name) else f"{target}{name}" for *names, target in copied for name in names
    }
    assert targets == dict(line.split() for line in section("files"))
    assert all((ROOT / name).exists() for name in targets)
    assert ("USER", "1000") in docker


def test_the_workflow_names_the_image_that_is_built():
    image = re.search(r'^container: "(.*)"$', (ROOT / "Snakefile").read_text(), re.MULTILINE)[1]
    assert f"apptainer build {image} containers/hepgen.def" in APPTAINER.read_text()


@pytest.fixture
def reana():
    """The specification for REANA."""
    return yaml.safe_load((ROOT / "reana.yaml").read_text())


def test_reana_gets_all_files_and_this_version(reana):
    """All inputs are there, and the image is the one that the Dockerfile is built as."""
    inputs = reana["inputs"]
    assert all((ROOT / name).is_file() for name in [*inputs["files"], inputs["parameters"]["configuration"]])
    assert all((ROOT / name).is_dir() for name in inputs["directories"])
    (step,) = reana["workflow"]["specification"]["steps"]
    assert reana["workflow"]["type"] == "serial"
    assert f"docker build --tag {step['environment']} " in DOCKERFILE.read_text()
    assert step["environment"] == f"hepgen:{__version__}"


def test_reana_runs_what_snakemake_understands(reana, monkeypatch):
    """Its command's options exist, its parameters are all given, and its outputs are those of the configuration."""
    inputs, (step,) = reana["inputs"], reana["workflow"]["specification"]["steps"]
    (command,) = step["commands"]
    for name, value in inputs["parameters"].items():
        command = command.replace(f"${{{name}}}", str(value))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", shlex.split(command))
    options = parse_args(None)[1]
    assert options.cores == inputs["parameters"]["cores"]
    assert str(options.report) in reana["outputs"]["files"]
    assert options.config == [f"output={folder}" for folder in reana["outputs"]["directories"]]
