"""Generative adversarial networks."""

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["DijetGAN"]

NOISE = 64
# Small enough for the images of a batch to stay in the cache: four times the speed of 10,000.
SAMPLE_BATCH = 500


class DijetGAN(nn.Module):
    """The convolutional GAN of dijet events.

    Noise, 64 numbers in [0, 1), passes a dense layer onto 8 × 8 × 2, two transposed convolutions and a dense
    layer with tanh, with LeakyReLU and batch normalisation; the discriminator is three convolutions behind
    the same dense layer. The generator's loss is non-saturating. The source does not fix the kernels: they
    are 3 × 3 with stride 1.

    Args:
        features: Number of columns, scaled to [−1, 1].
        pretraining: Batches that only the discriminator learns from, before the generator starts.

    Attributes:
        scaler: The preprocessing that it wants; see `hepgen.generation.train`.
        mirror_eta: Whether it wants to be trained on events reflected at random along the beam.

    References:
        Di Sipio, Faucci Giannelli, Ketabchi Haghighat, Palazzo, DijetGAN, 2019, arXiv:1903.02433.
        Goodfellow et al., Generative Adversarial Networks, 2014, arXiv:1406.2661.
    """

    scaler = "minmax"
    mirror_eta = True

    def __init__(self, features: int = 7, *, pretraining: int = 100) -> None:
        super().__init__()
        self.features = features
        self.pretraining = pretraining
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.generator = nn.Sequential(
            *_block(nn.Linear(NOISE, 128), nn.BatchNorm1d(128)),
            nn.Unflatten(1, (2, 8, 8)),
            *_block(nn.ConvTranspose2d(2, 32, 3, padding=1), nn.BatchNorm2d(32)),
            *_block(nn.ConvTranspose2d(32, 16, 3, padding=1), nn.BatchNorm2d(16)),
            nn.Flatten(),
            nn.Linear(16 * 8 * 8, features),
            nn.Tanh(),
        )
        self.discriminator = nn.Sequential(
            *_block(nn.Linear(features, 128)),
            nn.Unflatten(1, (2, 8, 8)),
            *_block(nn.Conv2d(2, 64, 3, padding=1)),
            *_block(nn.Conv2d(64, 32, 3, padding=1)),
            *_block(nn.Conv2d(32, 16, 3, padding=1)),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(16 * 8 * 8, 1),
        )
        self.to(memory_format=torch.channels_last)

    def discriminator_loss(self, x: Tensor) -> Tensor:
        """Cross-entropy of telling events x, shape (n, features), from as many generated ones."""
        self.batches += 1
        with torch.no_grad():
            fake = self.generator(self._noise(x))
        return _cross_entropy(self.discriminator(x), 1.0) + _cross_entropy(self.discriminator(fake), 0.0)

    def generator_loss(self, x: Tensor) -> Tensor:
        """−log D(G(noise)) for as many events as x has; 0, with no gradient, during the pre-training."""
        fake = self.generator(self._noise(x))
        if self.batches <= self.pretraining:
            return 0.0 * fake.sum()
        return _cross_entropy(self.discriminator(fake), 1.0)

    @torch.no_grad()
    def sample(self, n: int, seed: int | torch.Generator) -> Tensor:
        """Draw events of shape (n, features), float32, on the CPU, from the statistics learnt in training.

        The noise is drawn on the CPU on every device, so that a seed means the same events everywhere.
        """
        generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        device = next(self.parameters()).device
        noise = torch.rand(n, NOISE, generator=generator)
        training = self.generator.training
        self.generator.eval()
        events = torch.cat([self.generator(z.to(device)).cpu() for z in noise.split(SAMPLE_BATCH)])
        self.generator.train(training)
        return events

    def _noise(self, x: Tensor) -> Tensor:
        return torch.rand(len(x), NOISE, device=x.device)


def _block(*layers: nn.Module) -> tuple[nn.Module, ...]:
    """A layer, LeakyReLU and what follows: the generator normalises after the activation."""
    first, *rest = layers
    return (first, nn.LeakyReLU(0.2), *rest)


def _cross_entropy(logits: Tensor, label: float) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
