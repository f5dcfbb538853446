"""Autoencoders: networks that learn to rebuild background events and fail on others."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hepgen.errors import HepgenError
from hepgen.models.reconstruction import Reconstructor

__all__ = [
    "Autoencoder",
    "ConvAutoencoder",
    "DenseAutoencoder",
    "FarinaConv",
    "FarinaDense",
    "LinearAutoencoder",
    "QCDOrWhat",
    "code_width",
    "dense",
]

Error = Literal["mse", "bce"]
# Beyond these variances of exp(±8) no code is told from a point, or from the prior.
LOG_VARIANCE = 8.0


class Autoencoder(Reconstructor):
    """An encoder, a decoder and what they minimise; the settings are independent of the networks and of each other.

    The loss of an event is its error, plus the sparsity penalty, plus the divergence that makes error and divergence
    together the negative ELBO per feature where β = 1: for "mse" of a decoder with Gaussians of variance 1.

    Args:
        shape: Shape of one event's input.
        encoder: Takes (n, *shape) to (n, `code_width`).
        decoder: Takes (n, latent_dim) to (n, features), or to (n, *shape).
        latent_dim: Width of the code.
        noise: Standard deviation of Gaussian noise on the inputs in training, none on what is to be rebuilt.
        sparsity: Weight of the mean absolute value of the code.
        beta: Weight of the Kullback-Leibler divergence of the code from a standard normal one: 1 for a variational
            autoencoder, another one for a β-VAE, none for a deterministic autoencoder.
        loss: The error that is minimised: "mse", or "bce" for inputs in [0, 1].
        positive: Whether the inputs are not negative, as pixels.

    References:
        Vincent, Larochelle, Bengio, Manzagol 2008, ICML (denoising).
        Kingma, Welling 2013, arXiv:1312.6114 (variational); Higgins et al. 2017, ICLR (β).
        Cerri, Nguyen, Pierini, Spiropulu, Vlimant 2018, arXiv:1811.10276 (VAE for new physics at the LHC).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        encoder: nn.Module,
        decoder: nn.Module,
        latent_dim: int,
        *,
        noise: float = 0.0,
        sparsity: float = 0.0,
        beta: float | None = None,
        loss: Error = "mse",
        positive: bool = False,
    ) -> None:
        super().__init__(shape, latent_dim)
        if loss not in ("mse", "bce") or min(noise, sparsity, beta or 0.0) < 0:
            msg = f"autoencoder: noise {noise}, sparsity {sparsity}, beta {beta}, loss {loss!r}"
            raise HepgenError(f"{msg}; the numbers must not be negative, and loss is mse or bce")
        self.encoder = encoder
        self.decoder = decoder
        self.noise = noise
        self.sparsity = sparsity
        self.beta = beta
        self.objective = loss
        self.output = nn.Sigmoid() if loss == "bce" else nn.Softplus(beta=10) if positive else nn.Identity()
        self.plain = loss == "mse" and not noise and not sparsity and beta is None
        if loss == "bce":
            self.kinds = ("bce", *self.kinds)
        if beta is not None:
            self.kinds = (*self.kinds, "kl", "elbo")
            self.divergence = self._divergence

    def encode(self, x: Tensor) -> Tensor:
        """Codes of shape (n, latent_dim); the mean of a variational one."""
        return self._posterior(x)[0]

    def decode(self, code: Tensor) -> Tensor:
        """What codes of shape (n, latent_dim) stand for, shape (n, *shape)."""
        return self.output(self.decoder(code)).reshape(-1, *self.shape)

    def error(self, x: Tensor, rebuilt: Tensor) -> Tensor:
        """The error that the training minimises, shape (n,)."""
        if self.objective == "bce":
            return functional.binary_cross_entropy(rebuilt, x.clamp(0, 1), reduction="none").flatten(1).mean(1)
        return (x - rebuilt).square().flatten(1).mean(1)

    def bce(self, x: Tensor) -> Tensor:
        """Mean binary cross-entropy of inputs in [0, 1]; what lies beyond counts as 0 or 1."""
        return self.error(x, self.reconstruct(x))

    def kl(self, x: Tensor) -> Tensor:
        """Kullback-Leibler divergence of the code's distribution from the prior."""
        return self._divergence(x).sum(1)

    def elbo(self, x: Tensor) -> Tensor:
        """The negative evidence lower bound per feature, at the mean code, with the divergence weighted by β."""
        mean, log_variance = self._posterior(x)
        return self.error(x, self.decode(mean)) + self._penalty(mean, log_variance)

    def loss(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Mean loss of a batch, each event counting by its weight (n,).

        Raises:
            HepgenError: if the inputs do not suit the cross-entropy.
        """
        if self.plain and weight is None:
            return functional.mse_loss(self.reconstruct(x), x)
        if self.objective == "bce" and self.training:
            _refuse_beyond_unit(x)
        code, log_variance = self._posterior(self.corrupt(x) if self.noise and self.training else x)
        penalty = self.sparsity * code.abs().mean(1) if self.sparsity else 0.0
        if log_variance is not None:
            penalty = penalty + self._penalty(code, log_variance)
            if self.training:
                code = code + (log_variance / 2).exp() * torch.randn_like(code)
        losses = self.error(x, self.decode(code)) + penalty
        return losses.mean() if weight is None else (weight * losses).mean()

    def corrupt(self, x: Tensor) -> Tensor:
        """Inputs with noise."""
        return x + self.noise * torch.randn_like(x)

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance of the code's normal distribution; a point where the code is deterministic."""
        code = self.encoder(x)
        if self.beta is None:
            return code, None
        mean, log_variance = code.chunk(2, dim=1)
        return mean, log_variance.clamp(-LOG_VARIANCE, LOG_VARIANCE)

    def _divergence(self, x: Tensor) -> Tensor:
        """Kullback-Leibler divergence of each dimension of the code, shape (n, latent_dim)."""
        return _normal_divergence(*self._posterior(x))

    def _penalty(self, mean: Tensor, log_variance: Tensor) -> Tensor:
        scale = 2.0 if self.objective == "mse" else 1.0
        return scale * self.beta / math.prod(self.shape) * _normal_divergence(mean, log_variance).sum(1)


class LinearAutoencoder(Autoencoder):
    """One linear layer down and one back: its optimum is PCA's subspace (Baldi, Hornik 1989, Neural Networks 2, 53).

    Args:
        shape: Shape of one event's input, flattened inside.
        latent_dim: Width of the bottleneck.
    """

    def __init__(self, shape: tuple[int, ...], *, latent_dim: int = 2) -> None:
        widths = [math.prod(shape), latent_dim]
        super().__init__(shape, nn.Sequential(nn.Flatten(), *dense(widths)), nn.Linear(*widths[::-1]), latent_dim)


class DenseAutoencoder(Autoencoder):
    """Fully connected layers down to a bottleneck and back.

    Args:
        shape: Shape of one event's input, flattened inside.
        hidden: Widths of the encoder's hidden layers; the decoder mirrors them.
        latent_dim: Width of the bottleneck.
        noise: See `Autoencoder`, as for the settings that follow.
        sparsity: Weight of the penalty on the code.
        beta: Weight of the divergence.
        loss: The error.

    References:
        Heimel, Kasieczka, Plehn, Thompson 2018, arXiv:1808.08979; Farina, Nakai, Shih 2018, arXiv:1808.08992.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        hidden: Sequence[int] = (32, 16),
        latent_dim: int = 2,
        noise: float = 0.0,
        sparsity: float = 0.0,
        beta: float | None = None,
        loss: Error = "mse",
    ) -> None:
        down = [math.prod(shape), *hidden, code_width(latent_dim, beta)]
        up = [latent_dim, *hidden[::-1], math.prod(shape)]
        encoder, decoder = nn.Sequential(nn.Flatten(), *dense(down)), nn.Sequential(*dense(up))
        super().__init__(
            shape, encoder, decoder, latent_dim, noise=noise, sparsity=sparsity, beta=beta, loss=loss
        )  # fmt: skip


class ConvAutoencoder(Autoencoder):
    """Strided convolutions down to a bottleneck and transposed ones back, for images.

    Strides in place of pooling and memory in channels-last order make it four times as fast on a CPU as the
    published layout. The output is a softplus: pixels are not negative.

    Args:
        shape: (1, pixels, pixels) of one image; the side must be divisible by 2 to the power of the layers.
        channels: Channels after each halving of the image.
        hidden: Width of the dense layer on both sides of the bottleneck.
        latent_dim: Width of the bottleneck.
        noise: See `Autoencoder`, as for the settings that follow.
        sparsity: Weight of the penalty on the code.
        beta: Weight of the divergence.
        loss: The error.

    References:
        Heimel, Kasieczka, Plehn, Thompson 2018, arXiv:1808.08979; Farina, Nakai, Shih 2018, arXiv:1808.08992.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        channels: Sequence[int] = (16, 32),
        hidden: int = 64,
        latent_dim: int = 6,
        noise: float = 0.0,
        sparsity: float = 0.0,
        beta: float | None = None,
        loss: Error = "mse",
    ) -> None:
        halvings = 2 ** len(channels)
        side = _side("conv_autoencoder", shape, halvings) // halvings
        flat = channels[-1] * side * side
        down = [layer for pair in pairwise((1, *channels)) for layer in (nn.Conv2d(*pair, 3, 2, 1), nn.ReLU())]
        up = [layer for pair in pairwise((*channels[::-1], 1)) for layer in (_upsample(*pair), nn.ReLU())]
        encoder = nn.Sequential(
            _ChannelsLast(), *down, nn.Flatten(), *dense([flat, hidden, code_width(latent_dim, beta)])
        )
        decoder = nn.Sequential(
            *dense([latent_dim, hidden, flat]), nn.ReLU(), nn.Unflatten(1, (channels[-1], side, side)), *up[:-1]
        )
        super().__init__(
            shape, encoder, decoder, latent_dim, noise=noise, sparsity=sparsity, beta=beta, loss=loss, positive=True
        )  # fmt: skip
        self.to(memory_format=torch.channels_last)


class PublishedAutoencoder(Autoencoder):
    """An architecture for images as published, whose bottleneck and objective may be varied; subclasses give layers.

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
            shape, nn.Sequential(_ChannelsLast(), *encoder), nn.Sequential(*decoder), latent_dim,
            noise=noise, sparsity=sparsity, beta=beta, loss=loss, positive=True,
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
        side = _side("qcd_or_what", shape, 2) // 2
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
        pixels = _side("farina_dense", shape, 1) ** 2
        return [nn.Flatten(), *dense([pixels, 32, width])], dense([latent_dim, 32, pixels])


class FarinaConv(PublishedAutoencoder):
    """The convolutional autoencoder of Farina et al.: 128C3-MP2-128C3-MP2-128C3-32-6-32 and its mirror image.

    C3 is a 3 × 3 convolution, MP2 a maximum pooling; upsampling by 2 stands for it in the decoder.
    Farina, Nakai, Shih 2018, arXiv:1808.08992; the activations are this implementation's. It is costly.
    """

    @staticmethod
    def layers(shape: tuple[int, ...], width: int, latent_dim: int) -> tuple[list[nn.Module], list[nn.Module]]:
        """Layers from images to (n, width), and from codes (n, latent_dim) back."""
        side = _side("farina_conv", shape, 1)
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


class _ChannelsLast(nn.Module):
    """Images in the memory order that convolutions on a CPU are fastest in."""

    def forward(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last)


def code_width(latent_dim: int, beta: float | None) -> int:
    """How many numbers an encoder gives: the code, with its log-variances where it is variational."""
    return latent_dim if beta is None else 2 * latent_dim


def dense(widths: Sequence[int]) -> list[nn.Module]:
    """Linear layers of the given widths with activations between them."""
    layers = [layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.LeakyReLU(0.1))]
    return layers[:-1]


def _convolution(channels: int, out: int, activation: nn.Module) -> tuple[nn.Module, nn.Module]:
    """A 3 × 3 convolution that keeps the side."""
    return nn.Conv2d(channels, out, 3, padding=1), activation


def _upsample(channels: int, out: int) -> nn.Module:
    """A transposed convolution that doubles the side."""
    return nn.ConvTranspose2d(channels, out, 3, 2, 1, output_padding=1)


def _side(name: str, shape: tuple[int, ...], divisor: int) -> int:
    """The side of square images of one channel.

    Raises:
        HepgenError: if the inputs are no such images, or their side is not a multiple of the divisor.
    """
    if len(shape) != 3 or shape[0] != 1 or shape[1] != shape[2] or shape[1] % divisor:
        msg = f"{name}: inputs of shape {tuple(shape)}; it takes square images (inputs: images)"
        raise HepgenError(f"{msg} with a side divisible by {divisor}")
    return shape[1]


def _normal_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of normal distributions from the standard one, elementwise."""
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2


def _refuse_beyond_unit(x: Tensor) -> None:
    """Raise `HepgenError` unless a batch lies in [0, 1], but for images brighter than those that fixed the scale."""
    low, high = (float(edge) for edge in x.aminmax())
    if low < 0 or high > 2:
        msg = f"the cross-entropy (loss: bce) needs inputs between 0 and 1; a batch goes from {low:.3g} to {high:.3g}"
        raise HepgenError(f"{msg}: set preprocessing: unit")
