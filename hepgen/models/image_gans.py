"""Generative adversarial networks of jet images, of which few pixels are filled, and these over orders of magnitude."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from hepgen.errors import HepgenError
from hepgen.models.gans import GAN, Objective
from hepgen.models.layers import at_least, square_side

__all__ = ["DCGAN", "LAGAN", "LocallyConnected"]

# Of LAGAN's leaky units: that of the source's library.
SLOPE = 0.3
# The share of true pixels that are fainter than any generated one, and how much of it is kept at each batch.
FAINT, MEMORY = 0.01, 0.99


class ImageGAN(GAN):
    """What the GANs of jet images share: pixels are 0 or brighter than the faintest 1 % of the true ones.

    A detector's threshold leaves none below, and each would count as a particle, but a discriminator hardly sees them:
    of a DCGAN without this a quarter of the filled pixels were fainter than 95 % of the true ones.
    """

    # A typical filled pixel is then about 1: with the brightest one at 1 it is 0.02, which is hard to tell from 0.
    scaler = "scale"
    makes_images = True

    def discriminator_loss(self, x: Tensor, c: Tensor, weight: Tensor | None = None) -> Tensor:
        """What the discriminator minimises on images x, shape (n, 1, pixels, pixels), and as many generated ones."""
        filled = x[x > 0]
        if len(filled):
            self.generator[-1].least.lerp_(filled.quantile(FAINT), 1 - MEMORY)
        return super().discriminator_loss(x, c, weight)


class DCGAN(ImageGAN):
    """Strided convolutions by the guidelines of their source.

    The generator doubles the side of its maps twice, with batch normalisation and ReLU; the discriminator halves it
    twice, with LeakyReLU. The source's tanh at the end is a ReLU here, after LAGAN, so that empty pixels are exactly 0.
    The source trains with Adam at a rate of 2e-4 and betas of 0.5 and 0.999. On 5000 QCD jets of 16 pixels a side, with
    batches of 50, a rate of 5e-4 and betas of 0.5 and 0.9, 20 epochs of 4 s gave images of 20.6 filled pixels against
    21.1 in truth, whose observables boosted trees told from the truth's with an AUC of 0.70.

    Args:
        shape: (1, pixels, pixels), of values that are never negative.
        conditions: Number of conditions: beside the noise, and as constant images beside the discriminator's.
        channels: Maps behind the discriminator's first convolution, half of those behind its second one.
        noise: Normal random numbers for each event.
        objective, discriminator_steps, spectral_norm: See `GAN`.

    References:
        Radford, Metz, Chintala, Unsupervised Representation Learning with DCGANs, 2015, arXiv:1511.06434.
    """

    batch = 500

    def __init__(
        self,
        shape: tuple[int, ...],
        conditions: int,
        *,
        channels: int = 32,
        noise: int = 100,
        objective: Objective = "non_saturating",
        discriminator_steps: int | None = None,
        spectral_norm: bool = False,
    ) -> None:
        side = _side("dcgan", shape, least=4)
        at_least(1, channels=channels, noise=noise)
        quarter, twice = math.ceil(side / 4), 2 * channels
        generator = nn.Sequential(
            nn.Linear(noise + conditions, twice * quarter**2),
            nn.Unflatten(1, (twice, quarter, quarter)),
            *(nn.BatchNorm2d(twice), nn.ReLU()),
            *(nn.ConvTranspose2d(twice, channels, 4, 2, 1), nn.BatchNorm2d(channels), nn.ReLU()),
            *(nn.ConvTranspose2d(channels, 1, 4, 2, 1), _crop(4 * quarter, side), _Threshold()),
        )
        between = nn.Identity() if spectral_norm else _normalisation(objective, twice)
        discriminator = _WithPlanes(
            *(nn.Conv2d(1 + conditions, channels, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(channels, twice, 4, 2, 1), between, nn.LeakyReLU(0.2)),
            nn.Flatten(),
            nn.Linear(twice * (side // 4) ** 2, 1),
        )
        super().__init__(
            generator,
            discriminator,
            noise,
            objective=objective,
            discriminator_steps=discriminator_steps,
            spectral_norm=spectral_norm,
        )
        self.to(memory_format=torch.channels_last)


class LAGAN(ImageGAN):
    """The location-aware GAN of jet images: behind the first one, no convolution shares its weights between places.

    Both networks are those of the authors' public code (github.com/hep-lbdl/adversarial-jets), where images have 25
    pixels a side; others are cut from the middle of larger ones. The discriminator compares the events of a batch with
    each other, learns with 5 % of the labels turned round, and guesses the conditions, which multiply the generator's
    noise as the source's classes do; since they may be any numbers, the guess costs its squared error. With ``wgan_gp``
    the comparison and the batch normalisation, which a penalty on each event's gradient forbids, are left out of the
    discriminator. The source trains with Adam at a rate of 2e-4 and betas of 0.5 and 0.999, in batches of 100, with
    two updates of the generator for one on true and one on generated images.

    Args:
        shape: (1, pixels, pixels), of values that are never negative.
        conditions: Number of conditions.
        channels: Maps behind the generator's last convolution with shared weights, twice those behind the
            discriminator's; 64 is the source's.
        noise: Normal random numbers for each event.
        objective, discriminator_steps: See `GAN`.

    References:
        de Oliveira, Paganini, Nachman, Learning Particle Physics by Example, 2017, arXiv:1701.05927.
        Salimans et al., Improved Techniques for Training GANs, 2016, arXiv:1606.03498 (comparison in batches).
        Odena, Olah, Shlens, Conditional Image Synthesis with Auxiliary Classifier GANs, 2016, arXiv:1610.09585.
    """

    # The patches that each place sees take 1.3 MB an event.
    batch = 100

    def __init__(
        self,
        shape: tuple[int, ...],
        conditions: int,
        *,
        channels: int = 64,
        noise: int = 200,
        objective: Objective = "non_saturating",
        discriminator_steps: int | None = None,
    ) -> None:
        side = _side("lagan", shape, least=5)
        at_least(2, channels=channels)
        at_least(1, noise=noise)
        start, twice = math.ceil((side + 3) / 4), 2 * channels
        generator = nn.Sequential(
            _Product(noise, conditions),
            nn.Linear(noise, twice * start**2),
            nn.Unflatten(1, (twice, start, start)),
            *(nn.Conv2d(twice, channels, 5, padding=2), nn.LeakyReLU(SLOPE), nn.BatchNorm2d(channels)),
            nn.Upsample(scale_factor=2),
            *(LocallyConnected(channels, 6, 2 * start, 5, padding=2), nn.LeakyReLU(SLOPE), nn.BatchNorm2d(6)),
            nn.Upsample(scale_factor=2),
            *(LocallyConnected(6, 6, 4 * start, 3), nn.LeakyReLU(SLOPE)),
            LocallyConnected(6, 1, 4 * start - 2, 2, bias=False),
            *(_crop(4 * start - 3, side), _Threshold()),
        )
        super().__init__(
            generator,
            _Comparing(side, conditions, channels // 2, objective),
            noise,
            objective=objective,
            discriminator_steps=discriminator_steps,
            flips=0.05,
        )

    def judge(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of images and the squared error of the guessed conditions, each (n,)."""
        logits, guess = self.discriminator(x).tensor_split([1], dim=1)
        return logits[:, 0], (guess - c).square().sum(1)


class LocallyConnected(nn.Module):
    """A convolution whose weights differ from place to place.

    Args:
        inputs, outputs: Channels.
        side: Side of the square inputs.
        kernel, stride, padding: As in a convolution.
        bias: Whether each output has a constant of its own.
    """

    def __init__(
        self, inputs: int, outputs: int, side: int, kernel: int, stride: int = 1, padding: int = 0, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding
        self.side = (side + 2 * padding - kernel) // stride + 1
        fan = inputs * kernel**2
        bound = math.sqrt(6 / fan)
        self.weight = nn.Parameter(torch.empty(self.side**2, fan, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(self.side**2, 1, outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, side, side) → (n, outputs, side', side')."""
        # With the events last every copy and every product runs along them: a training step of LAGAN takes half the
        # time that it takes with `functional.unfold`.
        x = functional.pad(x, [self.padding] * 4).permute(2, 3, 1, 0).contiguous()
        starts = [slice(a, a + (self.side - 1) * self.stride + 1, self.stride) for a in range(self.kernel)]
        patches = torch.stack([x[rows, columns] for rows in starts for columns in starts], dim=3)
        patches, weight = patches.reshape(self.side**2, -1, patches.shape[4]), self.weight.transpose(1, 2)
        y = weight @ patches if self.bias is None else torch.baddbmm(self.bias.transpose(1, 2), weight, patches)
        return y.unflatten(0, (self.side, self.side)).permute(3, 2, 0, 1)


class _Threshold(nn.Module):
    """A ReLU that sets what is fainter than the least bright pixel to 0, too; there is none before the training."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("least", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > self.least, x, 0.0)


class _WithPlanes(nn.Sequential):
    """Layers that take images with their conditions as further channels, and give one number for each."""

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        planes = c[:, :, None, None].expand(-1, -1, *x.shape[2:])
        return super().forward(torch.cat([x, planes], dim=1))[:, 0]


class _Product(nn.Module):
    """Noise times a vector that depends linearly on the conditions: for two classes, an embedding of each."""

    def __init__(self, noise: int, conditions: int) -> None:
        super().__init__()
        self.noise = noise
        self.embedding = nn.Linear(conditions, noise) if conditions else None
        if self.embedding:
            nn.init.ones_(self.embedding.bias)

    def forward(self, x: Tensor) -> Tensor:
        z, c = x.tensor_split([self.noise], dim=1)
        return z * self.embedding(c) if self.embedding else z


class _Comparing(nn.Module):
    """LAGAN's discriminator: images to logits and guessed conditions, (n, 1 + conditions)."""

    def __init__(self, side: int, conditions: int, channels: int, objective: Objective) -> None:
        super().__init__()
        half, quarter = (side + 1) // 2, ((side + 1) // 2 + 1) // 2

        def block(*settings: int) -> tuple[nn.Module, ...]:
            layer = LocallyConnected(*settings)
            return layer, nn.LeakyReLU(SLOPE), _normalisation(objective, settings[1]), nn.Dropout(0.2)

        self.layers = nn.Sequential(
            *(nn.Conv2d(1, channels, 5, padding=2), nn.LeakyReLU(SLOPE), nn.Dropout(0.2)),
            *block(channels, 8, side, 5, 2, 2),
            *block(8, 8, half, 5, 1, 2),
            *block(8, 8, half, 3, 2, 1),
            nn.AvgPool2d(2),
            nn.Flatten(),
        )
        width = 8 * (quarter // 2) ** 2
        self.kernels = nn.Linear(width, 20 * 10, bias=False) if objective == "non_saturating" else None
        self.head = nn.Linear(width + (20 if self.kernels else 0), 1 + conditions)

    def forward(self, x: Tensor) -> Tensor:
        features = self.layers(x)
        if self.kernels:
            rows = self.kernels(features).unflatten(1, (20, 10)).transpose(0, 1)
            closeness = torch.cdist(rows, rows, p=1).neg().exp().sum(2).T
            features = torch.cat([closeness, features], dim=1)
        return self.head(features)


def _side(name: str, shape: tuple[int, ...], least: int) -> int:
    """The side of images of one channel.

    Raises:
        HepgenError: if the inputs are no such images, or too small for the network.
    """
    side = square_side(name, shape, 1)
    if side < least:
        msg = f"{name}: images of {side} pixels a side are too small for it; at least {least} are needed"
        raise HepgenError(msg)
    return side


def _crop(side: int, kept: int) -> nn.Module:
    """Cuts the middle out of larger images."""
    before = (side - kept) // 2
    after = side - kept - before
    return nn.ZeroPad2d((-before, -after, -before, -after))


def _normalisation(objective: Objective, channels: int) -> nn.Module:
    """Of a discriminator: by batches, or by events where each event's gradient is penalised."""
    return nn.GroupNorm(1, channels) if objective == "wgan_gp" else nn.BatchNorm2d(channels)
