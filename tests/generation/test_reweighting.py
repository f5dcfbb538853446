"""Reweighting: a known shift is corrected, nothing is made of noise, and the weights survive the model file."""

import sys

import numpy as np
import pytest
import torch

from hepgen.checkpoints import STOPPED
from hepgen.config import Training, parse
from hepgen.errors import HepgenError
from hepgen.generation import reweighting
from hepgen.generation import train as training
from hepgen.generation.generators import load_generator
from hepgen.generation.reweighting import fit
from hepgen.generation.sample import read_generated, sample, tabulate
from hepgen.generation.train import train
from hepgen.metrics.divergences import effective_events
from hepgen.models import TAGGERS
from hepgen.table import Table

SHIFT = 0.5
KINDS = ["gradient_boosting", "mlp_classifier"]


@pytest.fixture(autouse=True)
def short_training(monkeypatch):
    monkeypatch.setattr(reweighting, "TRAINING", Training(epochs=6, batch_size=256))


def draw(n, seed, shift=0.0):
    x = np.random.default_rng(seed).normal(shift, 1, (2, n))
    return Table({"a": x[0].astype(np.float32), "b": x[1].astype(np.float32)})


def fitted(kind, shift, weights=None):
    """Truth is a standard normal and what was generated is shifted in a and b: the log-odds are linear in a + b."""
    truth = [draw(4000, 1), draw(1000, 2)]
    made = [draw(4000, 3, shift), draw(1000, 4, shift)]
    ones = [np.ones(len(table)) for table in truth]
    return fit(kind, truth, weights(truth) if weights else ones, made, [draw(8000, k, shift) for k in (5, 6)], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shift_is_corrected(kind):
    reweighter = fitted(kind, SHIFT)
    events = draw(20_000, 7, SHIFT)
    weights = reweighter.weights(events)
    # A mean over 16,000 events fixed the normalisation; the variance of the exact weights is exp(2 SHIFT²) − 1 = 0.65.
    assert weights.mean() == pytest.approx(1, abs=5 * np.sqrt(0.65 * (1 / 16_000 + 1 / 20_000)))
    for values in events.columns.values():
        assert abs(np.average(values, weights=weights)) < 0.15 * SHIFT
    assert np.log(2) - 0.1 < reweighter.about["validation_loss"] < np.log(2) - 0.03
    # Exact weights keep exp(−2 SHIFT²) = 61 % of the events.
    assert effective_events(weights) / len(weights) == pytest.approx(np.exp(-2 * SHIFT**2), abs=0.12)
    assert reweighter.about["effective_share"] == pytest.approx(effective_events(weights) / len(weights), abs=0.05)


def test_weights_of_the_truth_are_what_is_corrected_to():
    """True events that count exp(a) times as much are a normal distribution around a = 1."""
    reweighter = fitted("gradient_boosting", 0.0, lambda truth: [np.exp(table.columns["a"]) for table in truth])
    events = draw(20_000, 7)
    means = [np.average(values, weights=reweighter.weights(events)) for values in events.columns.values()]
    # The variance of the weights is e − 1, and trees flatten the tail: a fifth of the shift.
    np.testing.assert_allclose(means, [1, 0], atol=0.2)


def test_equal_distributions_hardly_get_weights():
    assert fitted("gradient_boosting", 0.0).about["effective_share"] > 0.98


def test_a_classifier_that_only_knows_its_own_events_gives_no_weights(monkeypatch):
    """After so many rounds as fit noise, the validation loss is above a coin's."""
    monkeypatch.setattr(reweighting, "ROUNDS", [320])
    reweighter = fitted("gradient_boosting", 0.0)
    assert reweighter.about["validation_loss"] > np.log(2)
    np.testing.assert_array_equal(reweighter.weights(draw(100, 8)), 1)


def test_disjoint_events_are_clamped_and_counted(monkeypatch):
    monkeypatch.setattr(reweighting, "ROUNDS", [300])
    about = fitted("gradient_boosting", 30.0).about
    assert about["limit"] == pytest.approx(np.log(4000))
    assert about["clamped"] > 0.9 * about["events"]


@pytest.fixture
def reweighted(settings):
    settings["generation"]["models"] |= {
        "gan": settings["generation"]["models"]["gan"] | {"reweighting": "mlp_classifier"},
        "flow": settings["generation"]["models"]["flow"] | {"reweighting": "gradient_boosting"},
    }
    return settings


@pytest.mark.parametrize("model", ["gan", "flow"])
def test_weights_are_in_the_model_file_and_its_events(reweighted, paths, tmp_path, monkeypatch, capsys, model):
    monkeypatch.setattr(training, "NORMALISED", 2000)
    reweighted["generation"]["events"] = 100
    config = parse(reweighted)
    train(config, model, 1, paths, tmp_path / "m.safetensors", "cpu")
    assert f"{model}, seed 1: reweighted; validation loss 0." in capsys.readouterr().err
    trained = load_generator(tmp_path / "m.safetensors", torch.device("cpu"))
    table = tabulate(tmp_path, trained, next(trained.blocks(2000, seed="normalisation")))
    assert table.columns["weight"].dtype == np.float32
    assert table.columns["weight"].mean() == pytest.approx(1, rel=1e-5)
    assert np.ptp(table.columns["weight"]) > 0.1
    sample(config, tmp_path / "m.safetensors", paths, tmp_path / "events.h5", "cpu")
    (generated,) = read_generated([tmp_path / "events.h5"])
    assert np.ptp(generated.weights) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_stopped_before_its_product_does_not_learn_again(settings, paths, tmp_path, monkeypatch, kind):
    monkeypatch.setattr(training, "NORMALISED", 2000)
    settings["generation"]["models"]["flow"]["reweighting"] = kind
    config, output = parse(settings), tmp_path / "m.safetensors"

    def stop(*_):
        sys.exit(STOPPED)

    train(config, "flow", 1, paths, tmp_path / "whole.safetensors", "cpu")
    with monkeypatch.context() as stopped:
        stopped.setattr(training, "save", stop)
        with pytest.raises(SystemExit):
            train(config, "flow", 1, paths, output, "cpu")
    assert output.with_name("m.safetensors.checkpoint").exists()
    monkeypatch.setattr("hepgen.training._learn", None)
    monkeypatch.setattr(TAGGERS.load("gradient_boosting"), "fit", None)
    train(config, "flow", 1, paths, output, "cpu")
    assert output.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not output.with_name("m.safetensors.checkpoint").exists()


def test_no_validation_events_no_reweighting(reweighted, paths, tmp_path):
    reweighted["generation"]["validation_fraction"] = 1e-6
    with pytest.raises(HepgenError, match=r"models.gan.reweighting: needs validation events"):
        train(parse(reweighted), "gan", 1, paths, tmp_path / "m.safetensors", "cpu")
