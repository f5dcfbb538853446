"""Variational autoencoders that events are drawn from."""

import math
from functools import cache

import pytest
import torch

from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.models.variational import VAE
from hepgen.training import train


def ring(n, seed):
    """Points at a distance of about 1.5 from the origin, shape (n, 2)."""
    generator = torch.Generator().manual_seed(seed)
    radius, angle = torch.randn(n, generator=generator), 2 * math.pi * torch.rand(n, generator=generator)
    return (1.5 + 0.15 * radius)[:, None] * torch.stack([angle.cos(), angle.sin()], dim=1)


@cache
def trained(density):
    """A plain autoencoder of the ring."""
    torch.manual_seed(1)
    model = VAE((2,), 0, latent_dim=2, hidden=[32], beta=0, density=density)
    settings = Training(epochs=6, batch_size=200, learning_rate=1e-2, clip_norm=5.0, ema=0.9)
    train(model, [ring(4000, 1), torch.empty(4000, 0)], settings=settings, seed=1, verbose=False)
    return model


def hole(model):
    """The share of the drawn points that lie in the ring's hole, where hardly any point of the ring does."""
    x = model.draw(model.noise(4000, torch.Generator().manual_seed(2)), torch.empty(4000, 0))
    return float((x.norm(dim=1) < 0.75).float().mean())


def test_codes_of_a_plain_autoencoder_are_not_gaussian():
    """They lie on a ring too: a Gaussian fills its hole (18 % of the events), a flow leaves most of it out (8 %)."""
    assert hole(trained("gaussian")) > 0.15
    assert hole(trained("flow")) < 0.12


def test_the_gaussian_is_that_of_the_codes():
    """Mean and covariance of a plain autoencoder's codes, but for what the codes still moved in the last batches."""
    model = trained("gaussian")
    codes = model.encoder(ring(4000, 3)).detach()
    torch.testing.assert_close(model.mean, codes.mean(0), atol=0.15 * float(codes.std()), rtol=0)
    torch.testing.assert_close(model.covariance, torch.cov(codes.T), atol=0.2 * float(codes.var()), rtol=0)
    torch.testing.assert_close(model.root @ model.root.T, model.covariance)


def test_loss_is_the_negative_elbo():
    """With a decoder that ignores the code and an encoder that gives the prior, it is −log p of a normal one."""
    model = VAE((3,), 1, latent_dim=2, density="normal")
    with torch.no_grad():
        for last in (model.encoder[-1], model.decoder[-1]):
            last.weight.zero_()
            last.bias.zero_()
        model.log_deviation.fill_(math.log(2 - 1e-3))
    x, c, weight = torch.randn(50, 3), torch.randn(50, 1), torch.rand(50)
    expected = -torch.distributions.Normal(0.0, 2.0).log_prob(x).sum(1)
    torch.testing.assert_close(model.loss(x, c), expected.mean())
    torch.testing.assert_close(model.loss(x, c, weight), (expected * weight).mean())


def test_the_flow_leaves_the_encoder_alone():
    """Codes' density is learnt by the flow only: the encoder's gradient is that of the rest of the loss."""
    x, c = torch.randn(100, 3), torch.empty(100, 0)
    gradients = []
    for density in ("normal", "flow"):
        torch.manual_seed(1)
        model = VAE((3,), 0, latent_dim=2, density=density).eval()
        model.loss(x, c).backward()
        gradients.append(model.encoder[0].weight.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shape": (1, 8, 8)}, "it makes features"),
        ({"beta": -1}, "settings.beta: is -1"),
        ({"latent_dim": 1}, "settings.latent_dim: is 1; it must be at least 2"),
        ({"beta": 0, "density": "normal"}, "it must be gaussian or flow"),
        ({"density": "uniform"}, "it must be normal or gaussian or flow"),
    ],
)
def test_unfit_settings(settings, message):
    settings = {"shape": (3,), "conditions": 0, "density": "flow"} | settings
    with pytest.raises(HepgenError, match=message):
        VAE(**settings)
