import subprocess
import sys

import numpy as np
import pytest

from hepgen.config import parse
from hepgen.metrics.record import Metric
from hepgen.plots.figures import Axis, Points, Scatter
from hepgen.tagging import figures, latent, studies
from hepgen.tagging.scorers import Population, Scorer, passing, separation
from hepgen.tagging.sculpting import BINS, random_cuts

N = 20_000
LABEL = np.arange(N) % 2
MASS = Axis(label="mass [GeV]")
BACKGROUND = Population("sample", np.arange(N), np.zeros(N), np.ones(N), 1)


def scorer(*scores, name="model", role="model", **settings):
    return Scorer(name, role, np.stack(scores), **settings)


def measured(*scores):
    population = Population("sample", np.arange(N), LABEL, np.ones(N), 1)
    return [one for one, _ in separation(population, [scorer(*scores)])]


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.fixture
def mass(rng):
    return rng.exponential(500, N) + 2500


def test_names_need_no_torch():
    code = "import sys, hepgen.tagging.figures; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names_follow_from_the_configuration(change):
    scans = {
        "dirt": {"models": ["pca"], "vary": "contamination", "values": [0, 0.01]},
        "free": {"models": ["dense"], "vary": "decorrelation.method", "values": ["planing", "quantiles"]},
    }
    names = figures.figure_names(change(scans=scans, profiles=["mass_light"], samples=["qcd"], transfer=["signal"]))
    assert len(set(names)) == len(names)
    assert {"roc_observables", "sic_images", "scan_dirt", "rejection_scan_dirt", "sculpting_scan_free"} < set(names)
    assert {"passing_mass_light", "training_observables", "training_images"} < set(names)
    assert {"transfer", "profile_mjj", "profile_mass_light", "latent_dense", "interpolation_conv"} < set(names)
    assert not {"latent_trees", "interpolation_dense", "roc_constituents", "scores_pca__dirt_0_01"} & set(names)


def test_a_random_score_lies_on_its_guide(rng):
    figure = figures.roc_curves(measured(*rng.random((3, N))), "images")
    line, guide = figure.lines
    expected = np.interp(line.x, guide.x, guide.y)
    # 10,000 events of each class: 2 % at εS = 0.25; three of these.
    wide = np.array(line.x) > 0.25
    np.testing.assert_allclose(np.array(line.y)[wide], expected[wide], rtol=0.06)
    assert np.all(np.array(line.low) <= line.high)


def test_curves_end_where_no_background_is_left(rng):
    score = np.where(LABEL == 1, 2 + rng.random(N), rng.random(N))
    score[:200:2] = 2.5  # 1 % of background in the midst of the signal
    line = figures.sic_curves(measured(score), "images").lines[0]
    assert min(line.x) == pytest.approx(0.51, abs=0.02)


def test_a_perfect_score_has_no_curve(rng):
    for curves in (figures.roc_curves, figures.sic_curves):
        perfect, random, *_ = curves(measured(LABEL + rng.random(N)), "images").lines
        assert not perfect.x
        assert random.label == "random"


def test_the_floors_of_a_small_sample_are_numbers_of_events(rng):
    """Of 10,000 background events the published efficiency leaves none; the line is drawn at 6 of them."""
    *_, published, events = figures.sic_curves(measured(rng.random(N)), "images").lines
    for line, floor in ((published, 6e-4), (events, 2.5e-3)):
        assert line.y[-1] / line.x[-1] == pytest.approx(1 / np.sqrt(floor))
        assert f"{floor:.2g}" in line.label


@pytest.mark.parametrize("rejection", [0.5, 0.9, 0.99])
def test_a_cut_rejects_a_fraction_of_the_weight(rng, rejection):
    score = rng.random(N)
    left = passing(score, score**3, rejection)
    # To within one event of the largest weight.
    assert np.sum(score[left] ** 3) / np.sum(score**3) == pytest.approx(1 - rejection, abs=4 / N)


def test_a_score_that_does_not_know_the_mass_has_a_flat_profile(rng, mass):
    line = figures.profile(BACKGROUND, [scorer(rng.random(N))], mass, MASS).lines[0]
    # The median of 2,000 uniform numbers has an error of 0.5/√2000 = 0.011; four of these.
    np.testing.assert_allclose(line.y, 0.5, atol=0.045)


def test_a_cut_shows_what_a_flat_median_hides(rng, mass):
    """A score whose tail alone is made of large masses, beside one that is random."""
    tail = np.where(mass > np.quantile(mass, 0.9), rng.choice([-1, 2], N), 0) + rng.random(N)
    lines = figures.profile(BACKGROUND, [scorer(tail)], mass, MASS).lines
    np.testing.assert_allclose(lines[0].y[:-1], 0.5, atol=0.07)
    shown = [scorer(tail), scorer(rng.random(N))]
    biased, flat, guide = figures.passing_fractions(BACKGROUND, shown, mass, MASS).lines
    assert biased.y[-1] == pytest.approx(0.5, abs=0.04)
    # The error of 10 % of 2,000 events; four of these.
    assert guide.high[0] - 0.1 == pytest.approx(np.sqrt(0.09 / 2000))
    np.testing.assert_allclose(flat.y, 0.1, atol=4 * (guide.high[0] - 0.1))


def test_the_mass_itself_has_the_steepest_profile(mass):
    line = figures.profile(BACKGROUND, [scorer(mass)], mass, MASS).lines[0]
    np.testing.assert_allclose(line.y, np.linspace(0.05, 0.95, 10), atol=1e-3)


def test_weights_enter_the_profile(mass):
    """Weights that favour large masses push the quantile of every mass down."""
    weighted = Population("sample", np.arange(N), np.zeros(N), mass - 2500, 1)
    line = figures.profile(weighted, [scorer(mass)], mass, MASS).lines[0]
    # The quantile of t = (m − 2500)/500 under the weighted density t exp(−t) is 1 − (1 + t) exp(−t).
    t = (np.array(line.x) - 2500) / 500
    np.testing.assert_allclose(line.y, 1 - (1 + t) * np.exp(-t), atol=0.05)


def test_a_random_cut_leaves_the_mass_spectrum_alone(rng, mass):
    population = Population("sample", np.arange(N), np.zeros(N), rng.exponential(1, N), 1)
    reference, *cuts = figures.mass_spectra(population, scorer(rng.random(N)), mass, MASS).histograms
    assert [cut.label for cut in cuts] == ["50 % rejected", "90 % rejected", "99 % rejected"]
    for cut in cuts[:2]:
        errors = np.array(cut.errors)[:10]
        pulls = (np.array(cut.values) - reference.values)[:10] / errors
        assert np.sum(pulls**2) < 25.2  # χ² of 10 bins, p = 0.5 %


def test_score_histograms_have_unit_area(rng):
    population = Population("sample", np.arange(N), LABEL, np.ones(N), 1)
    figure = figures.score_histograms(population, scorer(rng.normal(LABEL, 1)), 7)
    assert figure.notes == ["training with seed 7"]
    for histogram in figure.histograms:
        assert np.sum(np.array(histogram.values) * np.diff(figure.edges)) == pytest.approx(1, abs=0.01)


def record(model, metric, value, sample="qcd+signal"):
    common = {"analysis": "tagging", "sample": sample, "model": model, "metric": metric, "floor": 0.01, "n": 9}
    return Metric(**common, value=value, low=0.9 * value, high=1.1 * value)


@pytest.fixture
def scanned(change):
    """Scans of a number with a wide range and of a word, and the AUC of their trainings."""
    dirt = {"models": ["pca"], "vary": "contamination", "values": [0.1, 0, 0.001]}
    kind = {"models": ["pca"], "vary": "preprocessing", "values": ["standard", "scale"]}
    config = change(scans={"dirt": dirt, "kind": kind})
    names = [name for scan in config.tagging.scans for name, _, _ in config.tagging.points(scan, "pca")]
    records = [record(name, "auc", 0.5 + 0.01 * number) for number, name in enumerate(dict.fromkeys(names))]
    return config, studies.Records(records, "qcd+signal")


def test_a_scan_of_numbers_is_in_their_order_and_has_a_place_for_0(scanned):
    figure = studies.scan(scanned[0], "dirt", scanned[1])["scan"]
    assert isinstance(figure, Scatter)
    (group,) = figure.groups
    assert [x for x, _, _ in group.x] == [0, 0.001, 0.1]
    assert [y for y, _, _ in group.y] == [0.51, 0.52, 0.5]
    assert figure.x.log
    assert figure.x.linear == 0.001


def test_a_scan_of_words_is_made_of_categories(scanned):
    figure = studies.scan(scanned[0], "kind", scanned[1])["scan"]
    assert isinstance(figure, Points)
    assert figure.categories == ["standard", "scale"]
    assert [bar[0] for bar in figure.series["pca"]] == [0.53, 0.54]


def test_a_scan_of_auc_says_how_far_each_value_lies_above_the_first(scanned):
    config, records = scanned
    found = [*records.found.values(), record("pca", "auc_difference/dirt", 0.01)]
    figure = studies.scan(config, "dirt", studies.Records(found, "qcd+signal"))["scan"]
    assert figure.notes[-1] == "pca, AUC above that at 0.1 on the same events: 0: +0.010 [+0.009, +0.011]"


def test_merits_are_sorted_and_leave_out_what_was_not_measured(change):
    scores = np.zeros((1, 2))
    scorers = [scorer(scores[0], name=name, role=role) for name, role in [("a", "model"), ("b", "cut"), ("c", "model")]]
    records = [record("a", "auc", 0.6), record("b", "auc", 0.7), record("a", "mjj_jsd/0.9_rejected", 0.2)]
    pca = {"type": "pca", "inputs": ["mass_light"]}
    config = change(models={"a": {**pca, "events": 3000}, "b": {**pca, "events": 3000}, "c": pca})
    found = studies.merits(config, scorers, studies.Records(records, "qcd+signal"))
    assert found["auc"].categories == ["b", "a"]
    assert found["auc"].series["single cuts"][0][0] == 0.7
    assert found["auc"].series["unsupervised"][0] is None
    assert found["jsd"].categories == ["a"]
    assert found["auc"].notes[-1] == "a, b: 3,000 training events at most"


def test_a_dimension_that_carries_nothing_is_collapsed(rng):
    """The KL divergence of N(μ, σ²) to N(0, 1) is 0 where nothing is encoded."""
    code = np.stack([1e-3 * rng.normal(size=2000), rng.normal(size=2000)], axis=1)
    plain = {"code": 5 * code, "label": np.zeros(2000)}
    variational = {"code": code, "label": np.zeros(2000), "divergence": np.tile([0.0, 2.0], (2000, 1))}
    for latents in ([plain], [variational, variational]):
        figure = latent.collapse("vae", latents, 0)
        assert figure.notes[0] == f"active dimensions of 2, by training: {', '.join(['1'] * len(latents))}"
        deviation, *divergence = figure.series.values()
        assert deviation[0][0] == pytest.approx(1, abs=0.05)
        assert deviation[1][0] < figure.floor[1]
        assert [[bar[0] for bar in bars] for bars in divergence] == ([[2, 0]] if len(latents) > 1 else [])


def test_a_corner_shows_the_most_active_dimensions(rng):
    code = rng.normal(0, [3, 1e-6, 2, 2, 2, 2, 2], (1000, 7))
    figure = latent.corner("ae", [{"code": code, "label": np.arange(1000) % 2}], 1)
    assert [axis.label for axis in figure.axes] == ["$z_{1}$", *(f"$z_{{{d}}}$" for d in range(3, 8))]
    for layer in figure.layers:
        assert len(layer.pairs) == 15
        for density, (low, high) in zip(layer.pairs, layer.levels, strict=True):
            values = np.array(density)
            # A contour holds its share to within its last bin.
            assert values[values >= low].sum() == pytest.approx(0.95, abs=0.02)
            assert values[values >= high].sum() == pytest.approx(0.68, abs=0.02)


def test_a_corner_of_one_class_shows_that_class(rng):
    figure = latent.corner("ae", [{"code": rng.normal(size=(500, 2)), "label": np.ones(500)}], 1)
    assert [layer.label for layer in figure.layers] == ["signal"]


def test_the_strengths_of_a_decorrelation_are_joined_in_their_order(rng):
    sample = {"source": "arrays", "path": "t.npy", "columns": {"mjj": 0}}
    model = {"type": "dense_autoencoder", "inputs": ["mjj"], "decorrelation": {"method": "disco", "strength": 1}}
    scans = {"lambda": {"models": ["free", "back"], "vary": "decorrelation.strength", "values": [10, 0]}}
    models = {"free": model, "other": {**model, "decorrelation": None}, "back": {**model, "normal": "signal"}}
    tagging = {"samples": ["qcd"], "models": models, "scans": scans}
    config = parse({"samples": {"qcd": sample}, "tagging": tagging})
    values = {"free__lambda_10": (5, 0.01), "free__lambda_0": (20, 0.2), "free": (15, 0.1), "other": (12, 0.3)}
    values |= {"back": (9, 0.1), "back__lambda_10": (8, 0.1), "back__lambda_0": (7, 0.1)}
    records = [
        record(name, metric, value, "qcd")
        for name, pair in values.items()
        for metric, value in zip(("rejection/0.5", "mjj_jsd/0.5_signal"), pair, strict=True)
    ]
    scorers = [
        scorer(np.zeros(2), name=name, scanned="__" in name, exchanged=name.startswith("back")) for name in values
    ]
    random = random_cuts(rng.integers(0, BINS, 2000), np.ones(2000), 1)
    figure = studies.pareto(config, scorers, studies.Records(records, "qcd"), random)
    path, *others = figure.groups
    assert path.joined
    assert [x[0] for x in path.x] == [20, 5]
    assert [y[0] for y in path.y] == pytest.approx([5, 100])
    assert [group.label for group in others] == ["free", "other"]
