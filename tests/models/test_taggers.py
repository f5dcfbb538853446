"""One contract for every registered tagger: whatever its name, arrays go in and scores come out."""

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA as SklearnPCA

from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.models import TAGGERS
from hepgen.models.autoencoders import ConvAutoencoder, DenseAutoencoder
from hepgen.models.files import load_model, save_model
from hepgen.models.linear import PCA
from hepgen.models.trees import GradientBoosting
from hepgen.training import train

# A model that takes images only is tried on these; every other one on six observables.
SHAPES = {"conv_autoencoder": (1, 8, 8)}


def make_data(shape, n=400, seed=1):
    """Background near a plane, signal anywhere, not negative."""
    rng = np.random.default_rng(seed)
    d = int(np.prod(shape))
    plane = np.abs(np.random.default_rng(0).normal(size=(2, d)))
    background = np.abs(rng.normal(size=(n, 2))) @ plane + 0.05 * rng.normal(size=(n, d))
    signal = np.abs(rng.normal(size=(n, d))) * np.abs(plane).sum(0)
    return [torch.from_numpy(np.abs(x)).float().reshape(n, *shape) for x in (background, signal)]


def build(name):
    return TAGGERS.load(name)(SHAPES.get(name, (6,)))


@cache
def fitted(name, seed=1):
    """A tagger after a short training on background, or on both classes if it is supervised."""
    background, signal = make_data(SHAPES.get(name, (6,)))
    torch.manual_seed(seed)
    model = build(name)
    if hasattr(model, "loss"):
        train(model, [background], settings=Training(epochs=15, batch_size=64), seed=seed, verbose=False)
    elif getattr(model, "supervised", False):
        labels = torch.arange(2).repeat_interleave(len(background))
        model.fit(torch.cat([background, signal]), labels, seed=seed)
    else:
        model.fit(background)
    return model


@pytest.fixture(params=TAGGERS)
def name(request):
    return request.param


def test_one_score_an_event_that_is_higher_for_signal(name):
    model = fitted(name)
    background, signal = make_data(SHAPES.get(name, (6,)), seed=2)
    with torch.no_grad():
        scores = model.score(background), model.score(signal)
    for score in scores:
        assert score.shape == (len(background),)
        assert torch.isfinite(score).all()
    assert (scores[1] > scores[0].median()).float().mean() > 0.8


def test_an_event_is_scored_by_itself(name):
    """Scores of a batch are those of its events one by one, whatever their order."""
    model = fitted(name)
    x, _ = make_data(SHAPES.get(name, (6,)), n=20, seed=3)
    with torch.no_grad():
        together, alone = model.score(x), torch.cat([model.score(event[None]) for event in x])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_unsupervised_taggers_reconstruct(name):
    model = fitted(name)
    if getattr(model, "supervised", False):
        assert not hasattr(model, "reconstruct")
        return
    x, _ = make_data(SHAPES.get(name, (6,)), seed=4)
    with torch.no_grad():
        rebuilt = model.reconstruct(x)
    assert rebuilt.shape == x.shape
    assert (rebuilt - x).square().mean() < x.var()


def test_a_saved_tagger_gives_the_same_scores_bit_by_bit(name, tmp_path):
    model = fitted(name)
    path = tmp_path / "model.safetensors"
    save_model(path, {"model": model}, {"type": name})
    parts, card = load_model(path)
    again = build(card["type"])
    again.load_state_dict(parts["model"])
    x, _ = make_data(SHAPES.get(name, (6,)), seed=5)
    with torch.no_grad():
        assert torch.equal(model.score(x), again.score(x))


def test_equal_seeds_give_equal_files(name, tmp_path):
    for run in ("a", "b"):
        save_model(tmp_path / run, {"model": fitted.__wrapped__(name)}, {"type": name, "seed": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("components", [1, 3, 5])
def test_pca_equals_scikit_learn(components):
    x, _ = make_data((6,))
    ours, theirs = PCA((6,), components=components).fit(x), SklearnPCA(components).fit(x.double().numpy())
    expected = theirs.inverse_transform(theirs.transform(x.double().numpy()))
    # Single precision of values of order one.
    np.testing.assert_allclose(ours.reconstruct(x).numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(np.abs((ours.components.numpy() * theirs.components_).sum(1)), 1, atol=1e-5)


def test_a_weight_of_pca_is_a_repeated_event():
    x, _ = make_data((6,))
    weight = torch.ones(len(x))
    weight[:100] = 3
    weighted, repeated = PCA((6,)).fit(x, weight), PCA((6,)).fit(torch.cat([x, x[:100], x[:100]]))
    torch.testing.assert_close(weighted.score(x), repeated.score(x), rtol=1e-3, atol=1e-6)


def test_a_linear_autoencoder_spans_the_subspace_of_pca():
    """Baldi and Hornik 1989: no better linear reconstruction exists, and training finds it."""
    x, _ = make_data((6,))
    x = x - x.mean(0)
    torch.manual_seed(1)
    linear = DenseAutoencoder((6,), hidden=(), latent_dim=2)
    train(linear, [x], settings=Training(epochs=150, batch_size=50, learning_rate=0.02), seed=1, verbose=False)
    best = float(PCA((6,), components=2).fit(x).score(x).mean())
    with torch.no_grad():
        assert best <= float(linear.score(x).mean()) < 1.05 * best  # of a variance 100 times as large


@pytest.mark.parametrize(("kind", "shape"), [(DenseAutoencoder, (6,)), (ConvAutoencoder, (1, 8, 8))])
def test_a_weighted_loss_is_that_of_repeated_events(kind, shape):
    x, _ = make_data(shape, n=4)
    model = kind(shape)
    weight = torch.tensor([1.0, 0.0, 2.0, 1.0])
    torch.testing.assert_close(model.loss(x, weight), model.loss(x[[0, 2, 2, 3]]))
    torch.testing.assert_close(model.loss(x, torch.ones(4)), model.loss(x))


def test_trees_balance_their_classes():
    """Ten times as much signal, or weights that say so, must not shift the scores of the odds."""
    background, signal = make_data((6,))
    x = torch.cat([background, signal[:40]])
    y = torch.cat([torch.zeros(400), torch.ones(40)])
    model = GradientBoosting((6,)).fit(x, y, torch.where(y == 1, 7.0, 1.0), seed=1)
    plain = GradientBoosting((6,)).fit(x, y, seed=1)
    torch.testing.assert_close(model.score(x), plain.score(x), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PCA((4,), components=4), "less than the 4 inputs"),
        (lambda: PCA((4,)).fit(torch.zeros(2, 4)), "2 training events cannot fix 2 components"),
        (lambda: ConvAutoencoder((4,)), "takes square images"),
        (lambda: ConvAutoencoder((1, 10, 10)), "divisible by 4"),
        (lambda: GradientBoosting((4,)).score(torch.zeros(1, 4)), "no trees yet"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(HepgenError, match=message):
        make()
