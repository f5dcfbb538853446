"""One contract for every registered tagger: whatever its name, arrays go in and scores come out."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.models import TAGGERS
from hepgen.models.files import load_model, save_model
from hepgen.models.reconstruction import Reconstructor
from hepgen.training import train

IMAGES = {"conv_autoencoder", "qcd_or_what", "farina_dense", "farina_conv", "cnn_classifier"}
CONSTITUENTS = {"constituent_autoencoder", "deep_sets"}
# Small networks and short trainings show all that the contract asks for.
SETTINGS = {"normalised_autoencoder": {"pretraining": 3, "steps": 2}}
EPOCHS = {"farina_conv": 2, "qcd_or_what": 5}
# Where all kinds of score are looked at, beside the models by their defaults.
VARIANTS = {
    "dense_autoencoder": {"beta": 0.5, "noise": 0.1, "sparsity": 0.01, "loss": "bce"},
    "conv_autoencoder": {"beta": 1.0, "noise": 0.1},
    "constituent_autoencoder": {"beta": 1.0, "noise": 0.1},
}


def shape_of(name):
    return (1, 8, 8) if name in IMAGES else (5, 3) if name in CONSTITUENTS else (6,)


def make_data(shape, n=400, seed=1):
    """Background near a plane, signal anywhere, not negative; features of order one."""
    rng = np.random.default_rng(seed)
    d = int(np.prod(shape))
    plane = np.abs(np.random.default_rng(0).normal(size=(2, d)))
    background = np.abs(rng.normal(size=(n, 2))) @ plane + 0.05 * rng.normal(size=(n, d))
    signal = np.abs(rng.normal(size=(n, d))) * np.abs(plane).sum(0)
    return [torch.from_numpy(np.abs(x)).float().reshape(n, *shape) for x in (background, signal)]


def build(name, settings=None):
    torch.manual_seed(1)
    return TAGGERS.load(name)(shape_of(name), **(SETTINGS.get(name, {}) if settings is None else settings))


def supervised(model):
    return getattr(model, "supervised", False)


class OnDemand:
    """Rows that are there when they are asked for, like those of images."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def learn(model, arrays, *, epochs=15, seed=1):
    """Train or fit, then calibrate; the losses of every epoch, if there are any."""
    history = []
    if hasattr(model, "loss"):
        settings = Training(epochs=epochs, batch_size=64, learning_rate=3e-3)
        history = train(model, arrays, settings=settings, seed=seed, verbose=False).train
    else:
        model.fit(OnDemand(arrays[0]), *arrays[1:], seed=seed)
    if hasattr(model, "calibrate"):
        model.calibrate(arrays[0])
    return history


def arrays_of(name, model, seed=1):
    """Background, or both classes and their labels for a supervised model."""
    background, signal = make_data(shape_of(name), seed=seed)
    if not supervised(model):
        return [background]
    return [torch.cat([background, signal]), torch.arange(2.0).repeat_interleave(len(background))]


@cache
def fitted(name):
    """A tagger after a short training, and its losses."""
    model = build(name)
    return model, learn(model, arrays_of(name, model), epochs=EPOCHS.get(name, 15))


@cache
def fitted_variant(name):
    """The same with the other objectives, on inputs between 0 and 1."""
    model = build(name, VARIANTS[name])
    (background,) = arrays_of(name, model)
    learn(model, [background / background.max()])
    return model


def every_kind(model, x):
    kinds = getattr(model, "kinds", ())
    with torch.no_grad():
        return torch.stack([model.score(x, kind) for kind in kinds] if kinds else [model.score(x)])


@pytest.fixture(params=TAGGERS)
def name(request):
    return request.param


def test_one_score_an_event_that_is_higher_for_signal(name):
    model, history = fitted(name)
    background, signal = make_data(shape_of(name), seed=2)
    scores = [every_kind(model, x) for x in (background, signal)]
    for score in scores:
        assert score.shape[1:] == (len(background),)
        assert torch.isfinite(score).all()
    # The signal is no harder than this: principal components find 93 % of it above the background's median.
    assert name == "constituent_autoencoder" or (scores[1][0] > scores[0][0].median()).float().mean() > 0.7
    assert not history or min(history[1:]) < history[0]


def test_events_are_scored_one_by_one_and_always_alike(name):
    """Scores of a batch are those of its events: the others of a batch, and chance, do not enter."""
    model, _ = fitted(name)
    x, _ = make_data(shape_of(name), n=20, seed=3)
    together = every_kind(model, x)
    alone = torch.cat([every_kind(model, event[None]) for event in x], dim=1)
    # Rounding counts in the distances of a code that varies little about a large mean.
    torch.testing.assert_close(together, alone, rtol=5e-3, atol=1e-5)
    assert torch.equal(together, every_kind(model, x))


def test_the_default_score_is_the_first_kind(name):
    model, _ = fitted(name)
    kinds = getattr(model, "kinds", ())
    x, _ = make_data(shape_of(name), n=20, seed=3)
    assert len(set(kinds)) == len(kinds)
    torch.testing.assert_close(model.score(x), every_kind(model, x)[0])
    if kinds:
        with pytest.raises(HepgenError, match=f"known: .*{kinds[0]}"):
            model.score(x, "nonsense")


def test_codes_lead_to_reconstructions(name):
    model, _ = fitted(name)
    if supervised(model) or not hasattr(model, "encode"):
        assert not hasattr(model, "reconstruct")
        return
    x, _ = make_data(shape_of(name), seed=4)
    with torch.no_grad():
        code, rebuilt = model.encode(x), model.reconstruct(x)
        assert torch.equal(model.decode(code), rebuilt)
    assert code.shape == (len(x), code.shape[1])
    assert rebuilt.shape == x.shape
    assert name in {*CONSTITUENTS, *EPOCHS} or (rebuilt - x).square().mean() < x.var()


def test_a_saved_tagger_gives_the_same_scores_bit_by_bit(name, tmp_path):
    model, _ = fitted(name)
    path = tmp_path / "model.safetensors"
    save_model(path, {"model": model}, {"type": name})
    parts, card = load_model(path)
    again = build(card["type"])
    again.load_state_dict(parts["model"])
    x, _ = make_data(shape_of(name), seed=5)
    assert torch.equal(every_kind(model, x), every_kind(again, x))


def test_equal_seeds_give_equal_models(name):
    states = []
    for _ in range(2):
        model = build(name)
        learn(model, [array[::4].contiguous() for array in arrays_of(name, model)], epochs=2)
        states.append(model.state_dict())
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


# Forests and boosted trees draw events at random: tests/models/test_trees.py checks their weights.
@pytest.mark.parametrize("name", [name for name in TAGGERS if name not in ("isolation_forest", "gradient_boosting")])
def test_a_weight_of_two_is_a_repeated_event(name):
    model = build(name)
    arrays = [array[:: 100 if hasattr(model, "loss") else 1] for array in arrays_of(name, model)]
    weight = torch.ones(len(arrays[0]))
    weight[::3] = 2.0
    repeated = [array.repeat_interleave(weight.long(), dim=0) for array in arrays]
    if hasattr(model, "loss"):
        expected = model.loss(*repeated) * len(repeated[0]) / len(arrays[0])
        torch.testing.assert_close(model.loss(*arrays, weight), expected, rtol=1e-4, atol=1e-6)
    else:
        again = build(name)
        model.fit(*arrays, weight, seed=1)
        again.fit(*repeated, seed=1)
        torch.testing.assert_close(model.score(arrays[0]), again.score(arrays[0]), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in TAGGERS if hasattr(TAGGERS.load(name), "loss")])
def test_gradients_are_finite_and_reach_every_weight(name):
    model = build(name)
    model.loss(*[array[::8] for array in arrays_of(name, model)]).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


def test_constant_inputs_give_finite_scores(name):
    model = build(name)
    x = torch.full((200, *shape_of(name)), 0.5)
    labels = [torch.arange(200.0) % 2] if supervised(model) else []
    learn(model, [x, *labels], epochs=2)
    assert torch.isfinite(every_kind(model, torch.cat([x[:3], x[:3] + 1]))).all()


def test_inputs_of_another_shape_are_refused(name):
    if name in IMAGES | CONSTITUENTS:
        with pytest.raises(HepgenError, match=f"{name}: inputs of shape"):
            TAGGERS.load(name)((6,))
    elif isinstance(fitted(name)[0], Reconstructor):
        with pytest.raises(HepgenError, match="the model was made for"):
            fitted(name)[0].score(torch.zeros(3, 7))


def test_its_scores_are_documented(name):
    """The table of docs/taggers.md has a row for each tagger, and the page a row for each kind of score."""
    page = (Path(__file__).parents[2] / "docs/taggers.md").read_text()
    assert f"\n| `{name}` |" in page
    for kind in getattr(fitted(name)[0], "kinds", ()):
        assert f"\n| `{kind}` |" in page


@pytest.mark.parametrize("name", VARIANTS)
def test_other_objectives_keep_the_contract(name):
    model = fitted_variant(name)
    x = make_data(shape_of(name), n=20, seed=3)[0]
    x = x / x.max()
    scores = every_kind(model, x)
    assert {"kl", "regularised" if name == "constituent_autoencoder" else "elbo"} < set(model.kinds)
    assert torch.isfinite(scores).all()
    assert torch.equal(scores, every_kind(model.train(), x))
    model.eval()
    with torch.no_grad():
        divergence, code = model.divergence(x), model.encode(x)
    assert divergence.shape == code.shape
    assert (divergence >= -1e-6).all()
    torch.testing.assert_close(divergence.sum(1), scores[model.kinds.index("kl")])
