"""What the documentation shows is true of the code."""

import re
import sys
from pathlib import Path

import pytest
import torch
import yaml

from hepgen.config import parse
from hepgen.observables import column_names
from hepgen.training import train

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_model_of_the_extending_page_trains_and_scores(tmp_path, monkeypatch):
    (source,) = blocks("docs/extending.md", "python")
    (entry,) = blocks("docs/extending.md", "yaml")
    (tmp_path / "my_taggers.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    columns = {"mass_light": 0, "tau21_light": 1, "mjj": 2}
    block = yaml.safe_load(entry)["tagging"]
    samples = {"mine": {"source": "arrays", "path": "t.npy", "columns": columns}}
    config = parse({"samples": samples, "tagging": {"samples": ["mine"], **block}})
    model = config.tagging.models["mine"]
    from hepgen.models import TAGGERS

    network = TAGGERS.load(model.type)((2,), **model.settings)
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = network.loss(x)
    train(network, [x], settings=model.training.model_copy(update={"epochs": 5}), seed=1, verbose=False)
    with torch.no_grad():
        assert network.loss(x) < before
        assert network.score(x).shape == (500,)
    del sys.modules["my_taggers"]


def test_the_readmes_table_is_a_valid_sample():
    (entry,) = blocks("README.md", "yaml")
    assert parse(yaml.safe_load(entry)).samples["mine"].source == "arrays"


def test_every_observable_is_described():
    text = (ROOT / "docs/physics.md").read_text()
    for name in column_names(2):
        assert f"`{name.removesuffix('_j1').removesuffix('_j2')}`" in text, name
