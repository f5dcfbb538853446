"""Generative adversarial networks: what all of them share, and those that make observables."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm as normalise_spectrum

from hepgen.errors import HepgenError
from hepgen.models.layers import at_least, dense, weighted_mean
from hepgen.registry import look_up

__all__ = ["GAN", "DijetGAN", "Joined", "Objective", "TableGAN"]

Objective = Literal["non_saturating", "wgan_gp"]
# Discriminator updates for each one of the generator, as the sources of the objectives have it.
STEPS = {"non_saturating": 1, "wgan_gp": 5}
PENALTY = 10.0


class GAN(nn.Module):
    """A generator and a discriminator that compete.

    ``generator`` makes events of noise and conditions in one tensor, (n, noise + conditions) → (n, *shape);
    ``discriminator`` takes events and their conditions apart; see `judge`. Train with ``betas: [0.5, 0.9]``:
    after eight epochs of QCD dijets `TableGAN` covered 95 % of the truth's neighbourhoods, with adamw's own betas 49 %.

    Args:
        generator, discriminator: The networks.
        noise: Random numbers for each event.
        objective: ``non_saturating``: the discriminator minimises the cross-entropy of true and generated events, the
            generator −log D; ``wgan_gp``: both the difference of mean scores, with a penalty on the discriminator's
            gradients between true and generated events that differ in norm from 1.
        discriminator_steps: Updates of the discriminator for each one of the generator; 5 for ``wgan_gp``, else 1.
        spectral_norm: Divide every weight of the discriminator by its largest singular value.
        flips: Share of the events whose label is wrong when the discriminator learns by cross-entropy.

    Raises:
        HepgenError: if a setting is impossible.

    References:
        Goodfellow et al., Generative Adversarial Networks, 2014, arXiv:1406.2661.
        Gulrajani et al., Improved Training of Wasserstein GANs, 2017, arXiv:1704.00028.
        Miyato et al., Spectral Normalization for Generative Adversarial Networks, 2018, arXiv:1802.05957.
    """

    scaler = "unit"
    mirror_eta = False
    batch = 10_000
    latent: Callable[..., Tensor] = staticmethod(torch.randn)

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        noise: int,
        *,
        objective: Objective = "non_saturating",
        discriminator_steps: int | None = None,
        spectral_norm: bool = False,
        flips: float = 0.0,
    ) -> None:
        super().__init__()
        steps = look_up("settings.objective", objective, STEPS)
        self.discriminator_steps = steps if discriminator_steps is None else discriminator_steps
        at_least(1, discriminator_steps=self.discriminator_steps)
        self.width = noise
        self.objective = objective
        self.flips = flips
        self.generator = generator
        self.discriminator = discriminator
        if spectral_norm:
            for layer in [m for m in discriminator.modules() if isinstance(m, nn.Linear | nn.Conv2d)]:
                normalise_spectrum(layer)

    def discriminator_loss(self, x: Tensor, c: Tensor, weight: Tensor | None = None) -> Tensor:
        """What the discriminator minimises on events x, shape (n, *shape), and as many generated ones."""
        with torch.no_grad():
            fake = self.fake(c)
        (true, slip), (false, other_slip) = self.judge(x, c), self.judge(fake, c)
        if self.objective == "non_saturating":
            losses = _cross_entropy(true, 1.0, self.flips) + _cross_entropy(false, 0.0, self.flips)
        else:
            losses = false - true + PENALTY * self._excess_slope(x, fake, c)
        return weighted_mean(losses + slip + other_slip, weight)

    def generator_loss(self, x: Tensor, c: Tensor, weight: Tensor | None = None) -> Tensor:
        """What the generator minimises with as many events as x has."""
        logits, slip = self.judge(self.fake(c), c)
        losses = _cross_entropy(logits, 1.0) if self.objective == "non_saturating" else -logits
        return weighted_mean(losses + slip, weight)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        return self.latent(n, self.width, generator=generator)

    @torch.no_grad()
    def draw(self, noise: Tensor, c: Tensor) -> Tensor:
        """Events of shape (n, *shape), normalised by the statistics of the batches learnt in training."""
        training = self.generator.training
        self.generator.eval()
        events = self.generator(torch.cat([noise, c], dim=1))
        self.generator.train(training)
        return events

    def fake(self, c: Tensor) -> Tensor:
        """Events generated in training, one for each row of conditions."""
        return self.generator(torch.cat([self.latent(len(c), self.width, device=c.device), c], dim=1))

    def judge(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of events, (n,), and the loss in whatever else the discriminator does with them, (n,)."""
        logits = self.discriminator(x, c)
        return logits, torch.zeros_like(logits)

    def _excess_slope(self, x: Tensor, fake: Tensor, c: Tensor) -> Tensor:
        """(|∇D| − 1)² at random points between true and generated events, (n,)."""
        share = torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device)
        between = torch.lerp(x, fake, share).requires_grad_()
        (slope,) = torch.autograd.grad(self.judge(between, c)[0].sum(), between, create_graph=True)
        return (slope.flatten(1).norm(dim=1) - 1).square()


def _cross_entropy(logits: Tensor, label: float, flips: float = 0.0) -> Tensor:
    """The cross-entropy of each event, (n,), with the share `flips` of the labels turned round at random."""
    labels = torch.full_like(logits, label)
    if flips:
        labels = torch.where(torch.rand_like(logits) < flips, 1 - labels, labels)
    return functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")


class Joined(nn.Sequential):
    """Layers that take events and conditions side by side, and give one number for each event."""

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """Logits of shape (n,)."""
        return super().forward(torch.cat([x, c], dim=1))[:, 0]


class TableGAN(GAN):
    """Two dense networks; see `GAN` for the other settings.

    Args:
        shape: (features,), any real numbers.
        conditions: Number of conditions, given to both networks beside their input.
        hidden: Widths of the hidden layers of both networks.
        noise: Normal random numbers for each event.
    """

    scaler = "support"
    makes_features = True

    def __init__(
        self,
        shape: tuple[int, ...],
        conditions: int,
        *,
        hidden: Sequence[int] = (128, 128, 128),
        noise: int = 32,
        objective: Objective = "non_saturating",
        discriminator_steps: int | None = None,
        spectral_norm: bool = False,
    ) -> None:
        features = _columns("gan", shape)
        at_least(1, hidden=hidden, noise=noise)
        super().__init__(
            nn.Sequential(*_normalised([noise + conditions, *hidden]), nn.Linear(hidden[-1], features)),
            Joined(*dense([features + conditions, *hidden, 1])),
            noise,
            objective=objective,
            discriminator_steps=discriminator_steps,
            spectral_norm=spectral_norm,
        )


class DijetGAN(GAN):
    """The convolutional GAN of dijet events.

    Noise, 64 numbers in [0, 1), passes a dense layer onto 8 × 8 × 2, two transposed convolutions of stride 1 and a
    dense layer with tanh, with LeakyReLU and, behind it, batch normalisation; the discriminator is three 3 × 3
    convolutions behind a dense layer. The generator's loss is non-saturating. The kernels and the length of the
    pre-training are those of the authors' public code (github.com/rdisipio/DiJetGAN), whose versions differ in them;
    what this leaves to its library's defaults, the initial weights and the memory of the batch normalisation, is
    torch's here. The recipe's training is SGD at a rate of 0.01 with batches of 32.

    Args:
        shape: (features,), scaled to [−1, 1].
        conditions: Number of conditions, given to both networks beside their input.
        pretraining: Batches that only the discriminator learns from, before the generator starts; the public code has
            one pass over 20,000 true and as many generated events in batches of 128.

    References:
        Di Sipio, Faucci Giannelli, Ketabchi Haghighat, Palazzo, DijetGAN, 2019, arXiv:1903.02433.
    """

    scaler = "minmax"
    makes_features = True
    mirror_eta = True
    # Small enough for the images of a batch to stay in the cache: four times the speed of 10,000.
    batch = 500
    latent = staticmethod(torch.rand)
    uniforms = 64

    def __init__(self, shape: tuple[int, ...], conditions: int, *, pretraining: int = 313) -> None:
        features = _columns("dijet_gan", shape)
        at_least(0, pretraining=pretraining)
        noise = self.uniforms
        generator = nn.Sequential(
            *(nn.Linear(noise + conditions, 128), nn.LeakyReLU(0.2), nn.BatchNorm1d(128)),
            nn.Unflatten(1, (2, 8, 8)),
            # An even kernel adds a row and a column, which are cut off again.
            *(nn.ConvTranspose2d(2, 32, 2), nn.ZeroPad2d((0, -1, 0, -1)), nn.LeakyReLU(0.2), nn.BatchNorm2d(32)),
            *(nn.ConvTranspose2d(32, 16, 3, padding=1), nn.LeakyReLU(0.2), nn.BatchNorm2d(16)),
            nn.Flatten(),
            nn.Linear(16 * 8 * 8, features),
            nn.Tanh(),
        )
        discriminator = Joined(
            nn.Linear(features + conditions, 128),
            nn.Unflatten(1, (2, 8, 8)),
            *(nn.Conv2d(2, 64, 3, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(64, 32, 3, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(32, 16, 3, padding=1), nn.LeakyReLU(0.2)),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(16 * 8 * 8, 1),
        )
        super().__init__(generator, discriminator, noise)
        self.pretraining = pretraining
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.to(memory_format=torch.channels_last)

    @property
    def pretrains(self) -> bool:
        """Whether the generator still waits for the discriminator."""
        return bool(self.batches <= self.pretraining)

    def discriminator_loss(self, x: Tensor, c: Tensor, weight: Tensor | None = None) -> Tensor:
        """Cross-entropy of telling events x, shape (n, features), from as many generated ones."""
        self.batches += 1
        return super().discriminator_loss(x, c, weight)

    def generator_loss(self, x: Tensor, c: Tensor, weight: Tensor | None = None) -> Tensor:
        """−log D(G(noise)) for as many events as x has; 0, with no gradient, during the pre-training."""
        if self.pretrains:
            return 0.0 * self.fake(c).sum()
        return super().generator_loss(x, c, weight)


def _normalised(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers, each followed by LeakyReLU and batch normalisation."""
    return [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.LeakyReLU(0.2), nn.BatchNorm1d(b))]


def _columns(name: str, shape: tuple[int, ...]) -> int:
    """The number of features of events that are rows of a table.

    Raises:
        HepgenError: if they are not.
    """
    if len(shape) != 1:
        msg = f"{name}: events of shape {tuple(shape)}; it makes rows of features (inputs: features)"
        raise HepgenError(msg)
    return shape[0]
