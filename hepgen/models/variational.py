"""Variational autoencoders that events are drawn from."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from hepgen.errors import HepgenError
from hepgen.models.flows import RQSCouplingFlow
from hepgen.models.layers import at_least, dense, weighted_mean

__all__ = ["VAE"]

# Smallest deviation of the decoder's noise: a code as wide as the event would take it to 0 and the loss to −∞.
SHARPEST = 1e-3
# Beyond these variances of exp(±8) no code is told from a point, or from the prior.
LOG_VARIANCE = 8.0
# How fast the codes' mean and covariance follow the batches.
MOMENTUM = 0.01
# Added to the codes' variances, so that a code which is always the same has a covariance too.
RIDGE = 1e-6


class VAE(nn.Module):
    """An encoder of events, a decoder with noise of a learnt deviation for each feature, and a density of the codes.

    The loss is the negative log-likelihood of the event given its code plus β times the divergence of the code from a
    standard normal one: at β = 1 the negative ELBO. At β = 0 codes are points, as in a plain autoencoder; they then
    fill a shape of the encoder's choosing, and codes drawn from another density decode to events that are like none.
    The flow learns the density of the codes from the same batches, and the encoder nothing from it.

    Args:
        shape: (features,).
        conditions: Number of conditions, given to the encoder, the decoder and the flow.
        latent_dim: Width of the code.
        hidden: Widths of the encoder's hidden layers; the decoder mirrors them.
        beta: Weight of the divergence.
        density: What codes are drawn from: "normal" is the prior, "gaussian" has the codes' mean and covariance,
            "flow" is a spline flow that starts as the latter.

    Raises:
        HepgenError: if the inputs are no features, a setting is too small, or the codes of a plain autoencoder are to
            be drawn from a prior.

    References:
        Kingma, Welling 2013, arXiv:1312.6114; Higgins et al. (β) 2017, ICLR; Rybkin, Daniilidis, Levine (the learnt
        deviation) 2020, arXiv:2006.13202; Dai, Wipf (a second model of the codes) 2019, arXiv:1903.05789.
        Otten et al. 2019, arXiv:1901.00875 (events of the LHC from a VAE whose codes are drawn from those of data).
    """

    scaler = "support"
    makes_features = True
    mirror_eta = False
    batch = 2500

    def __init__(
        self,
        shape: tuple[int, ...],
        conditions: int,
        *,
        latent_dim: int = 7,
        hidden: Sequence[int] = (128, 128),
        beta: float = 1.0,
        density: Literal["normal", "gaussian", "flow"] = "flow",
    ) -> None:
        super().__init__()
        if len(shape) != 1:
            msg = f"vae: inputs of shape {tuple(shape)}; it makes features (inputs: features)"
            raise HepgenError(msg)
        at_least(0.0, beta=beta)
        at_least(2 if density == "flow" else 1, latent_dim=latent_dim)
        allowed = ("normal", "gaussian", "flow") if beta else ("gaussian", "flow")
        if density not in allowed:
            msg = f"settings.density: is {density!r}; with beta {beta} it must be {' or '.join(allowed)}"
            raise HepgenError(msg)
        self.beta, self.latent_dim = beta, latent_dim
        self.encoder = nn.Sequential(*dense([shape[0] + conditions, *hidden, latent_dim * (2 if beta else 1)]))
        self.decoder = nn.Sequential(*dense([latent_dim + conditions, *hidden[::-1], shape[0]]))
        self.log_deviation = nn.Parameter(torch.zeros(shape[0]))
        self.flow = RQSCouplingFlow((latent_dim,), conditions, layers=4, hidden=64) if density == "flow" else None
        self.fitted = density != "normal"
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(latent_dim))
        self.register_buffer("covariance", torch.eye(latent_dim))
        self.register_buffer("root", torch.eye(latent_dim))

    def loss(self, x: Tensor, c: Tensor, weight: Tensor | None = None) -> Tensor:
        """Weighted mean of −log p(x | code) + β divergence, and of −log p(code) where the flow learns that.

        In evaluation codes are drawn with the same noise every time, so that epochs are compared by what they learnt.
        """
        random = None if self.training else torch.Generator(x.device).manual_seed(0)
        code, log_variance = self._posterior(x, c)
        losses = torch.zeros_like(x[:, 0])
        if log_variance is not None:
            losses = self.beta * (code.square() + log_variance.exp() - 1 - log_variance).sum(1) / 2
            drawn = torch.randn(code.shape, device=code.device, generator=random)
            code = code + (log_variance / 2).exp() * drawn
        pull = (x - self._decode(code, c)) / self._deviation()
        losses = losses + (pull.square() / 2 + self._deviation().log() + math.log(2 * math.pi) / 2).sum(1)
        if self.fitted:
            code = code.detach()
            mean, root = self._follow(code, weight) if self.training else (self.mean, self.root)
            if self.flow is not None:
                white = torch.linalg.solve_triangular(root, (code - mean).T, upper=False).T
                losses = losses - self.flow.log_prob(white, c)
        return weighted_mean(losses, weight)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.latent_dim + len(self.log_deviation), generator=generator)

    @torch.no_grad()
    def draw(self, noise: Tensor, c: Tensor) -> Tensor:
        code, smearing = noise[:, : self.latent_dim], noise[:, self.latent_dim :]
        if self.flow is not None:
            code = self.flow.draw(code, c)
        return self._decode(code @ self.root.T + self.mean, c) + self._deviation() * smearing

    def _posterior(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance of the code, each (n, latent_dim); no variance where codes are points."""
        code = self.encoder(torch.cat([x, c], dim=1))
        if not self.beta:
            return code, None
        mean, log_variance = code.chunk(2, dim=1)
        return mean, log_variance.clamp(-LOG_VARIANCE, LOG_VARIANCE)

    def _decode(self, code: Tensor, c: Tensor) -> Tensor:
        return self.decoder(torch.cat([code, c], dim=1))

    def _deviation(self) -> Tensor:
        """Standard deviation of the decoder's noise, shape (features,)."""
        return self.log_deviation.exp() + SHARPEST

    @torch.no_grad()
    def _follow(self, code: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean, and root of the covariance, of a batch's codes, which the running ones move towards."""
        share = torch.full_like(code[:, 0], 1 / len(code)) if weight is None else weight / weight.sum().clamp(min=RIDGE)
        mean = share @ code
        covariance = ((code - mean) * share[:, None]).T @ (code - mean)
        covariance.diagonal().add_(RIDGE)
        self.batches += 1
        pace = torch.clamp(1 / self.batches, min=MOMENTUM)
        self.mean.lerp_(mean, pace)
        self.covariance.lerp_(covariance, pace)
        self.root.copy_(torch.linalg.cholesky(self.covariance))
        return mean, torch.linalg.cholesky(covariance)
