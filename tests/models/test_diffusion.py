"""Diffusion and flow matching, for tables and for jets' constituents."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.models import GENERATORS
from hepgen.models.diffusion import Diffusion, FlowMatching
from hepgen.training import train

NAMES = ["diffusion", "flow_matching"]
MEAN, DEVIATION = torch.tensor([0.5, -1.0]), torch.tensor([0.3, 2.0])
NUMBER = 6


class Ideal(nn.Module):
    """What a perfect network answers where the events are normal with `MEAN` and `DEVIATION`, independent."""

    shape, uniforms = (2,), 0

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, z, t, c, mask):
        if isinstance(self.model, FlowMatching):
            signal, noise = t, 1 - (1 - 1e-4) * t
            variance = (signal * DEVIATION).square() + noise**2
            slope = (signal * DEVIATION**2 - (1 - 1e-4) * noise) / variance
            return MEAN + slope * (z - signal * MEAN)
        kept = self.model.kept[(t * self.model.steps).round().long()]
        return (1 - kept).sqrt() * (z - kept.sqrt() * MEAN) / (kept * DEVIATION**2 + 1 - kept)

    def draw_mask(self, u, c):
        return c.new_ones(1, 1)

    def leave(self, z, mask):
        return z


def jets(n, conditions=0):
    """Sorted constituents of unit pT in all, (n, 6, 3), 2 to 6 of them, and conditions."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n, NUMBER, 3, generator=generator) + 0.1
    x = x * (torch.arange(NUMBER) < torch.randint(2, NUMBER + 1, (n, 1), generator=generator))[..., None]
    x[..., 0] = 4 * x[..., 0].sort(1, descending=True)[0] / x[..., :1].sum(1)
    return x, torch.randn(n, conditions, generator=generator)


def cloud(name, conditions=0, **settings):
    torch.manual_seed(1)
    return GENERATORS.load(name)((NUMBER, 3), conditions, hidden=8, blocks=1, **settings)


def seeded(seed=2):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("model", "tolerance"), [(FlowMatching((2,), 0), 1e-3), (Diffusion((2,), 0), 0.08)], ids=["flow_matching", "ddim"]
)
def test_a_perfect_network_carries_noise_to_the_events(model, tolerance):
    """A point of the noise goes to mean + deviation · point, but for what 50 calls leave: 2e-4 and 0.07."""
    model.network = Ideal(model)
    noise = torch.randn(1000, 2, generator=seeded())
    drawn = (model.draw(noise, torch.empty(1000, 0)) - MEAN) / DEVIATION
    torch.testing.assert_close(drawn, noise, atol=tolerance, rtol=0)


def test_the_steps_of_ddim_are_of_second_order():
    """Twice as many leave 1 / 2.6 of the error, a quarter in the limit; half of it at first order."""

    def error(steps):
        model = Diffusion((2,), 0, sampling_steps=steps)
        model.network = Ideal(model)
        noise = torch.randn(1000, 2, generator=seeded())
        return ((model.draw(noise, torch.empty(1000, 0)) - MEAN) / DEVIATION - noise).abs().max()

    assert error(100) < error(50) / 2.4


def test_ancestral_draws_have_the_right_moments():
    """Four standard errors of the moments of 20,000 draws, and the 2.5 % that 200 steps instead of 1000 leave."""
    model = Diffusion((2,), 0, sampler="ancestral", sampling_steps=200)
    model.network = Ideal(model)
    noise = model.noise(20_000, seeded())
    assert noise.shape == (20_000, 400)
    x = model.draw(noise, torch.empty(20_000, 0))
    torch.testing.assert_close((x.mean(0) - MEAN) / DEVIATION, torch.zeros(2), atol=4 / math.sqrt(20_000), rtol=0)
    torch.testing.assert_close(x.std(0) / DEVIATION, torch.ones(2), atol=0.025 + 4 / math.sqrt(40_000), rtol=0)


def test_cosine_schedule_is_the_published_one():
    """ᾱ(t) = cos²((t/T + s)/(1 + s) · π/2) / cos²(s/(1 + s) · π/2), s = 0.008, wherever β is below 0.999."""
    kept = Diffusion((2,), 0, steps=100).kept.double().numpy()
    t = np.arange(100) / 100
    expected = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2 / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
    np.testing.assert_allclose(kept[:-1], expected, rtol=1e-5)
    assert kept[-1] == pytest.approx(1e-3 * kept[-2])


def test_the_last_time_may_be_rounded_to_one():
    model, z = Diffusion((2,), 0), torch.ones(1, 2)
    noisy, told, target = model.mix(z, -z, torch.ones(1, 1))
    assert told.item() == 1
    torch.testing.assert_close(noisy, target, atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_learns_two_lines_that_a_condition_chooses_from(name):
    """The line is at ±1 as the condition says: 80 steps bring events to 0.13 and 0.28 of it, from 1 without it."""
    torch.manual_seed(1)
    c = torch.randint(0, 2, (2000, 1)) * 2.0 - 1
    x = torch.cat([c + 0.1 * torch.randn(2000, 1), torch.randn(2000, 1)], dim=1)
    model = GENERATORS.load(name)((2,), 1, hidden=32, blocks=1)
    settings = Training(epochs=8, batch_size=200, learning_rate=5e-3, ema=0.9)
    train(model, [x, c], settings=settings, seed=1, verbose=False)
    drawn = model.draw(model.noise(2000, seeded()), c)
    assert (drawn[:, :1] - c).abs().mean() < 0.4


@pytest.mark.parametrize("name", NAMES)
def test_evaluation_has_the_same_loss_every_time(name):
    model, (x, c) = cloud(name).eval(), jets(50)
    assert model.loss(x, c) == model.loss(x, c)
    model.train()
    assert model.loss(x, c) != model.loss(x, c)


@pytest.mark.parametrize("name", NAMES)
def test_weights_count_events(name):
    """A weight of 0 leaves an event out; the mean is over all."""
    model, (x, c) = cloud(name).eval(), jets(50)
    weight = torch.zeros(50)
    weight[7] = 50.0
    other = x.clone()
    other[:7] *= 2
    assert model.loss(x, c, weight) == model.loss(other, c, weight)
    assert model.loss(x, c, torch.ones(50)) == model.loss(x, c)


@pytest.mark.parametrize("name", NAMES)
def test_jets_are_sorted_padded_and_share_their_pt(name):
    model, (x, c) = cloud(name, conditions=1), jets(500, conditions=1)
    model.loss(x, c)
    y = model.draw(model.noise(500, seeded()), c)
    pt = y[..., 0]
    number = (pt > 0).sum(1)
    assert (pt.diff(dim=1) <= 0).all()
    assert set(number.tolist()) <= set(range(1, NUMBER + 1))
    assert not y[pt == 0].any()
    torch.testing.assert_close(pt.sum(1)[number < NUMBER], torch.full_like(pt[number < NUMBER, 0], 4.0))
    assert (pt.sum(1)[number == NUMBER] < 4 + 1e-5).all()


def test_jets_leave_as_they_entered():
    model, (x, _) = cloud("flow_matching"), jets(500)
    z, mask = model.network.enter(x)
    inside = z[mask[..., 0] > 0]
    torch.testing.assert_close(inside.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(inside.std(0), torch.ones(3))
    torch.testing.assert_close(model.network.leave(z, mask), x)
    torch.testing.assert_close(model.network.leave(z[:, [1, 0, *range(2, NUMBER)]], mask), x)


def test_numbers_of_constituents_follow_their_probabilities():
    """The inverse of the cumulative distribution on an even grid: each share is right to one point of the grid."""
    network = cloud("flow_matching", conditions=1).network
    u = (torch.arange(1000)[:, None] + 0.5) / 1000
    c = torch.full((1000, 1), 0.7)
    number = network.draw_mask(u, c).sum((1, 2)).long()
    shares = torch.bincount(number, minlength=NUMBER + 1)[1:] / 1000
    surprise = torch.stack(
        [network.surprise((torch.arange(NUMBER) < k)[None, :, None].float(), c[:1])[0] for k in range(1, NUMBER + 1)]
    )
    torch.testing.assert_close(shares, (-surprise).exp(), atol=1.1e-3, rtol=0)


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((1, 8, 8), {}, "it makes features or a jet's constituents"),
        ((8, 4), {}, "it makes features or a jet's constituents"),
        ((3,), {"sampling_steps": 0}, "settings.sampling_steps: is 0"),
        ((3,), {"steps": 10}, "settings.steps: is 10; it must be at least 50"),
        ((3,), {"blocks": 0}, "settings.blocks: is 0"),
        ((3,), {"sampler": "euler"}, "must be ddim or ancestral"),
    ],
)
def test_unfit_settings(shape, settings, message):
    with pytest.raises(HepgenError, match=message):
        Diffusion(shape, 0, **settings)
