"""Every registered classifier is held to one contract."""

import numpy as np
import pytest
import torch

from hepgen.config import Training
from hepgen.models import CLASSIFIERS
from hepgen.models.files import load_model, save_model
from hepgen.training import train

pytestmark = pytest.mark.parametrize("name", list(CLASSIFIERS))
SETTINGS = Training(epochs=20, batch_size=256, learning_rate=3e-3)


def fitted(name, x, y, w, seed=3):
    torch.manual_seed(seed)
    model = CLASSIFIERS.load(name)(x.shape[1])
    train(model, [x, y, w], settings=SETTINGS, seed=seed, verbose=False)
    return model


def two_gaussians(n, rng, shift=1.0):
    """Class 1 is shifted by one in the first of two columns, so that log p₁/p₀ = x₀ − ½."""
    y = torch.from_numpy((np.arange(n) % 2).astype(np.float32))
    x = torch.from_numpy(rng.normal(size=(n, 2)).astype(np.float32))
    x[:, 0] += shift * y
    return x, y


def test_loss_has_gradients_and_logits_have_one_per_event(name):
    model = CLASSIFIERS.load(name)(3)
    x, y, w = torch.randn(8, 3), torch.rand(8), torch.rand(8)
    loss = model.loss(x, y, w)
    loss.backward()
    assert loss.shape == ()
    assert model.logit(x).shape == (8,)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


def test_prediction_in_parts_equals_the_logits(name):
    model = CLASSIFIERS.load(name)(3).eval()
    x = torch.randn(50, 3)
    assert model.predict(x, batch_size=7).dtype == torch.float64
    # Products of matrices of another size may round differently in float32.
    torch.testing.assert_close(model.predict(x, batch_size=7), model.logit(x).double(), rtol=0, atol=1e-5)


def test_logit_is_the_log_density_ratio(name):
    x, y = two_gaussians(8000, np.random.default_rng(1))
    model = fitted(name, x, y, torch.ones(len(x)))
    points = torch.stack([torch.linspace(-1, 2, 13), torch.zeros(13)], 1)
    # 4000 events a class fix the slope to 0.03; networks of 20 k parameters stay within 0.25.
    assert (model.predict(points) - (points[:, 0] - 0.5)).abs().max() < 0.25


def test_a_weight_of_two_counts_as_two_events(name):
    torch.manual_seed(1)
    model = CLASSIFIERS.load(name)(2).eval()
    x, y = two_gaussians(100, np.random.default_rng(2))
    w = torch.ones(100)
    w[:10] = 2
    doubled = model.loss(torch.cat([x, x[:10]]), torch.cat([y, y[:10]]), torch.ones(110)) * 110 / 100
    torch.testing.assert_close(model.loss(x, y, w), doubled, rtol=1e-5, atol=0)


def test_events_of_zero_weight_are_ignored(name):
    model = CLASSIFIERS.load(name)(2).eval()
    x, y = two_gaussians(100, np.random.default_rng(2))
    w = (torch.arange(100) < 50).float()
    changed = torch.where(w[:, None] > 0, x, 100.0)
    assert model.loss(x, y, w) == model.loss(changed, y, w)


def test_a_soft_label_stands_for_an_event_of_each_class(name):
    model = CLASSIFIERS.load(name)(2).eval()
    x, _ = two_gaussians(60, np.random.default_rng(2))
    y, ones = torch.rand(60), torch.ones(60)
    both = model.loss(torch.cat([x, x]), torch.cat([ones, 0 * ones]), torch.cat([y, 1 - y]))
    torch.testing.assert_close(model.loss(x, y, ones), 2 * both, rtol=1e-5, atol=0)


def test_any_setting_may_be_left_out(name):
    assert "features" not in CLASSIFIERS.settings(name)
    CLASSIFIERS.check_settings(name, ["hidden"])
    assert CLASSIFIERS.load(name)(4, hidden=[8]).logit(torch.zeros(2, 4)).shape == (2,)


def test_saved_and_loaded_it_predicts_the_same(name, tmp_path):
    model, other = (CLASSIFIERS.load(name)(2).eval() for _ in range(2))
    save_model(tmp_path / "c.safetensors", {"classifier": model}, {"type": name})
    parts, _ = load_model(tmp_path / "c.safetensors")
    other.load_state_dict(parts["classifier"])
    x = torch.randn(5, 2)
    assert torch.equal(model.logit(x), other.logit(x))
