"""The whole chain on a small analysis: train, score, evaluate, and what each leaves behind."""

import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.metrics.record import read_metrics
from hepgen.plots.figures import read_figure
from hepgen.storage import create_h5, open_h5
from hepgen.table import read_tables, write_table
from hepgen.tagging.evaluate import evaluate
from hepgen.tagging.figures import figure_names
from hepgen.tagging.score import score
from hepgen.tagging.scorers import NULLS
from hepgen.tagging.train import train


@pytest.fixture(scope="module")
def products(config, paths, tmp_path_factory):
    """The folder of a whole run."""
    folder = tmp_path_factory.mktemp("tagging")
    for model in config.tagging.models:
        for seed in config.tagging.seeds:
            trained = folder / "models" / model / f"{seed}.safetensors"
            train(config, model, seed, paths, trained, "cpu")
            score(config, trained, paths, folder / "scores" / model / f"{seed}.h5", "cpu")
    evaluate(config, paths, score_files(folder), folder)
    return folder


def score_files(folder):
    return sorted(folder.glob("scores/*/*.h5"))


def test_every_promised_figure_is_written_and_no_other(config, products):
    written = {path.stem for path in (products / "figures").iterdir()}
    assert written == set(figure_names(config))
    for path in (products / "figures").iterdir():
        read_figure(path)


def test_every_figure_of_merit_has_an_interval_a_null_and_a_floor(config, products):
    metrics = read_metrics(products / "metrics.json")
    scorers = [*config.tagging.models, *config.tagging.cuts]
    expected = {*NULLS, *(f"mjj_jsd/{cut}" for cut in ("0.5_rejected", "0.9_rejected", "0.99_rejected", "0.5_signal"))}
    # Of 600 background events less than one is left at an efficiency of 0.001.
    expected.remove("signal_efficiency/0.001")
    found = {(m.model, m.metric) for m in metrics}
    # Where a model lets no background pass, nothing is known of its spectrum.
    assert {(name, metric) for name in scorers for metric in expected} - found <= {("trees", "mjj_jsd/0.5_signal")}
    assert found <= {(name, metric) for name in scorers for metric in expected}
    for metric in metrics:
        assert metric.low <= metric.value <= metric.high
        if metric.metric.startswith("rejection/"):
            assert 1 <= metric.low < metric.high
        assert metric.null is not None
        assert metric.floor is not None
        assert metric.seeds == (1 if metric.model == "tau21_cut" else 2)


def test_figures_of_single_trainings_show_the_first_seed(config, products):
    histograms, images = (read_figure(products / f"figures/{name}_conv.json") for name in ("scores", "reconstruction"))
    assert histograms.notes == ["training with seed 1"]
    assert images.title.endswith("training with seed 1")
    with open_h5(products / "scores/conv/1.h5", "scores") as file:
        expected = file["images/background/reconstruction"][0]
    np.testing.assert_array_equal(images.rows[1][0].values, expected)


def test_taggers_find_the_signal(products):
    auc = {m.model: m for m in read_metrics(products / "metrics.json") if m.metric == "auc"}
    assert auc["trees"].value > 0.97
    assert auc["tau21_cut"].value > 0.9  # two normal distributions 0.35 apart, σ = 0.15: Φ(0.35 / 0.15 / √2) = 0.95
    assert auc["pca"].low > auc["pca"].floor > auc["pca"].null


def test_scores_of_an_unsupervised_model_do_not_depend_on_the_signal(config, paths, products, tmp_path):
    signal = read_tables(paths["signal"], constituents=True)
    write_table(tmp_path / "half.h5", [signal[: len(signal) // 2]])
    train(config, "dense", 1, {**paths, "signal": [tmp_path / "half.h5"]}, tmp_path / "model", "cpu")
    score(config, tmp_path / "model", paths, tmp_path / "scores.h5", "cpu")
    np.testing.assert_array_equal(read_scores(tmp_path / "scores.h5"), read_scores(products / "scores/dense/1.h5"))


@pytest.mark.parametrize("model", ["dense", "conv", "trees"])
def test_the_same_seed_gives_the_same_bytes(config, paths, products, tmp_path, model):
    train(config, model, 2, paths, tmp_path / "model", "cpu")
    score(config, tmp_path / "model", paths, tmp_path / "scores.h5", "cpu")
    assert (tmp_path / "model").read_bytes() == (products / f"models/{model}/2.safetensors").read_bytes()
    assert (tmp_path / "scores.h5").read_bytes() == (products / f"scores/{model}/2.h5").read_bytes()
    assert not np.array_equal(read_scores(tmp_path / "scores.h5"), read_scores(products / f"scores/{model}/1.h5"))


def test_no_checkpoint_is_left_beside_a_finished_model(products):
    assert not list(products.glob("models/**/*.checkpoint"))


def test_image_models_leave_examples(products):
    with open_h5(products / "scores/conv/1.h5", "scores") as file:
        assert file["images/signal/input"].shape == file["images/signal/reconstruction"].shape == (2, 16, 16)
        assert file["images/background/mean"][:].sum() == pytest.approx(1, abs=1e-4)  # normalised to the jet's pT


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (lambda n: np.zeros(n), "all .* scores equal"),
        (lambda n: np.full(n, np.nan), "not finite"),
        (lambda n: np.zeros(n - 1), "score them again"),
    ],
)
def test_bad_scores_are_refused(config, paths, products, tmp_path, scores, message):
    good = score_files(products)
    bad = tmp_path / "bad.h5"
    with open_h5(good[0]) as old, create_h5(bad, "scores") as new:
        new["score/default"] = scores(len(old["score/default"])).astype(np.float32)
        old.copy("latent", new)
        new.attrs.update({key: old.attrs[key] for key in ("name", "seed", "supervised", "history")})
    with pytest.raises(HepgenError, match=message):
        evaluate(config, paths, [bad, *good[1:]], tmp_path)


def test_a_missing_training_is_named(config, paths, products, tmp_path):
    with pytest.raises(HepgenError, match="no scores of model 'conv', seed 1"):
        evaluate(config, paths, score_files(products)[1:], tmp_path)


def read_scores(path):
    with open_h5(path, "scores") as file:
        return next(iter(file["score"].values()))[:]
