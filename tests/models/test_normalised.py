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


@pytest.mark.parametrize("shape", [(2,), (6,), (16,), (1, 8, 8), (1, 40, 40)])
def test_energies_of_events_drawn_are_raised_whatever_the_dimension(monkeypatch, shape):
    """The gradient of their energies is negative up to 1/γ = 10 times the mean energy of training events."""
    torch.manual_seed(1)
    model, x = NormalisedAutoencoder(shape, latent_dim=2, pretraining=1), torch.randn(50, *shape)
    model.loss(x)
    energy = model.mse(x).detach()
    drawn = (energy.mean() * torch.tensor([0.1, 1.0, 9.9, 10.1])).requires_grad_()
    monkeypatch.setattr(model, "_draw", lambda n: "drawn")
    monkeypatch.setattr(model, "mse", lambda events: drawn if isinstance(events, str) else energy)
    model.loss(x).backward()
    assert (drawn.grad < 0).tolist() == [True, True, True, False]


def test_a_weight_of_two_is_a_repeated_event_after_pretraining_too(monkeypatch):
    torch.manual_seed(1)
    model, x, weight = (
        NormalisedAutoencoder((4,), pretraining=1),
        torch.randn(6, 4),
        torch.tensor([2.0] * 3 + [1.0] * 3),
    )
    repeated = x.repeat_interleave(weight.long(), dim=0)
    monkeypatch.setattr(model, "_draw", lambda n: x + 1)
    losses, temperatures = [], []
    for batch in ((x, weight), (repeated,)):
        model.batches.zero_()
        model.loss(*batch)
        temperatures.append(model.temperature.clone())
        losses.append(model.loss(*batch) * len(batch[0]))
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*temperatures)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_dim": 1}, "latent_dim: is 1; it must be at least 2"),
        ({"steps": 0}, "steps: is 0; it must be at least 1"),
        ({"regularisation": -0.1}, "regularisation: is -0.1"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(HepgenError, match=message):
        NormalisedAutoencoder((4,), **settings)


def test_a_training_that_ends_with_its_pretraining_is_refused():
    model, x = NormalisedAutoencoder((4,), pretraining=2), torch.randn(6, 4)
    model.loss(x), model.loss(x)
    with pytest.raises(HepgenError, match="all 2 batches were pretraining"):
        model.calibrate(x)
    model.loss(x)
    model.calibrate(x)


def test_no_place_of_the_buffer_is_written_twice():
    """More events than places: no more are drawn."""
    model = NormalisedAutoencoder((4,), steps=1)
    assert len(model._draw(5000)) == len(model.replay)
