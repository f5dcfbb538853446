"""Autoencoders for images by the architectures of papers."""

import math

import torch
from torch import nn

from hepgen.models.autoencoders import Autoencoder, Error, code_width
from hepgen.models.layers import ChannelsLast, dense, square_side

__all__ = ["FarinaConv", "FarinaDense", "QCDOrWhat"]


class PublishedAutoencoder(Autoencoder):
    """An architecture for images as published, whose bottleneck and objective may be varied; subclasses give layers.

    The output is linear: where few batches are seen, one that cannot be negative may end at 0 and stay there.

    Args:
        shape: (1, pixels, pixels) of one image.
        latent_dim: Width of the bottleneck.
        noise: See `Autoencoder`, as for the settings that follow.
        sparsity: Weight of the penalty on the code.
        beta: Weight of the divergence.
        loss: The error.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        latent_dim: int = 6,
        noise: float = 0.0,
        sparsity: float = 0.0,
        beta: float | None = None,
        loss: Error = "mse",
    ) -> None:
        encoder, decoder = self.layers(shape, code_width(latent_dim, beta), latent_dim)
        super().__init__(
            shape, nn.Sequential(ChannelsLast(), *encoder), nn.Sequential(*decoder), latent_dim,
            noise=noise, sparsity=sparsity, beta=beta, loss=loss,
        )  # fmt: skip
        self.to(memory_format=torch.channels_last)

    @staticmethod
    def layers(shape: tuple[int, ...], width: int, latent_dim: int) -> tuple[list[nn.Module], list[nn.Module]]:
        """Layers from images to (n, width), and from codes (n, latent_dim) back."""
        raise NotImplementedError


class QCDOrWhat(PublishedAutoencoder):
    """After the image autoencoder of "QCD or What?": 3 × 3 convolutions with PReLU, average pooling, dense layers.

    Heimel, Kasieczka, Plehn, Thompson 2018, arXiv:1808.08979, on 40 × 40 pixels; the numbers of channels (10 before
    the pooling, 5 after it) and the width of the dense layer (100) are this implementation's.
    """

    @staticmethod
    def layers(shape: tuple[int, ...], width: int, latent_dim: int) -> tuple[list[nn.Module], list[nn.Module]]:
        """Layers from images to (n, width), and from codes (n, latent_dim) back."""
        side = square_side("qcd_or_what", shape, 2) // 2
        flat = 5 * side * side
        down = [
            *_convolution(1, 10, nn.PReLU(10)), *_convolution(10, 10, nn.PReLU(10)), nn.AvgPool2d(2),
            *_convolution(10, 5, nn.PReLU(5)), *_convolution(5, 5, nn.PReLU(5)), nn.Flatten(),
            nn.Linear(flat, 100), nn.PReLU(100), nn.Linear(100, width),
        ]  # fmt: skip
        up = [
            nn.Linear(latent_dim, 100), nn.PReLU(100), nn.Linear(100, flat), nn.PReLU(flat),
            nn.Unflatten(1, (5, side, side)),
            *_convolution(5, 5, nn.PReLU(5)), nn.ConvTranspose2d(5, 10, 2, 2), nn.PReLU(10),
            *_convolution(10, 10, nn.PReLU(10)), nn.Conv2d(10, 1, 3, padding=1),
        ]  # fmt: skip
        return down, up


class FarinaDense(PublishedAutoencoder):
    """The dense autoencoder of Farina et al., 1369-32-6-32-1369 for 37 × 37 pixels.

    Farina, Nakai, Shih 2018, arXiv:1808.08992; the activations are this implementation's.
    """

    @staticmethod
    def layers(shape: tuple[int, ...], width: int, latent_dim: int) -> tuple[list[nn.Module], list[nn.Module]]:
        """Layers from images to (n, width), and from codes (n, latent_dim) back."""
        pixels = square_side("farina_dense", shape, 1) ** 2
        return [nn.Flatten(), *dense([pixels, 32, width])], dense([latent_dim, 32, pixels])


class FarinaConv(PublishedAutoencoder):
    """The convolutional autoencoder of Farina et al.: 128C3-MP2-128C3-MP2-128C3-32-6-32 and its mirror image.

    C3 is a 3 × 3 convolution, MP2 a maximum pooling; upsampling by 2 stands for it in the decoder.
    Farina, Nakai, Shih 2018, arXiv:1808.08992; the activations are this implementation's. It is costly.
    """

    @staticmethod
    def layers(shape: tuple[int, ...], width: int, latent_dim: int) -> tuple[list[nn.Module], list[nn.Module]]:
        """Layers from images to (n, width), and from codes (n, latent_dim) back."""
        side = square_side("farina_conv", shape, 1)
        half = math.ceil(side / 2)
        quarter = math.ceil(half / 2)
        down = [
            *_convolution(1, 128, nn.ReLU()), nn.MaxPool2d(2, ceil_mode=True),
            *_convolution(128, 128, nn.ReLU()), nn.MaxPool2d(2, ceil_mode=True),
            *_convolution(128, 128, nn.ReLU()), nn.Flatten(), *dense([128 * quarter**2, 32, width]),
        ]  # fmt: skip
        up = [
            *dense([latent_dim, 32, 128 * quarter**2]), nn.ReLU(), nn.Unflatten(1, (128, quarter, quarter)),
            *_convolution(128, 128, nn.ReLU()), nn.Upsample(size=(half, half)),
            *_convolution(128, 128, nn.ReLU()), nn.Upsample(size=(side, side)),
            nn.Conv2d(128, 1, 3, padding=1),
        ]  # fmt: skip
        return down, up


def _convolution(channels: int, out: int, activation: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A 3 × 3 convolution that keeps the side."""
    return nn.Conv2d(channels, out, 3, padding=1), activation
