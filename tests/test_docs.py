"""What the documentation shows is true of the code."""

import re
from pathlib import Path

import pytest
import yaml

from hepgen.config import parse
from hepgen.observables import column_names

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_every_observable_is_described():
    text = (ROOT / "docs/physics.md").read_text()
    for name in column_names(2):
        assert f"`{name.removesuffix('_j1').removesuffix('_j2')}`" in text, name


@pytest.mark.parametrize("entry", blocks("docs/unfolding.md", "yaml"))
def test_what_unfolding_is_configured_by_is_valid(entry):
    content = yaml.safe_load(entry)
    pairs = {"source": "energyflow", "data": "zjets_delphes", "path": "dataset:zjets_herwig"}
    block = content.get("unfolding", {})
    names = [block.get("simulation"), block.get("data"), *block.get("background", []), *block.get("systematics", [])]
    content.setdefault("samples", dict.fromkeys(names, pairs))
    assert parse(content).samples


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_configuration_is_valid(path):
    assert parse(yaml.safe_load(path.read_text())).output
