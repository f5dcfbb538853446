"""Both stages, from a configuration to the records and the figures' numbers."""

from types import SimpleNamespace

import numpy as np
import pytest

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.integration import figures
from hepgen.integration.evaluate import evaluate
from hepgen.integration.matrix_element import Point, reference
from hepgen.integration.sample import KIND, sample
from hepgen.metrics.record import read_metrics
from hepgen.plots.figures import read_figure
from hepgen.storage import Columns, open_h5

METHODS = {
    "vegas": {"type": "vegas", "points": 2000, "iterations": 3},
    "plus": {"type": "vegas_plus", "points": 2000, "iterations": 3},
    "uniform": {"type": "uniform"},
}


def configuration(**changes):
    block = {"events": 20_000, "seeds": [1, 2], "methods": METHODS, **changes}
    return parse({"samples": {}, "integration": block})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A configuration, the events of all its methods and seeds, and the folder of the evaluation."""
    config, folder = configuration(), tmp_path_factory.mktemp("integration")
    files = []
    for method in METHODS:
        for seed in config.integration.seeds:
            files.append(folder / f"{method}_{seed}.h5")
            assert sample(config, method, seed, files[-1]) == pytest.approx(20_000, rel=0.25)
    evaluate(config, files, folder / "out")
    records = {(metric.model, metric.metric): metric for metric in read_metrics(folder / "out/metrics.json")}
    return SimpleNamespace(config=config, files=files, folder=folder, records=records)


def test_integrals_agree_with_quadrature(run):
    """Within four standard errors, which the pull counts."""
    truth = reference(run.config.integration)
    for method in METHODS:
        integral = run.records[method, "integral"]
        assert integral.null == pytest.approx(truth)
        assert integral.low < integral.value < integral.high
        assert abs(run.records[method, "pull"].value) < 4


def test_records_are_those_of_the_events(run):
    of_seeds = []
    for path in run.files[:2]:
        with open_h5(path, KIND) as file:
            of_seeds.append((Columns(file["events"]).read(), file.attrs["maximum"], file.attrs["adaptation"]))
    expected = {
        "efficiency": [c["weight"].mean() / top for c, top, _ in of_seeds],
        "inside": [np.mean(c["weight"] > 0) for c, _, _ in of_seeds],
        "overweight_cross_section": [
            c["weight"][c["weight"] > top].sum() / c["weight"].sum() for c, top, _ in of_seeds
        ],
        "overweight_events": [np.sum(c["unweighted"] > 1) / np.sum(c["unweighted"] > 0) for c, _, _ in of_seeds],
        "unweighted_effective_size": [
            u.sum() ** 2 / (u**2).sum() / np.sum(u > 0) for u in (c["unweighted"] for c, _, _ in of_seeds)
        ],
        "relative_variance": [c["weight"].var(ddof=1) / c["weight"].mean() ** 2 for c, _, _ in of_seeds],
        "effective_size": [
            c["weight"].sum() ** 2 / (c["weight"] ** 2).sum() / len(c["weight"]) for c, _, _ in of_seeds
        ],
        "adaptation": [adaptation for _, _, adaptation in of_seeds],
    }
    for name, values in expected.items():
        assert run.records["vegas", name].value == pytest.approx(np.mean(values)), name


def test_adapted_methods_are_better_than_none(run):
    for method in ("vegas", "plus"):
        assert run.records[method, "efficiency"].low > run.records["uniform", "efficiency"].high
        assert run.records[method, "relative_variance"].high < run.records["uniform", "relative_variance"].low
    assert run.records["uniform", "adaptation"].value == 0


def test_unweighted_distributions_agree_with_the_first_methods_weighted_ones(run):
    """χ²/ndf within five of its standard deviations of one; uniform points leave too few unweighted events."""
    for name in figures.OBSERVABLES:
        assert run.records["plus", f"chi2/{name}"].value < 1 + 5 * np.sqrt(2 / (figures.BINS - 1))
    assert ("vegas", "chi2/x1") not in run.records


def test_figures_are_the_announced_ones(run):
    names = figures.figure_names(run.config)
    assert {path.stem for path in (run.folder / "out/figures").iterdir()} == set(names)
    for name in names:
        read_figure(run.folder / f"out/figures/{name}.json")


def test_strata_with_fixed_numbers_have_smaller_errors():
    """Two strata of constant weights know their sum exactly; drawn at random they would not."""
    weight, stratum = np.repeat([1.0, 3.0], 50), np.repeat([0, 2], 50).astype(np.int32)
    point = Point(*np.zeros((5, 100)))
    assert figures.Result(point, weight, stratum, weight, 3.0, 0).error == 0
    plain = figures.Result(point, weight, 0 * stratum, weight, 3.0, 0)
    assert plain.error == pytest.approx(weight.std(ddof=1) / 10)


def test_a_missing_seed_is_named(run):
    with pytest.raises(HepgenError, match="no events of uniform with seed 2"):
        evaluate(run.config, run.files[:-1], run.folder / "none")
    assert not (run.folder / "none").exists()


def test_cuts_that_leave_nothing_are_named(tmp_path):
    config = configuration(events=100, min_energy=11.6, max_cos_theta=0.1)
    with pytest.raises(HepgenError, match=r"integration\.methods\.uniform: hardly any of 100 points"):
        sample(config, "uniform", 1, tmp_path / "events.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_energy": 12.0}, r"integration\.min_energy: three partons of 12 GeV or more do not share 35 GeV"),
        ({"y_cut": 0.4}, r"integration\.y_cut: .*less than 0\.333"),
        ({"events": 99}, r"integration\.events: .*greater than or equal to 100"),
        ({"methods": {}}, r"integration\.methods: .*at least 1"),
        (
            {"methods": {"f": {"type": "flow", "model": "dijet_gan"}}},
            r"integration\.methods\.f\.model: dijet_gan has no exact density",
        ),
        (
            {"methods": {"f": {"type": "flow", "settings": {"layer": 2}}}},
            r"integration\.methods\.f: unknown setting of generator 'rqs_flow' 'layer'",
        ),
        (
            {"methods": {"f": {"type": "flow", "training": {"patience": 2}}}},
            r"integration\.methods\.f\.training\.patience: there is no validation loss",
        ),
    ],
)
def test_impossible_configurations_are_refused(changes, message):
    with pytest.raises(HepgenError, match=message):
        configuration(**changes)
