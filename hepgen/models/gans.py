"""Generative adversarial networks."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from hepgen.models.layers import weighted_mean

__all__ = ["DijetGAN"]

NOISE = 64


class DijetGAN(nn.Module):
    """The convolutional GAN of dijet events.

    Noise, 64 numbers in [0, 1), passes a dense layer onto 8 × 8 × 2, two transposed convolutions and a dense
    layer with tanh, with LeakyReLU and batch normalisation; the discriminator is three convolutions behind
    the same dense layer. The generator's loss is non-saturating. The source does not fix the kernels: they
    are 3 × 3 with stride 1.

    Args:
        shape: (features,), scaled to [−1, 1].
        conditions: Number of conditions, given to both networks beside their input.
        pretraining: Batches that only the discriminator learns from, before the generator starts.

    References:
        Di Sipio, Faucci Giannelli, Ketabchi Haghighat, Palazzo, DijetGAN, 2019, arXiv:1903.02433.
        Goodfellow et al., Generative Adversarial Networks, 2014, arXiv:1406.2661.
    """

    scaler = "minmax"
    mirror_eta = True
    # Small enough for the images of a batch to stay in the cache: four times the speed of 10,000.
    batch = 500

    def __init__(self, shape: tuple[int, ...], conditions: int, *, pretraining: int = 100) -> None:
        super().__init__()
        (features,) = shape
        self.pretraining = pretraining
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.generator = nn.Sequential(
            *_block(nn.Linear(NOISE + conditions, 128), nn.BatchNorm1d(128)),
            nn.Unflatten(1, (2, 8, 8)),
            *_block(nn.ConvTranspose2d(2, 32, 3, padding=1), nn.BatchNorm2d(32)),
            *_block(nn.ConvTranspose2d(32, 16, 3, padding=1), nn.BatchNorm2d(16)),
            nn.Flatten(),
            nn.Linear(16 * 8 * 8, features),
            nn.Tanh(),
        )
        self.discriminator = nn.Sequential(
            *_block(nn.Linear(features + conditions, 128)),
            nn.Unflatten(1, (2, 8, 8)),
            *_block(nn.Conv2d(2, 64, 3, padding=1)),
            *_block(nn.Conv2d(64, 32, 3, padding=1)),
            *_block(nn.Conv2d(32, 16, 3, padding=1)),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(16 * 8 * 8, 1),
        )
        self.to(memory_format=torch.channels_last)

    def discriminator_loss(self, x: Tensor, c: Tensor, weight: Tensor | None = None) -> Tensor:
        """Cross-entropy of telling events x, shape (n, features), from as many generated ones."""
        self.batches += 1
        with torch.no_grad():
            fake = self._fake(c)
        real = _cross_entropy(self._judge(x, c), 1.0, weight)
        return real + _cross_entropy(self._judge(fake, c), 0.0, weight)

    def generator_loss(self, x: Tensor, c: Tensor, weight: Tensor | None = None) -> Tensor:
        """−log D(G(noise)) for as many events as x has; 0, with no gradient, during the pre-training."""
        fake = self._fake(c)
        if self.batches <= self.pretraining:
            return 0.0 * fake.sum()
        return _cross_entropy(self._judge(fake, c), 1.0, weight)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.rand(n, NOISE, generator=generator)

    @torch.no_grad()
    def draw(self, noise: Tensor, c: Tensor) -> Tensor:
        """Events of shape (n, features), from the statistics of the batches learnt in training."""
        training = self.generator.training
        self.generator.eval()
        events = self.generator(torch.cat([noise, c], dim=1))
        self.generator.train(training)
        return events

    def _fake(self, c: Tensor) -> Tensor:
        return self.generator(torch.cat([torch.rand(len(c), NOISE, device=c.device), c], dim=1))

    def _judge(self, x: Tensor, c: Tensor) -> Tensor:
        return self.discriminator(torch.cat([x, c], dim=1))


def _block(*layers: nn.Module) -> tuple[nn.Module, ...]:
    """A layer, LeakyReLU and what follows: the generator normalises after the activation."""
    first, *rest = layers
    return (first, nn.LeakyReLU(0.2), *rest)


def _cross_entropy(logits: Tensor, label: float, weight: Tensor | None) -> Tensor:
    losses = functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label), reduction="none")
    return weighted_mean(losses[:, 0], weight)
