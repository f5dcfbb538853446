"""Autoencoders: networks that learn to rebuild background events and fail on others."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hepgen.errors import HepgenError
from hepgen.models.layers import ChannelsLast, at_least, dense, square_side, weighted_mean
from hepgen.models.reconstruction import Reconstructor

__all__ = ["Autoencoder", "ConvAutoencoder", "DenseAutoencoder", "Error", "LinearAutoencoder", "code_width"]

Error = Literal["mse", "bce"]
# Beyond these variances of exp(±8) no code is told from a point, or from the prior.
LOG_VARIANCE = 8.0


class Autoencoder(Reconstructor):
    """An encoder, a decoder and what they minimise; the settings are independent of the networks and of each other.

    The loss of an event is its error, plus the sparsity penalty, plus the weighted divergence. At β = 1 error and
    divergence together estimate the negative ELBO, with one draw of the code: 1/d of it for "bce", d the number of
    features, and for "mse" 2/d of it up to a constant, if the decoder gives the means of Gaussians of variance 1.
    Noise and draws are part of the loss in evaluation too, so that epochs are compared by what is minimised.

    Args:
        shape: Shape of one event's input.
        encoder: Takes (n, *shape) to (n, `code_width`).
        decoder: Takes (n, latent_dim) to (n, features), or to (n, *shape).
        latent_dim: Width of the code.
        noise: Standard deviation of Gaussian noise on the loss's inputs, none on what is to be rebuilt.
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
        """Error at the mean code plus weighted divergence: the loss, in which the code is drawn, without its noise."""
        mean, log_variance = self._posterior(x)
        return self.error(x, self.decode(mean)) + self._penalty(mean, log_variance)

    def loss(self, x: Tensor, weight: Tensor | None = None) -> Tensor:
        """Mean loss of a batch, each event counting by its weight (n,); noise and draws are the global generator's.

        Raises:
            HepgenError: if the inputs do not suit the cross-entropy.
        """
        if self.plain and weight is None:
            return functional.mse_loss(self.reconstruct(x), x)
        if self.objective == "bce" and self.training:
            _refuse_beyond_unit(x)
        code, log_variance = self._posterior(self.corrupt(x) if self.noise else x)
        penalty = self.sparsity * code.abs().mean(1) if self.sparsity else 0.0
        if log_variance is not None:
            penalty = penalty + self._penalty(code, log_variance)
            code = code + (log_variance / 2).exp() * torch.randn_like(code)
        losses = self.error(x, self.decode(code)) + penalty
        return weighted_mean(losses, weight)

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
        widths = [math.prod(shape), code_width(latent_dim, None)]
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
        at_least(1, channels=channels, hidden=hidden)
        halvings = 2 ** len(channels)
        side = square_side("conv_autoencoder", shape, halvings) // halvings
        flat = channels[-1] * side * side
        down = [layer for pair in pairwise((1, *channels)) for layer in (nn.Conv2d(*pair, 3, 2, 1), nn.ReLU())]
        up = [layer for pair in pairwise((*channels[::-1], 1)) for layer in (_upsample(*pair), nn.ReLU())]
        encoder = nn.Sequential(
            ChannelsLast(), *down, nn.Flatten(), *dense([flat, hidden, code_width(latent_dim, beta)])
        )
        decoder = nn.Sequential(
            *dense([latent_dim, hidden, flat]), nn.ReLU(), nn.Unflatten(1, (channels[-1], side, side)), *up[:-1]
        )
        super().__init__(
            shape, encoder, decoder, latent_dim, noise=noise, sparsity=sparsity, beta=beta, loss=loss, positive=True
        )  # fmt: skip
        self.to(memory_format=torch.channels_last)


def code_width(latent_dim: int, beta: float | None) -> int:
    """How many numbers an encoder gives: the code, with its log-variances where it is variational.

    Raises:
        HepgenError: if the code has no dimension.
    """
    at_least(1, latent_dim=latent_dim)
    return latent_dim if beta is None else 2 * latent_dim


def _upsample(channels: int, out: int) -> nn.Module:
    """A transposed convolution that doubles the side."""
    return nn.ConvTranspose2d(channels, out, 3, 2, 1, output_padding=1)


def _normal_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Kullback-Leibler divergence of normal distributions from the standard one, elementwise."""
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2


def _refuse_beyond_unit(x: Tensor) -> None:
    """Raise `HepgenError` unless a batch lies in [0, 1], but for images brighter than those that fixed the scale."""
    low, high = (float(edge) for edge in x.aminmax())
    if low < 0 or high > 2:
        msg = f"the cross-entropy (loss: bce) needs inputs between 0 and 1; a batch goes from {low:.3g} to {high:.3g}"
        raise HepgenError(f"{msg}: set preprocessing: unit")
