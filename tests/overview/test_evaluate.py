"""The overview's figures: every sample and level, normalised, with weights."""

import numpy as np
import pytest

from hepgen.config import parse
from hepgen.overview.evaluate import evaluate
from hepgen.overview.figures import comparison, contents, figure_names
from hepgen.plots.draw import draw
from hepgen.plots.figures import read_figure
from hepgen.table import Table, write_table

COLUMNS = {"mass_j1": 0, "tau21_j1": 1, "weight": 2}
CONFIG = parse(
    {"samples": {name: {"source": "arrays", "path": "x.npy", "columns": COLUMNS} for name in ("second", "first")}}
)


def table(rng, n, scale, truth=False):
    columns = {"mass_j1": rng.exponential(scale, n), "tau21_j1": rng.random(n), "weight": np.full(n, 2.0)}
    return Table(columns, {"mass_j1": columns["mass_j1"] * 1.1} if truth else {})


@pytest.fixture
def tables(tmp_path):
    rng = np.random.default_rng(1)
    write_table(tmp_path / "a.h5", [table(rng, 5000, 100)])
    write_table(tmp_path / "b.h5", [table(rng, 3000, 150, truth=True)])
    return {"first": [tmp_path / "b.h5"], "second": [tmp_path / "a.h5"]}


def test_every_observable_of_every_sample_and_level(tables, tmp_path):
    evaluate(CONFIG, tables, tmp_path)
    assert sorted(path.stem for path in tmp_path.glob("figures/*.json")) == sorted(figure_names(CONFIG))
    figure = read_figure(tmp_path / "figures/table_mass_j1.json")
    assert [histogram.label for histogram in figure.histograms] == ["second", "first", "first, particle level"]
    assert [histogram.role for histogram in figure.histograms] == ["reference", "model", "model"]
    tau = read_figure(tmp_path / "figures/table_tau21_j1.json")
    assert [histogram.label for histogram in tau.histograms] == ["second", "first"]
    canvas = draw(figure)
    assert {text.get_text() for text in canvas.axes[0].get_legend().get_texts()} == {h.label for h in figure.histograms}


def test_areas_are_one_and_errors_follow_the_weights():
    rng = np.random.default_rng(2)
    x = rng.random(4000)
    weights = rng.choice([-1.0, 3.0], 4000)
    figure = comparison("tau21_j1", {"all": (x, weights)})
    histogram, width = figure.histograms[0], np.diff(figure.edges)[0]
    assert sum(histogram.values) * width == pytest.approx(1)
    # The error of the area, were it free: √Σw² / Σw.
    assert np.sqrt(np.square(histogram.errors).sum()) * width == pytest.approx(
        np.sqrt((weights**2).sum()) / weights.sum()
    )


def test_events_that_lack_the_observable_do_not_count():
    x = np.array([0.1, np.nan, 0.2, np.nan])
    assert comparison("tau21_j1", {"all": (x, np.ones(4))}) == comparison("tau21_j1", {"all": (x[::2], np.ones(2))})


def test_samples_with_jets_of_one_kind_stand_together():
    entry = {"source": "pythia", "process": "qcd", "events": 1}
    samples = {"a": {**entry, "jets": "wide"}, "b": {**entry, "jets": "narrow"}, "c": {**entry, "jets": "narrow"}}
    config = parse({"jets": {"wide": {"number": 1}, "narrow": {"number": 1, "radius": 0.4}}, "samples": samples})
    assert contents(config)["wide", "mass_j1"] == ["a"]
    assert contents(config)["narrow", "mass_j1"] == ["b", "c"]
    main = ["pt_j1", "mass_j1", "multiplicity_j1", "tau21_j1"]
    assert figure_names(config) == [f"{jets}_{name}" for jets in ("wide", "narrow") for name in main]
