"""What autoencoders promise beyond the contract of all taggers: objectives, architectures and their scores."""

import pytest
import torch
from torch import nn

from hepgen.errors import HepgenError
from hepgen.models.autoencoders import ConvAutoencoder, DenseAutoencoder
from hepgen.models.published import FarinaConv, FarinaDense


def layers(model, kind):
    return [module for module in model.modules() if isinstance(module, kind)]


def test_farina_et_al_by_their_widths():
    dense = layers(FarinaDense((1, 37, 37)), nn.Linear)
    assert [dense[0].in_features, *(layer.out_features for layer in dense)] == [1369, 32, 6, 32, 1369]
    conv = FarinaConv((1, 37, 37))
    assert [layer.out_channels for layer in layers(conv, nn.Conv2d)] == [128, 128, 128, 128, 128, 1]
    assert [layer.out_features for layer in layers(conv, nn.Linear)] == [32, 6, 32, 12800]
    assert conv.reconstruct(torch.rand(2, 1, 37, 37)).shape == (2, 1, 37, 37)


@pytest.mark.parametrize("settings", [{"noise": 0.5}, {"beta": 0.5}])
def test_what_is_validated_is_what_is_minimised(settings):
    """Chance enters the loss, also in evaluation, and no score."""
    torch.manual_seed(1)
    model, x = DenseAutoencoder((6,), **settings), torch.rand(100, 6)
    assert torch.equal(model.score(x), model.score(x))
    losses = []
    for training in (True, False):
        torch.manual_seed(2)
        losses.append(model.train(training).loss(x))
    assert losses[0] == losses[1]
    assert model.loss(x) != losses[1]


def test_the_penalties_are_those_of_the_code():
    torch.manual_seed(1)
    x = torch.rand(100, 6)
    sparse = DenseAutoencoder((6,), sparsity=0.3)
    expected = sparse.score(x).mean() + 0.3 * sparse.encode(x).abs().mean()
    torch.testing.assert_close(sparse.loss(x), expected)
    variational = DenseAutoencoder((6,), beta=0.5).eval()
    mean, log_variance = variational.encoder(x).chunk(2, dim=1)
    normal = torch.distributions.Normal(mean, (log_variance / 2).exp())
    divergence = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0, 1)).sum(1)
    torch.testing.assert_close(variational.score(x, "kl"), divergence)
    # −log N(x; decoded, 1) + β KL per feature, twice of it and without its constant.
    torch.testing.assert_close(variational.score(x, "elbo"), variational.score(x, "mse") + 2 * 0.5 * divergence / 6)
    torch.manual_seed(2)
    loss = variational.loss(x)
    torch.manual_seed(2)
    rebuilt = variational.decode(normal.mean + normal.stddev * torch.randn(100, 2))
    torch.testing.assert_close(loss, (x - rebuilt).square().mean() + 2 * 0.5 * divergence.mean() / 6)


def test_chi2_and_latent_distance_have_their_means_on_calibration_events():
    """Residuals in units of their mean square average to 1, squared Mahalanobis distances to the dimensions."""
    torch.manual_seed(1)
    model, x = DenseAutoencoder((6,), latent_dim=2).eval(), torch.randn(1000, 6)
    model.calibrate(x)
    with torch.no_grad():
        assert float(model.score(x, "chi2").mean()) == pytest.approx(1, rel=1e-4)
        assert float(model.score(x, "latent").mean()) == pytest.approx(2, rel=1e-3)


def test_the_cross_entropy_is_the_published_one_and_needs_inputs_between_0_and_1():
    torch.manual_seed(1)
    model = ConvAutoencoder((1, 8, 8), loss="bce")
    x = torch.rand(3, 1, 8, 8)
    rebuilt = model.reconstruct(x)
    expected = -(x * rebuilt.log() + (1 - x) * (1 - rebuilt).log()).mean(dim=(1, 2, 3))
    torch.testing.assert_close(model.score(x), expected)
    for wrong in (x - 0.5, 5 * x):
        with pytest.raises(HepgenError, match="set preprocessing: unit"):
            model.loss(wrong)


def test_images_are_rebuilt_without_negative_pixels():
    torch.manual_seed(1)
    assert (ConvAutoencoder((1, 8, 8)).reconstruct(torch.randn(20, 1, 8, 8)) >= 0).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvAutoencoder((1, 10, 10)), "divisible by 4"),
        (lambda: DenseAutoencoder((4,), latent_dim=0), "latent_dim: is 0; it must be at least 1"),
        (lambda: DenseAutoencoder((4,), hidden=(8, 0)), r"hidden: is \[8, 0, 2\]; it must be at least 1"),
        (lambda: DenseAutoencoder((4,), loss="mae"), "loss is mse or bce"),
        (lambda: DenseAutoencoder((4,), noise=-1.0), "must not be negative"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(HepgenError, match=message):
        make()


def test_without_noise_the_loss_is_the_mean_score():
    torch.manual_seed(1)
    model, x = DenseAutoencoder((6,)), torch.rand(100, 6)
    torch.testing.assert_close(model.loss(x), model.score(x).mean())
