"""Generative adversarial networks: their losses, and what each promises beyond the contract of generators."""

import math

import pytest
import torch
from torch import nn

from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.models import GENERATORS, image_gans
from hepgen.models.files import load_model, save_model
from hepgen.models.gans import GAN, DijetGAN, TableGAN
from hepgen.models.image_gans import DCGAN, LAGAN, LocallyConnected
from hepgen.training import Adversarial, train


class Slope(nn.Module):
    """A discriminator that is linear in the events, whose gradient is thus known."""

    def __init__(self, *slope):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, x, c):
        return x @ self.slope


def pair(*slope, **settings):
    """Generated events are (0, 0), whatever the noise."""
    generator = nn.Linear(3, 2)
    for parameter in generator.parameters():
        nn.init.zeros_(parameter)
    return GAN(generator, Slope(*slope), 3, **settings)


X, NOTHING = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.empty(2, 0)


def test_non_saturating_losses():
    """By hand: −ln σ(D(x)) − ln(1 − σ(0)) and −ln σ(0)."""
    gan = pair(3.0, 4.0)
    true = [math.log1p(math.exp(-3)), math.log1p(math.exp(-8))]
    assert gan.discriminator_loss(X, NOTHING).item() == pytest.approx(sum(true) / 2 + math.log(2))
    assert gan.generator_loss(X, NOTHING).item() == pytest.approx(math.log(2))
    weighted = gan.discriminator_loss(X, NOTHING, torch.tensor([0.5, 1.5]))
    assert weighted.item() == pytest.approx((0.5 * true[0] + 1.5 * true[1]) / 2 + math.log(2))


def test_wasserstein_losses():
    """The gap of the scores 0 and (3, 8), and ten times (5 − 1)², as the gradient is (3, 4) everywhere."""
    gan = pair(3.0, 4.0, objective="wgan_gp")
    assert gan.discriminator_steps == 5
    loss = gan.discriminator_loss(X, NOTHING)
    assert loss.item() == pytest.approx(-5.5 + 10 * 16)
    assert gan.generator_loss(X, NOTHING).item() == 0
    loss.backward()
    # −mean of x, and 10 · 2 · (5 − 1) · slope / 5
    torch.testing.assert_close(gan.discriminator.slope.grad, torch.tensor([-0.5 + 48, -1.0 + 64]))


def test_the_penalty_is_taken_between_true_and_generated_events():
    gan = pair(1.0, 1.0, objective="wgan_gp")
    seen = []
    gan.discriminator.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    gan.discriminator_loss(X, NOTHING)
    share = seen[-1].sum(1) / X.sum(1)
    torch.testing.assert_close(seen[-1].detach(), X * share.detach()[:, None])
    assert ((share > 0) & (share < 1)).all()


def test_flipped_labels():
    """With D = 0 for generated and 20 for true events a wrong label costs 20; 5000 tosses: 4 standard deviations."""
    gan = pair(20.0, 20.0, flips=0.05)
    torch.manual_seed(1)
    loss = gan.discriminator_loss(torch.tensor([[1.0, 0.0]]).repeat(5000, 1), torch.empty(5000, 0))
    assert (loss.item() - math.log(2)) / 20 == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / 5000))


def test_spectral_norm(tmp_path):
    """Every weight's largest singular value is 1, and the model is still a file of tensors."""
    torch.manual_seed(1)
    build = {"hidden": [8], "spectral_norm": True}
    gan = TableGAN((2,), 1, **build)
    x, c = torch.randn(64, 2), torch.randn(64, 1)
    for _ in range(50):
        gan.discriminator_loss(x, c)
    for layer in gan.discriminator[::2]:
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=1e-3)
    save_model(tmp_path / "model", {"network": gan}, {})
    copy = TableGAN((2,), 1, **build)
    copy.load_state_dict(load_model(tmp_path / "model")[0]["network"])
    assert torch.equal(copy.eval().discriminator(x, c), gan.eval().discriminator(x, c))


def test_table_gan_learns_what_it_is_told():
    """Two features around c and −c: from c = −2 to 2 the means move by 4 and −4 (3.8 and −4.6 seen)."""
    generator = torch.Generator().manual_seed(1)
    c = torch.randint(0, 2, (2000, 1), generator=generator) * 4.0 - 2
    x = torch.cat([c, -c], dim=1) + torch.randn(2000, 2, generator=generator)
    torch.manual_seed(1)
    gan = TableGAN((2,), 1, hidden=[32], noise=4)
    settings = Training(epochs=15, batch_size=200, learning_rate=4e-3, betas=(0.5, 0.9))
    train(gan, [x, c], settings=settings, seed=1, method=Adversarial, verbose=False)
    low, high = (gan.draw(gan.noise(2000, generator), torch.full((2000, 1), value)) for value in (-2.0, 2.0))
    torch.testing.assert_close(high.mean(0) - low.mean(0), torch.tensor([4.0, -4.0]), atol=1, rtol=0)
    assert ((low.std(0) > 0.3) & (low.std(0) < 2)).all()


def test_dijet_gan_has_the_size_of_its_source():
    """By hand, from the widths and kernels of the source; a batch normalisation has two numbers a channel."""
    gan = DijetGAN((7,), 0)
    generator = (64 * 128 + 128) + 256 + (2 * 32 * 4 + 32) + 64 + (32 * 16 * 9 + 16) + 32 + (1024 * 7 + 7)
    discriminator = (7 * 128 + 128) + (2 * 64 * 9 + 64) + (64 * 32 * 9 + 32) + (32 * 16 * 9 + 16) + 1025
    assert [sum(p.numel() for p in part.parameters()) for part in (gan.generator, gan.discriminator)] == [
        generator,
        discriminator,
    ]


def test_dijet_gan_pretraining_moves_the_discriminator_only():
    torch.manual_seed(1)
    model = DijetGAN((7,), 0, pretraining=4)
    weights = {key: value.clone() for key, value in model.named_parameters()}

    def moved(part):
        return any(not torch.equal(p, weights[k]) for k, p in model.named_parameters() if k.startswith(part))

    data = [torch.rand(128, 7) * 2 - 1, torch.empty(128, 0)]
    settings = Training(epochs=1, batch_size=32, optimizer="sgd", learning_rate=0.01, schedule="constant")
    train(model, data, settings=settings, seed=1, method=Adversarial, verbose=False)
    assert (moved("discriminator"), moved("generator")) == (True, False)
    train(model, data, settings=settings, seed=1, method=Adversarial, verbose=False)
    assert moved("generator")


def test_dijet_gan_stays_in_the_range_of_its_scaler():
    gan = DijetGAN((3,), 0)
    with torch.no_grad():
        gan.generator[-2].weight.mul_(100)
    events = gan.draw(gan.noise(500, torch.Generator().manual_seed(1)), torch.empty(500, 0))
    assert 0.99 < events.abs().max() <= 1


def test_locally_connected_layer_with_shared_weights_is_a_convolution():
    torch.manual_seed(1)
    layer, convolution = LocallyConnected(3, 4, 9, 5, 2, 2), nn.Conv2d(3, 4, 5, 2, 2)
    with torch.no_grad():
        layer.weight.copy_(convolution.weight.flatten(1).T)
        layer.bias.copy_(convolution.bias)
        x = torch.randn(2, 3, 9, 9)
        torch.testing.assert_close(layer(x), convolution(x), atol=1e-5, rtol=1e-5)
        layer.weight[7] = 0
        changed = (layer(x) - convolution(x)).abs().amax((0, 1)).flatten() > 1e-3
    assert changed.nonzero().tolist() == [[7]]


@pytest.mark.parametrize("name", ["dcgan", "lagan"])
@pytest.mark.parametrize("pixels", [8, 25])
def test_images_are_sparse(name, pixels):
    torch.manual_seed(1)
    gan = GENERATORS.load(name)((1, pixels, pixels), 0)
    images = gan.draw(gan.noise(4, torch.Generator().manual_seed(1)), torch.empty(4, 0))
    assert images.shape == (4, 1, pixels, pixels)
    assert images.min() == 0
    assert ((images > 0).float().mean((1, 2, 3)) > 0.1).all()


@pytest.mark.parametrize("name", ["dcgan", "lagan"])
def test_no_pixel_is_fainter_than_true_ones(name, monkeypatch):
    """True pixels are 0.5 or 2; a fresh generator, of twice the usual brightness, makes fainter ones, too."""
    monkeypatch.setattr(image_gans, "MEMORY", 0.0)
    torch.manual_seed(1)
    gan = GENERATORS.load(name)((1, 8, 8), 0).eval()
    noise = gan.noise(20, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for parameter in gan.generator.parameters():
            parameter.mul_(2)
    before = gan.draw(noise, torch.empty(20, 0))
    x = torch.zeros(20, 1, 8, 8)
    x[:, :, 2:4], x[:, :, 4] = 0.5, 2.0
    gan.discriminator_loss(x, torch.empty(20, 0))
    assert gan.generator[-1].least == 0.5
    assert ((before > 0) & (before < 0.5)).any()
    torch.testing.assert_close(gan.draw(noise, torch.empty(20, 0)), before.where(before > 0.5, torch.tensor(0.0)))


def test_lagan_has_the_size_of_its_source():
    """By hand, from the source's layers for 25 pixels and one class label, whose embedding has two rows."""
    gan = LAGAN((1, 25, 25), 1)
    bias = 14**2 * 6 + 26**2 * 6
    local = 14**2 * 25 * 64 * 6 + 26**2 * 9 * 6 * 6 + 25**2 * 4 * 6
    generator = 2 * 200 + 201 * 128 * 49 + (128 * 64 * 25 + 64) + 128 + 12 + bias + local
    blocks = 13**2 * 25 * 32 * 8 + 13**2 * 25 * 8 * 8 + 7**2 * 9 * 8 * 8 + (13**2 * 2 + 7**2) * 8 + 3 * 16
    discriminator = (25 * 32 + 32) + blocks + 72 * 200 + (72 + 20) * 2 + 2
    assert [sum(p.numel() for p in part.parameters()) for part in (gan.generator, gan.discriminator)] == [
        generator,
        discriminator,
    ]


def test_lagan_compares_the_images_of_a_batch():
    """Equal images are as close as can be to each other: e⁰ for each of them, itself included."""
    torch.manual_seed(1)
    discriminator = LAGAN((1, 8, 8), 0).discriminator.eval()
    inputs = []
    discriminator.head.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0][:, :20]))
    discriminator(torch.rand(1, 1, 8, 8).expand(5, -1, -1, -1))
    torch.testing.assert_close(inputs[0], torch.full((5, 20), 5.0))
    discriminator(100 * torch.rand(5, 1, 8, 8))
    assert inputs[1].mean() < 3


def test_lagan_pays_for_conditions_that_cannot_be_told_from_its_images():
    torch.manual_seed(1)
    gan = LAGAN((1, 8, 8), 2, noise=8)
    x, c = torch.rand(16, 1, 8, 8), torch.randn(16, 2)
    with torch.no_grad():
        gan.discriminator.head.weight.zero_()
        gan.discriminator.head.bias.copy_(torch.tensor([0.0, 1.0, 2.0]))
    error = (c - torch.tensor([1.0, 2.0])).square().sum(1).mean()
    assert gan.generator_loss(x, c).item() == pytest.approx(math.log(2) + float(error), rel=1e-5)
    assert gan.discriminator_loss(x, c).item() == pytest.approx(2 * math.log(2) + 2 * float(error), rel=1e-5)


@pytest.mark.parametrize(
    ("model", "settings"),
    [(DCGAN, {}), (DCGAN, {"spectral_norm": True}), (LAGAN, {})],
)
def test_images_with_a_gradient_penalty(model, settings):
    """It is of each event by itself, so nothing in the discriminator may mix events; every parameter learns."""
    torch.manual_seed(1)
    gan = model((1, 8, 8), 1, objective="wgan_gp", noise=8, **settings)
    x, c = torch.rand(6, 1, 8, 8, requires_grad=True), torch.randn(6, 1)
    gan.judge(x, c)[0][0].backward()
    touched = x.grad.flatten(1).any(1)
    assert touched.tolist() == [True, *5 * [False]]
    gan.zero_grad()
    gan.discriminator_loss(x.detach(), c).backward()
    gradients = {key: parameter.grad for key, parameter in gan.discriminator.named_parameters()}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    # A constant added to all scores changes nothing.
    assert all(gradient.any() for key, gradient in gradients.items() if not key.endswith("bias"))


@pytest.mark.parametrize(
    ("name", "shape", "settings", "message"),
    [
        ("gan", (5,), {"objective": "hinge"}, "unknown settings.objective 'hinge'"),
        ("gan", (5,), {"hidden": []}, "settings.hidden"),
        ("gan", (5,), {"noise": 0}, "settings.noise: is 0"),
        ("gan", (5,), {"discriminator_steps": 0}, "settings.discriminator_steps: is 0"),
        ("gan", (1, 8, 8), {}, "inputs: features"),
        ("dijet_gan", (5,), {"pretraining": -1}, "settings.pretraining: is -1"),
        ("dijet_gan", (40, 3), {}, "inputs: features"),
        ("dcgan", (7,), {}, "inputs: images"),
        ("dcgan", (1, 3, 3), {}, "dcgan: images of 3 pixels a side are too small"),
        ("dcgan", (1, 8, 8), {"channels": 0}, "settings.channels: is 0"),
        ("lagan", (1, 4, 4), {}, "lagan: images of 4 pixels a side are too small"),
        ("lagan", (1, 8, 8), {"channels": 1}, "settings.channels: is 1"),
        ("lagan", (1, 8, 8), {"noise": 0}, "settings.noise: is 0"),
    ],
)
def test_impossible_settings(name, shape, settings, message):
    with pytest.raises(HepgenError, match=message):
        GENERATORS.load(name)(shape, 0, **settings)
