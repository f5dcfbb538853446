"""Every registered classifier is held to one contract."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.models import CLASSIFIERS
from hepgen.models.classifiers import DeepSetsClassifier, MLPClassifier
from hepgen.models.files import load_model, save_model
from hepgen.training import train

# Small networks and few trees show all that the contract asks for.
SMALL = {
    "mlp": {"hidden": [32, 32]},
    "deep_sets": {"particle": [16, 16], "summary": 4, "hidden": [32, 32]},
    "gradient_boosting": {"rounds": 100, "leaves": 4},
}
N = 5000


@pytest.fixture(params=CLASSIFIERS)
def name(request):
    return request.param


def build(name, features=2):
    return CLASSIFIERS.load(name)(features, **SMALL[name])


def sample(name, n=N, seed=1):
    """Events of both classes in turn; class 1 is shifted by one in the first of two columns: log p₁/p₀ = x₀ − ½.

    A jet has one to five constituents, in either class alike.
    """
    rng = np.random.default_rng(seed)
    y = torch.from_numpy((np.arange(n) % 2).astype(np.float32))
    x = torch.from_numpy(rng.normal(size=(n, 2)).astype(np.float32))
    x[:, 0] += y
    if not CLASSIFIERS.offers(name, "sees_constituents"):
        return [x], y
    particles = np.abs(rng.normal(size=(n, 5, 3))) * (np.arange(5) < rng.integers(1, 6, (n, 1)))[..., None]
    return [x, torch.from_numpy(particles).float()], y


def fit(name, inputs, y, w, seed=3):
    """A classifier after a short training, a fifth of the events being held out."""
    torch.manual_seed(seed)
    model = build(name, inputs[0].shape[1])
    held_out, learnt = ([column[part] for column in (*inputs, y, w)] for part in (slice(N // 5), slice(N // 5, None)))
    if hasattr(model, "fit"):
        model.fit(*learnt, validation=held_out, seed=seed)
    else:
        training = Training(epochs=8, batch_size=200, learning_rate=5e-3, patience=3)
        train(model, learnt, held_out, settings=training, seed=seed, verbose=False)
    return model


@cache
def fitted(name):
    inputs, y = sample(name)
    return fit(name, inputs, y, torch.ones(N))


def test_the_logit_is_the_log_density_ratio(name):
    inputs, _ = sample(name, seed=2)
    logits = fitted(name).predict(*inputs)
    assert (logits.shape, logits.dtype, logits.requires_grad) == ((N,), torch.float64, False)
    error = (logits - (inputs[0][:, 0] - 0.5)).square().mean().sqrt()
    # Odds of 100 events, as many as a leaf holds, are known to 0.2, and in the tails less well. A constant errs by 1.1.
    assert error < 0.35


def test_events_are_seen_one_by_one(name):
    inputs, _ = sample(name, n=20, seed=4)
    model = fitted(name)
    alone = torch.cat([model.predict(*(column[i : i + 1] for column in inputs)) for i in range(20)])
    # Products of matrices of another size may round differently in float32.
    torch.testing.assert_close(model.predict(*inputs), alone, rtol=0, atol=1e-5)


def test_labels_may_be_probabilities_and_weights_count(name):
    """Each event in both classes, with shares of its weight that make the ratio exp(x₁) times that of all."""
    inputs, _ = sample(name)
    odds = inputs[0][:, 1].exp()
    model = fit(name, inputs, odds / (1 + odds), 0.1 + 2 * (inputs[0][:, 1] > 0).float())
    # Such labels do not fluctuate: what is left is the classifier's steps and curves. A constant errs by 1.
    assert (model.predict(*inputs) - inputs[0][:, 1]).square().mean().sqrt() < 0.15


def test_events_of_zero_weight_do_not_count(name):
    inputs, y = sample(name)
    w = (inputs[0][:, 1] > 0).float()
    model = fit(name, inputs, torch.where(w > 0, y, 1.0), w)
    known = w > 0
    assert model.predict(*inputs)[known].mean() < 0.3


def test_a_seed_fixes_every_bit(name):
    inputs, y = sample(name)
    again = fit(name, inputs, y, torch.ones(N))
    assert torch.equal(again.predict(*inputs), fitted(name).predict(*inputs))


def test_what_it_is_made_for_is_known_before_it_is_imported(name):
    made_for = [CLASSIFIERS.offers(name, f"sees_{inputs}") for inputs in ("observables", "constituents")]
    cls = CLASSIFIERS.load(name)
    assert made_for == [getattr(cls, f"sees_{inputs}", False) for inputs in ("observables", "constituents")]
    assert sum(made_for) == 1
    assert hasattr(cls, "loss") != hasattr(cls, "fit")
    assert set(SMALL[name]) <= CLASSIFIERS.settings(name)


@pytest.mark.parametrize("cls", [MLPClassifier, DeepSetsClassifier])
def test_the_loss_of_a_network(cls):
    """A weight of 2 counts as two events, one of 0 as none, and a soft label as an event of each class."""
    torch.manual_seed(1)
    model = cls(2).eval()
    inputs = [torch.randn(60, 2), torch.rand(60, 4, 3)][: 1 + (cls is DeepSetsClassifier)]
    y, w = torch.rand(60), torch.randint(3, (60,)).float()
    logits = model.logit(*inputs)
    terms = w * (y * nn.functional.softplus(-logits) + (1 - y) * nn.functional.softplus(logits))
    loss = model.loss(*inputs, y, w)
    torch.testing.assert_close(loss, terms.mean())
    loss.backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.any() for p in model.parameters())


def test_padding_and_order_of_constituents_do_not_matter():
    model = DeepSetsClassifier(2).eval()
    x, particles = torch.randn(50, 2), torch.rand(50, 6, 3) + 0.1
    particles[:, 4:] = 0
    shuffled = particles[:, torch.randperm(6)]
    torch.testing.assert_close(model.predict(x, shuffled), model.predict(x, particles), rtol=0, atol=1e-6)
    moved = particles.clone()
    moved[:, 4:, 1:] = 7.0
    assert torch.equal(model.predict(x, moved), model.predict(x, particles))
    assert not torch.allclose(model.predict(x, particles.roll(1, 0)), model.predict(x, particles))


def test_trees_stop_when_the_events_held_out_do_not_gain():
    """Pure noise is not learnt: few of the trees that are allowed remain."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2000, 2, generator=generator), (torch.arange(2000) % 2).float()
    model = CLASSIFIERS.load("gradient_boosting")(2, rounds=30)
    model.fit(x[:1000], y[:1000], torch.ones(1000), validation=[x[1000:], y[1000:], torch.ones(1000)], seed=1)
    assert model.boosters[0].best_iteration < 10
    assert model.fit(x[:1000], y[:1000], seed=1).boosters[0].num_trees() == 30


@pytest.mark.parametrize("name", ["mlp", "deep_sets"])
def test_saved_and_loaded_it_predicts_the_same(name, tmp_path):
    model, other = fitted(name), build(name)
    save_model(tmp_path / "c.safetensors", {"classifier": model}, {"type": name})
    parts, _ = load_model(tmp_path / "c.safetensors")
    other.eval().load_state_dict(parts["classifier"])
    inputs, _ = sample(name, n=5)
    assert torch.equal(model.predict(*inputs), other.predict(*inputs))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLPClassifier(2, hidden=[8, 0]), r"settings\.hidden: is \[1, 8, 0\]; it must be at least 1"),
        (lambda: MLPClassifier(2, dropout=1.0), "dropout is 1.0"),
        (lambda: DeepSetsClassifier(2, summary=0), "settings.summary: is 0"),
        (lambda: DeepSetsClassifier(2, particle=[]), "settings.particle"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(HepgenError, match=message):
        make()
