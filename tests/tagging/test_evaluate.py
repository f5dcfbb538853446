"""Figures of merit from known scores: what they are, what they are held against, and on which events."""

import shutil

import h5py
import numpy as np
import pytest

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.metrics.roc import Ranking
from hepgen.metrics.two_sample import auc
from hepgen.storage import create_h5
from hepgen.tagging import studies
from hepgen.tagging.dataset import load
from hepgen.tagging.evaluate import evaluate
from hepgen.tagging.results import read_results
from hepgen.tagging.scorers import NULLS, Population, Scorer, auc_difference, separation
from hepgen.tagging.sculpting import BINS, random_cuts, sculpting

N = 8000


def population(label=None, weight=None, seed=1):
    label = np.repeat([0, 1], [N - 1000, 1000]) if label is None else label
    return Population("sample", np.arange(N), label, np.ones(N) if weight is None else weight, seed)


def measure(scores, events):
    ((_, metrics),) = separation(events, [Scorer("model", "model", scores)])
    return {metric.metric: metric for metric in metrics}


def test_the_interval_of_one_training_is_that_of_its_events():
    """The bootstrap's standard deviation of the AUC agrees with DeLong's (to 5 %: 200 replicas)."""
    events = population()
    score = np.random.default_rng(1).normal(events.label, 1)
    metric, expected = measure(score[None], events)["auc"], auc(score, events.label)
    assert metric.value == pytest.approx(expected.value, abs=1e-12)
    assert (metric.high - metric.low) / 2 == pytest.approx(expected.error, rel=0.2)


def test_every_figure_of_merit_of_a_random_score_is_near_its_null():
    events = population()
    found = measure(np.random.default_rng(2).random((5, N)), events)
    assert found.keys() == NULLS.keys()
    for name, metric in found.items():
        assert metric.low <= metric.value <= metric.high
        # Three binomial errors of 1,000 signal events in five trainings.
        few = {"abs": 3 * np.sqrt(metric.null / 5000)} if name.startswith("signal") else {}
        assert metric.value == pytest.approx(metric.null, **few or {"rel": 0.5 if "sic" in name else 0.1})


def test_a_signal_efficiency_that_leaves_less_than_an_event_is_left_out():
    label = np.repeat([0, 1], [500, N - 500])
    assert "signal_efficiency/0.001" not in measure(np.random.default_rng(1).random((1, N)), population(label))


def test_the_inverse_task_exchanges_the_classes():
    events = population()
    score = np.random.default_rng(3).normal(events.label, 1)
    inverse = measure(-score[None], events.exchanged())
    assert inverse["auc"].value == pytest.approx(measure(score[None], events)["auc"].value, abs=1e-12)
    assert inverse["signal_efficiency/0.1"].value == Ranking(-score, 1 - events.label).roc().signal_at(0.1)


def test_a_difference_is_known_better_than_its_terms():
    """Noise on a score takes its AUC from Φ(1/√2) to Φ(1/√2.25); on the same events that is known to ±0.5 %."""
    events = population()
    score = np.random.default_rng(4).normal(events.label, 1, (1, N))
    noise = np.random.default_rng(5).normal(0, 0.5, (1, N))
    (one, (auc, *_)), (other, _) = separation(
        events, [Scorer("first", "model", score), Scorer("noise", "model", score + noise)]
    )
    metric = auc_difference(events, other, one, "auc_difference/noise")
    assert (metric.model, metric.metric, metric.null) == ("noise", "auc_difference/noise", 0)
    # Three times the error of 0.5 · φ(0)/√2 of 1,000 signal events.
    assert metric.value == pytest.approx(-0.0127, abs=0.0135)
    assert metric.low < metric.value < metric.high < 0
    assert metric.high - metric.low < 0.75 * (auc.high - auc.low)


def test_the_inverse_task_is_measured_on_the_same_replicas():
    events = population()
    score = np.random.default_rng(3).normal(events.label, 1)
    (one, _), (other, _) = (
        next(separation(task, [Scorer("model", "model", sign * score[None])]))
        for task, sign in ((events, 1), (events.exchanged(), -1))
    )
    # Merged thresholds move an AUC by less than 0.001; the replicas spread by 0.008.
    np.testing.assert_allclose(one.resampled, other.resampled, atol=1e-3)
    assert one.resampled.std() > 5e-3


def sculpted(score, mass, weight=None):
    _, metrics = sculpting(population(weight=weight), [Scorer("model", "model", score[None])], "mjj", mass)
    return {metric.metric: metric for metric in metrics}


def test_a_score_that_is_the_mass_sculpts_it_wholly_and_a_random_one_not_at_all():
    rng = np.random.default_rng(1)
    mass = rng.exponential(500, N) + 2500
    for name, metric in sculpted(mass, mass).items():
        # A cut shares at most one of the 30 bins between what passes and what fails.
        assert metric.value > 0.8, name
    for name, metric in sculpted(rng.random(N), mass).items():
        assert metric.value < 3 * metric.floor, name
        assert metric.null == 0


def test_the_divergence_of_two_known_halves():
    """A cut that keeps one half, uniform where the other lies in its lower half: JSD = 1 − ¾ log₂ 3 + ½ = 0.3113."""
    events = population()
    half = np.arange(N) % 2
    mass = np.where(half, np.arange(N) % 997 / 997, np.arange(N) % 991 / 1982)
    metric = sculpted(half + 1e-6 * np.random.default_rng(1).random(N), mass)["mjj_jsd/0.5_rejected"]
    assert metric.value == pytest.approx(1.5 - 0.75 * np.log2(3), abs=0.01)
    assert metric.n == np.sum(events.label == 0)


def test_random_cuts_approach_the_divergence_of_finite_samples():
    """The mean of a small JSD is (bins − 1)/(8 ln 2) · (1/N₁ + 1/N₂) bits: χ² of its second order."""
    events = 20_000
    bins = np.random.default_rng(1).integers(0, BINS, events)
    random = random_cuts(bins, np.ones(events), 1)
    passing = 0.1 * events
    expected = (BINS - 1) / (8 * np.log(2)) * (1 / passing + 1 / (events - passing))
    middle = np.interp(0.1, random.fraction, random.quantiles[1])
    # The median of χ² of 29 degrees of freedom lies 2 % below its mean; 200 trials know it to 2 %.
    assert middle == pytest.approx(expected, rel=0.08)
    assert random.at(0.01) > random.at(0.1) > middle


def fake_scores(config, table, folder):
    """Score files of known scores: normal about the label, one for each kind."""
    files = []
    for number, (name, entry) in enumerate(config.tagging.entries.items()):
        for seed in config.tagging.seeds:
            rng = np.random.default_rng([number, seed])
            files.append(folder / f"{name}_{seed}.h5")
            with create_h5(files[-1], "scores") as file:
                for kind in entry.scores or ["default"]:
                    sign = -1 if entry.normal == "signal" else 1
                    file[f"score/{kind}"] = sign * rng.normal(table.columns["label"], 1)
                file["latent/code"] = rng.normal(size=(100, 2))
                file["latent/label"] = np.arange(100) % 2
                history = '{"train": [2.0, 1.0], "validation": []}'
                file.attrs.update({"name": name, "seed": seed, "supervised": False, "history": history})
    return files


@pytest.fixture(scope="module")
def made(settings, paths, tmp_path_factory):
    """An evaluation with several kinds of score, an inverse task, a scan and a transfer."""
    inputs = ["mass_light"]
    models = {
        "pca": {"type": "pca", "inputs": inputs, "scores": ["mse", "code"]},
        "inverse": {"type": "pca", "inputs": inputs, "normal": "signal"},
    }
    scans = {"dirt": {"models": ["pca"], "vary": "contamination", "values": [0, 0.01]}}
    samples = {**settings["samples"], "other": settings["samples"]["signal"]}
    tagging = {**settings["tagging"], "models": models, "scans": scans, "transfer": ["other"]}
    config = parse({"samples": samples, "tagging": tagging})
    paths = {**paths, "other": paths["signal"]}
    (table,) = load(config, paths, ["mjj"], ("test",))
    folder = tmp_path_factory.mktemp("scores")
    files = fake_scores(config, table, folder)
    return config, evaluate(config, paths, files, folder / "out"), files


def test_each_kind_of_score_and_each_training_of_a_scan_has_its_records(made):
    _, metrics, _ = made
    found = {(metric.sample, metric.model): metric for metric in metrics if metric.metric == "auc"}
    auc = {model: metric.value for (sample, model), metric in found.items() if sample == "qcd+signal"}
    assert auc.keys() == {"pca", "pca (code)", "pca__dirt_0_01", "inverse", "tau21_cut"}
    # Two normal distributions one standard deviation apart, for the inverse task too: Φ(1/√2) = 0.760; the errors
    # of 600 against 150 events are 0.021, divided by √2 for two trainings.
    for name in ("pca", "pca (code)", "pca__dirt_0_01", "inverse"):
        assert auc[name] == pytest.approx(0.760, abs=0.06), name
    # Further signals are held against the main background, by all that does not belong to a scan or learnt the signal.
    other = {model: metric for (sample, model), metric in found.items() if sample == "qcd+other"}
    assert other.keys() == {"pca", "pca (code)", "tau21_cut"}
    assert other["pca"].n == 600 + 300


def test_a_training_of_a_scan_is_compared_with_the_first_value(made):
    _, metrics, _ = made
    auc = {m.model: m.value for m in metrics if m.metric == "auc" and m.sample == "qcd+signal"}
    (found,) = (metric for metric in metrics if metric.metric == "auc_difference/dirt")
    assert found.model == "pca__dirt_0_01"
    assert found.value == pytest.approx(auc["pca__dirt_0_01"] - auc["pca"])
    assert found.low < 0 < found.high


def test_a_figure_that_fails_leaves_nothing(made, paths, tmp_path, monkeypatch):
    config, _, files = made
    paths = {**paths, "other": paths["signal"]}

    def fail(*_):
        raise HepgenError("no such figure")

    monkeypatch.setattr(studies, "transfer", fail)
    with pytest.raises(HepgenError, match="no such figure"):
        evaluate(config, paths, files, tmp_path / "failed")
    assert not (tmp_path / "failed").exists()


def test_scores_of_an_older_layout_are_to_be_made_again(made, tmp_path):
    config, _, (first, *others) = made
    old = tmp_path / "old.h5"
    shutil.copy(first, old)
    with h5py.File(old, "r+") as file:
        del file["score"]
        file["score"] = np.zeros(1050)
    with pytest.raises(HepgenError, match=r"holds no group 'score' of .*; score the events again"):
        read_results(config, [old, *others], 1050)


def test_missing_kinds_of_score_are_named(change, made):
    config, _, files = made
    models = {"pca": {"type": "pca", "inputs": ["mass_light"], "scores": ["elbo"]}}
    with pytest.raises(HepgenError, match="than elbo of 1050 test events; score them again"):
        read_results(change(models=models), files, 1050)
    assert read_results(config, files, 1050)["pca"].scores.keys() == {1, 2}
