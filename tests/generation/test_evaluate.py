"""Evaluation: every figure beside its null value, and the verdicts that known inputs deserve."""

import numpy as np
import pytest

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.generation.evaluate import BASELINE, SIMULATION, Truth, evaluate, simulation_rate
from hepgen.generation.figures import figure_names
from hepgen.metrics.record import read_metrics
from hepgen.plots.draw import draw
from hepgen.plots.figures import read_figure

NAMES = ["mass_j1", "eta_j1"]


def write_benchmark(path, *seconds):
    path.write_text("s\th:m:s\tmax_rss\n" + "".join(f"{value}\t0:00:01\t12.3\n" for value in seconds))
    return path


@pytest.fixture
def evaluated(config, paths, made, tmp_path):
    models = [(model, seed) for model in config.generation.models for seed in config.generation.seeds]
    generated = [made(config, paths, *entry)[1] for entry in models]
    timings = [write_benchmark(tmp_path / f"{k}.tsv", 10.0) for k in range(2)]
    evaluate(config, paths, generated, tmp_path / "out", timings)
    return tmp_path / "out"


def test_evaluation_writes_what_it_announces(config, evaluated):
    figures = {path.stem: read_figure(path) for path in (evaluated / "figures").iterdir()}
    assert set(figures) == set(figure_names(config))
    metrics = read_metrics(evaluated / "metrics.json")
    names = {metric.metric for metric in metrics if metric.model == "flow"}
    observables = [*config.generation.features, "mjj", "deta_jj", "dr_jj"]
    expected = {"c2st_auc", "max_delta_pearson", "events_per_second", "speed_up"}
    assert names == expected | {f"{kind}/{name}" for kind in ("w1", "chi2_ndf") for name in observables}
    assert {metric.model for metric in metrics} == {"flow", "gan", BASELINE, SIMULATION}
    assert all(m.low <= m.value <= m.high for m in metrics)
    assert all(m.null is not None for m in metrics if m.metric != "events_per_second")
    sizes = {m.metric.partition("/")[0]: m.n for m in metrics if m.model != SIMULATION}
    assert sizes == dict.fromkeys(["c2st_auc", "max_delta_pearson", "chi2_ndf", "w1"], 1000) | dict.fromkeys(
        ["events_per_second", "speed_up"], 1500
    )
    for figure in figures.values():
        draw(figure).clear()


def test_speed_is_that_of_the_jobs(evaluated):
    """4000 events in two jobs of 10 s."""
    metrics = {(m.model, m.metric): m for m in read_metrics(evaluated / "metrics.json")}
    assert metrics[SIMULATION, "events_per_second"].value == 200
    flow = metrics["flow", "events_per_second"].value
    assert metrics["flow", "speed_up"].value == pytest.approx(flow / 200)


def test_speed_is_not_compared_without_timings(config, settings, tmp_path):
    assert simulation_rate(config, []) == {}
    arrays = {"source": "arrays", "path": "a.npy", "columns": dict.fromkeys(settings["generation"]["features"], 0)}
    settings["samples"]["qcd"] = arrays
    assert simulation_rate(parse(settings), [write_benchmark(tmp_path / "a.tsv", 1.0)]) == {}


def test_repeats_of_a_benchmark_are_averaged(config, tmp_path):
    assert simulation_rate(config, [write_benchmark(tmp_path / "a.tsv", 4.0, 6.0)]) == {SIMULATION: [800]}


def test_a_file_that_is_no_benchmark(config, tmp_path):
    (tmp_path / "a.tsv").write_text("seconds\n1\n")
    with pytest.raises(HepgenError, match="column 's'"):
        simulation_rate(config, [tmp_path / "a.tsv"])


def test_missing_seed_is_named(config, paths, made, tmp_path):
    generated = [made(config, paths, "flow", 1)[1]]
    with pytest.raises(HepgenError, match=r"models.flow: expected events of seeds \[1, 2\], found 1"):
        evaluate(config, paths, generated, tmp_path)


def events(n, seed, correlation=0.7):
    x = np.random.default_rng(seed).multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], n)
    return np.stack([100 * np.exp(0.4 * x[:, 0]), x[:, 1]], axis=1)


def test_truth_against_truth():
    """Every figure of merit at its null value, within 3 standard deviations."""
    scores = Truth(events(4000, 1), NAMES).compare(events(4000, 2), 1)
    for estimate in scores.chi2:
        assert estimate.value == pytest.approx(1, abs=3 * np.sqrt(2 / 40))
    assert scores.auc.value == pytest.approx(0.5, abs=3 * scores.auc.error)
    # W1 of two samples of n of a normal is about 1.1/√n
    assert max(e.value for e in scores.wasserstein) < 3.5 / np.sqrt(4000)
    assert scores.correlation.value < 3 * (1 - 0.7**2) * np.sqrt(2 / 4000)


def test_lost_correlations_show_where_they_should():
    """Shuffled columns pass the one-dimensional tests and fail the other two."""
    x = events(4000, 2)
    scores = Truth(events(4000, 1), NAMES).compare(np.random.default_rng(1).permuted(x, axis=0), 1)
    assert all(e.value == pytest.approx(1, abs=3 * np.sqrt(2 / 40)) for e in scores.chi2)
    assert scores.auc.value > 0.6
    assert scores.correlation.value > 0.6


def test_a_shift_shows_in_its_observable():
    x = events(4000, 2) + np.array([0, 0.3])
    scores = Truth(events(4000, 1), NAMES).compare(x, 1)
    assert scores.wasserstein[1].value == pytest.approx(0.3, abs=4 * scores.wasserstein[1].error)
    assert scores.chi2[1].value > 2
    assert scores.chi2[0].value == pytest.approx(1, abs=3 * np.sqrt(2 / 40))
