"""The normalised autoencoder on events in a plane, where one sees what it is for."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.models.autoencoders import DenseAutoencoder
from hepgen.models.normalised import NormalisedAutoencoder
from hepgen.training import train

N = 1000


def annulus(seed):
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * math.pi * torch.rand(N, generator=generator)
    return (1 + torch.rand(N, 1, generator=generator)) * torch.stack([angle.cos(), angle.sin()], dim=1)


def inefficiency(model):
    """1 − AUC of points in the hole of the annulus against points of the annulus."""
    hole = 0.3 * torch.randn(N, 2, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        scores = torch.cat([model.score(annulus(2)), model.score(hole)])
    return 1 - roc_auc_score([0] * N + [1] * N, scores.numpy())


def learn(model, epochs=25):
    settings = Training(epochs=epochs, batch_size=100, learning_rate=3e-3)
    return train(model, [annulus(1)], [annulus(4)], settings=settings, seed=1, verbose=False)


def test_it_finds_what_an_ordinary_autoencoder_rebuilds_too_well():
    """A code as wide as the plane rebuilds the hole as well; the normalised one deems it unlikely.

    Measured: 0.08 and 0.02, with a statistical error of 0.006 and less; so a factor of 2 is 4 deviations away.
    """
    torch.manual_seed(1)
    plain = DenseAutoencoder((2,), hidden=(32,), latent_dim=3)
    learn(plain)
    torch.manual_seed(1)
    normalised = NormalisedAutoencoder((2,), hidden=(32,), pretraining=100, steps=5)
    history = learn(normalised)
    assert inefficiency(normalised) < inefficiency(plain) / 2
    assert history.validation == []


def test_images_are_drawn_without_negative_pixels():
    torch.manual_seed(1)
    model = NormalisedAutoencoder((1, 8, 8), pretraining=1, steps=2)
    x = torch.rand(10, 1, 8, 8)
    losses = [model.loss(x), model.loss(x)]
    losses[1].backward()
    assert all(torch.isfinite(loss) for loss in losses)
    drawn = model._draw(10)
    assert drawn.shape == x.shape
    assert (drawn >= 0).all()


def test_impossible_settings_are_refused():
    with pytest.raises(HepgenError, match="latent_dim >= 2"):
        NormalisedAutoencoder((4,), latent_dim=1)
