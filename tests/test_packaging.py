"""The same pins by every route, and generated files that are up to date."""

import json
import re
import tomllib
from pathlib import Path

import yaml

from hepgen import __version__
from hepgen.config import json_schema

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"torch": "pytorch", "tables": "pytables"}


def direct_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    requirements = [*project["dependencies"], *extras["cluster"], *extras["test"]]
    return [re.match(r"[\w-]+", requirement)[0] for requirement in requirements]


def constraints():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def environment():
    """Pins of the conda environment, those that it takes from PyPI included."""
    *conda, last = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pins = dict(line.split("=", 1) for line in conda if "=" in line)
    return pins | dict(line.split("==") for line in last["pip"] if "==" in line)


def test_every_dependency_is_pinned_alike_by_pip_and_conda():
    pinned, conda = constraints(), environment()
    for name in direct_dependencies():
        assert conda[CONDA_NAMES.get(name, name)] == pinned[name], name


def test_conda_asks_for_nothing_that_pip_does_not():
    known = {CONDA_NAMES.get(name, name) for name in direct_dependencies()} | {"python"}
    assert environment().keys() <= known


def test_schema_is_the_one_that_the_code_generates():
    assert json.loads((ROOT / "config/schema.json").read_text()) == json_schema(), "run `make schema`"


def test_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
