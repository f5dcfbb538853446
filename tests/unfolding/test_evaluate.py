import shutil
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import pytest

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.metrics.divergences import effective_events, triangular
from hepgen.metrics.record import read_metrics
from hepgen.plots.figures import read_figure
from hepgen.table import Table, read_tables
from hepgen.unfolding.evaluate import evaluate
from hepgen.unfolding.figures import figure_names
from hepgen.unfolding.results import combine, read_binned
from hepgen.unfolding.unfold import unfold
from hepgen.unfolding.variations import runs

IBU = {"methods": {"ibu": {"type": "ibu", "iterations": 2}}, "tests": False}


class Done(NamedTuple):
    config: Config
    tables: dict
    files: list
    measured: list
    folder: Path

    @property
    def records(self):
        return {(m.model, m.metric): m for m in read_metrics(self.folder / "metrics.json")}


def run(config, tables, folder):
    """Unfold and evaluate."""
    files, measured = [], []
    for method, variation, seed in runs(config.unfolding):
        files.append(folder / f"{method}_{variation.name}_{seed}.h5")
        unfold(config, method, variation.name, seed, tables, files[-1], "cpu")
    for method in config.unfolding.methods:
        measured.append(folder / f"{method}.h5")
        combine(config, method, tables, files, measured[-1])
    evaluate(config, tables, measured, files, folder)
    return Done(config, tables, files, measured, folder)


def figure_of(done, name):
    return read_figure(done.folder / "figures" / f"{name}.json")


@pytest.fixture(scope="module")
def done(chain, tmp_path_factory):
    """Few events with misses and fakes, with all uncertainties and toys."""
    measured, folder = list(chain.measured.values()), tmp_path_factory.mktemp("evaluated")
    evaluate(chain.config, chain.tables, measured, chain.files, folder)
    return Done(chain.config, chain.tables, chain.files, measured, folder)


@pytest.fixture(scope="module")
def trained(make_config, toy, tmp_path_factory):
    """Networks that were trained to the end, on events that are all seen, without replicas."""
    return run(make_config(tests=False), toy, tmp_path_factory.mktemp("trained"))


def test_methods_beat_prior_and_no_unfolding(trained):
    scored = trained.records
    for method in ("omnifold", "ibu"):
        for baseline in ("prior", "no_unfolding"):
            assert scored[method, "triangular_mean"].high < 0.7 * scored[baseline, "triangular_mean"].low
    assert scored["omnifold", "triangular_reco/alpha"].value < scored["prior", "triangular_reco/alpha"].value


def test_records_are_complete(done):
    data, scored = read_tables(done.tables["nature"], unseen=True), done.records
    true, seen = data.passed("truth").sum(), data.passed().sum()
    for method, seeds in (("omnifold", 2), ("ibu", 1), ("prior", 1), ("no_unfolding", 1)):
        for metric in ("triangular_mean", "triangular/alpha", "triangular/mass_j1"):
            record = scored[method, metric]
            assert (record.analysis, record.sample, record.n, record.seeds) == ("unfolding", "nature", true, seeds)
            assert 0 <= record.low < record.value < record.high
    assert scored["omnifold", "triangular_reco/alpha"].n == seen
    assert ("no_unfolding", "triangular_reco/alpha") not in scored
    assert scored["omnifold", "triangular_ensemble_mean"].seeds == 2
    assert ("ibu", "triangular_ensemble_mean") not in scored


def test_only_independent_samples_have_a_floor(trained):
    scored = trained.records
    for (estimate, metric), record in scored.items():
        independent = estimate in ("omnifold", "prior") and metric.startswith("triangular") and "reco" not in metric
        assert (record.floor is not None) == independent
    # 20 bins of 3000 events each way, all of which hold events: 20 · (2/3000)/4.
    assert scored["prior", "triangular/alpha"].floor == pytest.approx(1e3 * 20 / 6000)
    assert scored["omnifold", "triangular/alpha"].floor > scored["prior", "triangular/alpha"].floor


def test_a_score_is_that_of_the_product(trained):
    edges = np.linspace(0, 75, 51)
    simulation, data = (read_tables(trained.tables[name]).truth["mass_j1"] for name in ("simulation", "nature"))
    truth = np.histogram(data, edges)[0]
    found = []
    for seed in (1, 2):
        with h5py.File(trained.folder / f"omnifold_nominal_{seed}.h5") as file:
            found.append(np.histogram(simulation, edges, weights=file["weights"][-1].astype(float))[0])
    expected = {
        "triangular": triangular(np.array(found), truth).mean(),
        "triangular_ensemble": triangular(np.mean(found, 0), truth),
    }
    for metric, value in expected.items():
        record = trained.records["omnifold", f"{metric}/mass_j1"]
        assert record.value == pytest.approx(1e3 * value)
        assert record.low < record.value < record.high


def test_studied_methods_report_their_iteration_and_uncertainties(done, trained):
    parts = ("data", "simulation", "other")
    assert {metric for model, metric in done.records if model == "ibu" and not metric.startswith("triangular")} == {
        "iteration",
        *(f"uncertainty/{source}" for source in ("total", *parts)),
    }
    values = [done.records["ibu", f"uncertainty/{source}"].value for source in parts]
    assert max(values) < done.records["ibu", "uncertainty/total"].value < sum(values)
    markers = {marker.label: marker.at for marker in figure_of(done, "toys").panels[0].markers}
    assert markers == {method: done.records[method, "iteration"].value for method in ("omnifold", "ibu")}
    assert ("omnifold", "uncertainty/events") in trained.records


def test_figures_are_those_announced(done, trained):
    for one in (done, trained):
        assert sorted(p.stem for p in (one.folder / "figures").iterdir()) == sorted(figure_names(one.config))


def test_spectra_are_densities(done, trained):
    for one in (done, trained):
        unfolded, refolded = figure_of(one, "unfolded_alpha"), figure_of(one, "refolded_alpha")
        assert [h.role for h in unfolded.histograms] == ["reference", "baseline", "model", "model", "data"]
        assert [h.role for h in refolded.histograms] == ["reference", "baseline", "model", "model"]
        for figure in (unfolded, refolded):
            for histogram in figure.histograms:
                assert np.sum(histogram.values * np.diff(figure.edges)) == pytest.approx(1)
    truth = figure_of(trained, "unfolded_alpha").histograms[0]
    share, error = np.array([truth.values, truth.errors])[:, 10] * np.diff(unfolded.edges)[10]
    # That of a binomial share of the 3000 events, nearly all of which are within the bins.
    assert error == pytest.approx(np.sqrt(share * (1 - share) / 3000), rel=0.02)


def test_bands_are_those_of_the_full_budget_where_there_is_one(done, trained):
    for one, full in ((done, True), (trained, False)):
        figure = figure_of(one, "unfolded_alpha")
        for histogram in figure.histograms[2:4]:
            assert (histogram.total is not None) == full
            assert np.all(np.array(histogram.total or histogram.errors) >= histogram.errors)
        assert figure.notes[1].startswith("bands of omnifold, ibu")
        assert ("lower bound" in figure.notes[1]) != full


def test_figures_of_uncertainties_show_the_studied_methods(done):
    uncertainty, correlation = figure_of(done, "uncertainty_alpha"), figure_of(done, "correlation_alpha")
    assert [panel.title for panel in uncertainty.panels] == [one.title for one in correlation.maps]
    lines = [line.label for line in uncertainty.panels[0].lines]
    assert lines == ["total", "data", "simulation", "seeds", "other instead of the simulation"]
    matrix = np.array(correlation.maps[0].values, dtype=float)
    np.testing.assert_allclose(np.diag(matrix), 1)
    assert np.nanmax(np.abs(matrix)) < 1 + 1e-9


def test_planes_are_ratios_to_the_truth(done):
    figure = figure_of(done, "plane_both")
    assert [one.title for one in figure.maps] == ["simulation (prior)", "omnifold", "ibu"]
    ratios = np.array([one.values for one in figure.maps], dtype=float)
    data = read_binned(done.measured[1])
    both = next(binned for binned in data if binned.spectrum.name == "both")
    events = read_tables(done.tables["nature"], unseen=True)
    x, y = (events.truth[name][events.passed("truth")] for name in ("alpha", "mass_j1"))
    truth = np.histogram2d(x, y, figure.edges)[0]
    expected = both.prior.values.reshape(2, 2) / both.prior.values.sum() / truth * truth.sum()
    np.testing.assert_allclose(ratios[0], expected)


def test_figures_of_weights_and_iterations(done, trained):
    iterations = figure_of(trained, "iterations")
    assert [len(line.x) for line in iterations.lines] == [3, 4, 3, 4]
    assert [("scoring only" in line.label) for line in iterations.lines] == [False, False, True, True]
    sizes = []
    for seed in (1, 2):
        with h5py.File(trained.folder / f"omnifold_nominal_{seed}.h5") as file:
            sizes.append(effective_events(file["weights"][-1]))
    weights = figure_of(trained, "weights")
    assert weights.notes[-1].endswith(f"omnifold {np.mean(sizes):,.0f} of 3,000")
    (line,) = weights.lines
    assert np.nansum(np.array(line.y, float)[::2]) == pytest.approx(1)
    # Elsewhere the data have fewer events than the simulation; the mean is that of bins of 0.1.
    (line,) = figure_of(done, "weights").lines
    edges, shares = np.array(line.x), np.nan_to_num(np.array(line.y, float))
    assert (edges * shares).sum() / shares.sum() == pytest.approx(1, abs=0.03)


def test_calibration_is_the_mean_over_the_seeds(trained):
    tables = []
    for seed in (1, 2):
        with h5py.File(trained.folder / f"omnifold_nominal_{seed}.h5") as file:
            tables.append(file["calibration"][-1])
    for panel, (predicted, observed, _) in zip(
        figure_of(trained, "calibration").panels, np.mean(tables, 0).transpose(0, 2, 1), strict=True
    ):
        (line,) = panel.lines
        np.testing.assert_allclose(line.x, predicted)
        np.testing.assert_allclose(line.y, observed - predicted, atol=1e-12)


def test_events_of_zero_weight_change_nothing(make_config, store, toy, tmp_path):
    data = read_tables(toy["nature"])
    # All different: an event that occurs twice is an error.
    filling = 3 + np.linspace(0.001, 0.002, 500)
    junk = {name: np.append(values, filling) for name, values in data.columns.items()}
    junk_truth = {name: np.append(values, filling) for name, values in data.truth.items()}
    padded = Table({**junk, "weight": np.append(np.ones(3000), np.zeros(500))}, junk_truth)
    config = make_config(**IBU)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    plain = run(config, toy, tmp_path / "a")
    weighted = run(config, toy | {"nature": store("padded", padded)}, tmp_path / "b")
    for key, record in plain.records.items():
        assert weighted.records[key].value == pytest.approx(record.value, rel=1e-9)
        assert weighted.records[key].floor == pytest.approx(record.floor)
    evaluate(config, plain.tables, plain.measured, plain.files, tmp_path / "again")
    assert (tmp_path / "again/metrics.json").read_bytes() == (tmp_path / "a/metrics.json").read_bytes()


def test_null_data_are_an_independent_half_of_the_simulation(make_config, store, toy, tmp_path):
    whole = read_tables(toy["simulation"])
    tables = {"simulation": store("a", whole[:1500]), "nature": store("b", whole[1500:])}
    scored = run(make_config(**IBU), tables, tmp_path).records
    floor = scored["prior", "triangular_mean"].floor
    for method in ("ibu", "prior"):
        # Without a difference, the floor is the mean of the prior's value; unfolding adds noise, at most doubling it.
        assert 0.4 * floor < scored[method, "triangular_mean"].value < 2 * floor


def test_levels_of_different_bins_cannot_be_compared(make_config, toy, tmp_path):
    binning = {"alpha": {"edges": [-2, -1, 0, 1, 2], "reco": np.linspace(-3, 3, 9).tolist()}}
    config = make_config(binning=binning, **IBU)
    done = run(config, toy, tmp_path)
    unscored = {metric for model, metric in done.records if model == "no_unfolding"}
    assert unscored == {"triangular/mass_j1"}
    assert ("ibu", "triangular_reco/alpha") in done.records
    assert "data" not in [h.role for h in figure_of(done, "unfolded_alpha").histograms]
    assert figure_of(done, "triangular").series["no_unfolding"][0] is None
    assert len(figure_of(done, "refolded_alpha").edges) == 9


def test_data_without_truth_are_not_scored(make_config, store, toy, tmp_path):
    measured = store("measured", Table(read_tables(toy["nature"]).columns))
    config = make_config(**IBU)
    raw = config.samples["nature"].model_copy(update={"truth": {}})
    config = config.model_copy(update={"samples": config.samples | {"nature": raw}})
    done = run(config, toy | {"nature": measured}, tmp_path)
    assert {metric for _, metric in done.records} == {"iteration", "uncertainty/total", "uncertainty/events"}
    assert sorted(p.stem for p in (tmp_path / "figures").iterdir()) == sorted(figure_names(config))
    assert [h.role for h in figure_of(done, "unfolded_alpha").histograms] == ["reference", "model", "data"]


def test_results_of_another_simulation(done, store, tmp_path):
    shorter = store("shorter", read_tables(done.tables["simulation"])[:2000])
    with pytest.raises(HepgenError, match="do not belong to this simulation"):
        evaluate(done.config, done.tables | {"simulation": shorter}, done.measured, done.files, tmp_path)


def test_results_without_calibration(done, tmp_path):
    files = []
    for path in done.files:
        files.append(tmp_path / path.name)
        shutil.copy(path, files[-1])
        with h5py.File(files[-1], "r+") as file:
            file.pop("calibration", None)
    with pytest.raises(HepgenError, match=r"omnifold_nominal_1\.h5: how far .* unfold again"):
        evaluate(done.config, done.tables, done.measured, files, tmp_path)


def test_methods_or_spectra_that_are_missing(done, make_config, tmp_path):
    with pytest.raises(HepgenError, match="no measured spectra of omnifold"):
        evaluate(done.config, done.tables, done.measured[1:], done.files, tmp_path)
    config = make_config(observables=["alpha", "mass_j1"], planes={"other": done.config.unfolding.planes["both"]})
    with pytest.raises(HepgenError, match="no other in the spectra of omnifold, ibu"):
        evaluate(config, done.tables, done.measured, done.files, tmp_path)


@pytest.mark.parametrize(("edges", "fails"), [([-10.0, 10.0], False), ([50.0, 60.0], True)])
def test_single_and_empty_bins(make_config, toy, tmp_path, edges, fails):
    config = make_config(binning={"alpha": {"edges": edges}}, **IBU)
    if fails:
        with pytest.raises(HepgenError, match="no events within the bins of alpha"):
            run(config, toy, tmp_path)
        return
    histogram = figure_of(run(config, toy, tmp_path), "unfolded_alpha").histograms[-2]
    assert (histogram.values, histogram.errors) == ([pytest.approx(0.05)], [pytest.approx(0.0, abs=1e-9)])
