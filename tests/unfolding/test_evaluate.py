import h5py
import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.metrics.divergences import effective_events, triangular
from hepgen.metrics.record import read_metrics
from hepgen.plots.figures import read_figure
from hepgen.table import Table, read_tables
from hepgen.unfolding.evaluate import evaluate
from hepgen.unfolding.figures import figure_names
from hepgen.unfolding.unfold import unfold


def run(config, simulation, data, folder):
    files = []
    for method in config.unfolding.methods:
        for seed in config.unfolding.seeds:
            files.append(folder / f"{method}_{seed}.h5")
            unfold(config, method, seed, simulation, data, files[-1], "cpu")
    evaluate(config, simulation, data, files, folder)
    return {(m.model, m.metric): m for m in read_metrics(folder / "metrics.json")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("scored")


@pytest.fixture(scope="module")
def scored(make_config, toy, folder):
    return run(make_config(), *toy, folder)


def test_methods_beat_prior_and_no_unfolding(scored):
    for method in ("omnifold", "ibu"):
        for baseline in ("prior", "no_unfolding"):
            assert scored[method, "triangular_mean"].high < 0.7 * scored[baseline, "triangular_mean"].low


def test_records_are_complete(scored):
    for method, seeds in (("omnifold", 2), ("ibu", 2), ("prior", 1), ("no_unfolding", 1)):
        for metric in ("triangular_mean", "triangular/alpha", "triangular/mass_j1"):
            record = scored[method, metric]
            assert (record.analysis, record.sample, record.n, record.seeds) == ("unfolding", "nature", 3000, seeds)
            assert 0 <= record.low < record.value < record.high
    assert scored["omnifold", "triangular_reco/alpha"].value < scored["prior", "triangular_reco/alpha"].value
    assert ("no_unfolding", "triangular_reco/alpha") not in scored
    # 20 bins of 3000 events each way, all of which hold events: 20 · (2/3000)/4.
    assert scored["prior", "triangular/alpha"].floor == pytest.approx(1e3 * 20 / 6000)
    assert scored["omnifold", "triangular/alpha"].floor > scored["prior", "triangular/alpha"].floor


def test_only_independent_samples_have_a_floor(scored):
    for (estimate, metric), record in scored.items():
        independent = estimate in ("omnifold", "prior") and not metric.startswith("triangular_reco")
        assert (record.floor is not None) == independent


def test_misses_and_fakes_are_corrected_for(make_config, selected_toy, tmp_path):
    scored = run(make_config(), *selected_toy, tmp_path)
    data = read_tables(selected_toy[1], unseen=True)
    true, seen = data.passed("truth"), data.passed()
    assert min((true & ~seen).sum(), (seen & ~true).sum()) > 150
    for method in ("omnifold", "ibu"):
        assert scored[method, "triangular_mean"].high < 0.7 * scored["prior", "triangular_mean"].low
        assert scored[method, "triangular_mean"].n == true.sum()
        assert scored[method, "triangular_reco_mean"].n == seen.sum()
    with h5py.File(tmp_path / "ibu_1.h5") as file:
        unfolded = file["mass_j1/unfolded"][-1].sum()
    # Data without their fakes and with their misses; the purity is the simulation's, the data having softer events.
    assert unfolded == pytest.approx(true.sum(), rel=0.06)
    simulation = read_tables(selected_toy[0], unseen=True)
    with h5py.File(tmp_path / "omnifold_1.h5") as file:
        weights = file["weights"][-1] * file.attrs["normalisation"]
    assert weights[simulation.passed()].sum() == pytest.approx(seen.sum())
    assert weights[simulation.passed("truth")].sum() == pytest.approx(true.sum(), rel=0.06)


def test_a_score_is_that_of_the_product(scored, toy, folder):
    simulation, data = (read_tables(paths).truth["mass_j1"] for paths in toy)
    edges = np.linspace(0, 75, 51)
    truth = np.histogram(data, edges)[0]
    expected = []
    for seed in (1, 2):
        with h5py.File(folder / f"omnifold_{seed}.h5") as file:
            expected.append(triangular(np.histogram(simulation, edges, weights=file["weights"][-1])[0], truth))
    assert scored["omnifold", "triangular/mass_j1"].value == pytest.approx(1e3 * np.mean(expected))
    with h5py.File(folder / "ibu_1.h5") as file:
        value = triangular(file["mass_j1/unfolded"][-1, 1:-1], truth)
    assert scored["ibu", "triangular/mass_j1"].value == pytest.approx(1e3 * value)


def test_figures_are_those_announced(make_config, scored, folder):
    assert sorted(p.stem for p in (folder / "figures").iterdir()) == sorted(figure_names(make_config()))
    spectra = read_figure(folder / "figures/unfolded_alpha.json")
    assert [h.role for h in spectra.histograms] == ["reference", "baseline", "data", "model", "model"]
    for histogram in spectra.histograms:
        assert np.sum(histogram.values * np.diff(spectra.edges)) == pytest.approx(1)
        assert np.all(np.array(histogram.errors)[np.array(histogram.values) > 0] > 0)
    triangular_points = read_figure(folder / "figures/triangular.json")
    assert list(triangular_points.series) == ["omnifold", "ibu", "prior", "no_unfolding"]
    for figure in (spectra, triangular_points):
        assert figure.notes[-1] == "OmniFold: networks not retrained on resampled data, a lower bound"
    iterations = read_figure(folder / "figures/iterations.json")
    assert [len(line.x) for line in iterations.lines] == [3, 4, 3, 4]
    assert [("scoring only" in line.label) for line in iterations.lines] == [False, False, True, True]
    weights_figure = read_figure(folder / "figures/weights.json")
    sizes = []
    for seed in (1, 2):
        with h5py.File(folder / f"omnifold_{seed}.h5") as file:
            sizes.append(effective_events(file["weights"][-1]))
    assert weights_figure.notes[-1].endswith(f"omnifold {np.mean(sizes):,.0f} of 3,000")
    (weights,) = weights_figure.lines
    assert np.sum(weights.y) == pytest.approx(1, abs=0.05)  # the median over seeds need not add up to one


def test_weights_of_events_are_taken_into_account(make_config, store, toy, tmp_path):
    """Events of weight zero change nothing but the number of records."""
    simulation, data = (read_tables(paths) for paths in toy)
    # All different: an event that occurs twice is an error.
    filling = 3 + np.linspace(0.001, 0.002, 500)
    junk = {name: np.append(values, filling) for name, values in data.columns.items()}
    junk_truth = {name: np.append(values, filling) for name, values in data.truth.items()}
    padded = Table({**junk, "weight": np.append(np.ones(3000), np.zeros(500))}, junk_truth)
    config = make_config(methods={"ibu": {"type": "ibu", "iterations": 2}})
    plain = run(config, *toy, tmp_path / "a")
    weighted = run(config, toy[0], store("padded", padded), tmp_path / "b")
    for key in plain:
        assert weighted[key].value == pytest.approx(plain[key].value, rel=1e-9)
        assert weighted[key].floor == pytest.approx(plain[key].floor)
    assert len(simulation) == 3000


def test_null_data_are_an_independent_half_of_the_simulation(make_config, store, toy, tmp_path):
    whole = read_tables(toy[0])
    half = store("a", whole[:1500]), store("b", whole[1500:])
    scored = run(make_config(), *half, tmp_path)
    for method in ("omnifold", "ibu", "prior"):
        floor = scored["prior", "triangular_mean"].floor
        # Without a difference, the floor is the mean of the prior's value; unfolding adds noise, at most doubling it.
        assert 0.4 * floor < scored[method, "triangular_mean"].value < 2 * floor


def test_same_numbers_every_time(make_config, toy, tmp_path):
    config = make_config(methods={"ibu": {"type": "ibu", "iterations": 2}})
    assert run(config, *toy, tmp_path / "a") == run(config, *toy, tmp_path / "b")


def test_a_method_without_result(make_config, toy, tmp_path):
    unfold(make_config(), "ibu", 1, *toy, tmp_path / "u.h5")
    with pytest.raises(HepgenError, match="no result of omnifold"):
        evaluate(make_config(), *toy, [tmp_path / "u.h5"], tmp_path)


def test_results_of_another_simulation(make_config, store, toy, tmp_path):
    config = make_config(
        methods={k: v.model_dump() for k, v in make_config().unfolding.methods.items() if k == "omnifold"}
    )
    unfold(config, "omnifold", 1, *toy, tmp_path / "u.h5", "cpu")
    shorter = store("shorter", read_tables(toy[0])[:2000])
    with pytest.raises(HepgenError, match="do not belong to this simulation"):
        evaluate(config, shorter, toy[1], [tmp_path / "u.h5"], tmp_path)


def test_results_in_other_bins(make_config, toy, tmp_path):
    methods = {"ibu": {"type": "ibu", "iterations": 2}}
    unfold(make_config(methods=methods), "ibu", 1, *toy, tmp_path / "u.h5")
    with pytest.raises(HepgenError, match="alpha was unfolded in other bins"):
        evaluate(make_config(methods=methods, bins=30), *toy, [tmp_path / "u.h5"], tmp_path)


def test_data_without_truth_cannot_be_scored(make_config, store, toy, tmp_path):
    measured = store("measured", Table(read_tables(toy[1]).columns))
    with pytest.raises(HepgenError, match="'nature': has no particle level"):
        evaluate(make_config(), toy[0], measured, [], tmp_path)
