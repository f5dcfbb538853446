"""The normalised autoencoder: a reconstruction error that is a probability density's energy."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hepgen.errors import HepgenError
from hepgen.models.autoencoders import ConvAutoencoder, DenseAutoencoder
from hepgen.models.layers import at_least
from hepgen.models.reconstruction import Reconstructor

__all__ = ["NormalisedAutoencoder"]

REPLAYED = 4096
RESTART = 0.05
# Steps of the chains, in units of the sphere's radius and of the residual's standard deviation.
LATENT_STEP = 0.1
INPUT_STEP = 0.3


class NormalisedAutoencoder(Reconstructor):
    """An autoencoder that learns p(x) ∝ exp(−E(x)/T), E the mean squared residual, by maximum likelihood.

    An autoencoder lowers the error of events alone, and may rebuild others just as well. Here the error of events that
    the model itself deems likely is raised: they are drawn by Langevin chains, first among codes on the unit sphere,
    most of which go on from the last batch's, then, from what the decoder makes of these, among inputs.
    An ordinary training comes first; the temperature is fixed when it ends, so that the residuals on training events
    have the density's variance.

    Args:
        shape: Shape of observables (d,), or of images (1, pixels, pixels).
        hidden: Widths of the dense layers of a `DenseAutoencoder`; one width for images' `ConvAutoencoder`.
        latent_dim: Dimensions of the space whose unit sphere the codes lie on, at least 2.
        pretraining: Batches of ordinary training before.
        steps: Steps of each of the two chains.
        regularisation: Weight γ of the squared energies, in units of twice the mean one of pretraining; they keep the
            two energies from drifting apart. Energies of events drawn are raised up to 1/γ times that mean, not beyond.

    References:
        Yoon, Noh, Park 2021, arXiv:2105.05735 (on-manifold initialisation).
        Dillon, Favaro, Plehn, Sorrenson, Krämer 2022, arXiv:2206.14225 (jets).
        Du, Mordatch 2019, arXiv:1903.08689 (regularisation).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        hidden: Sequence[int] = (64,),
        latent_dim: int = 3,
        pretraining: int = 1000,
        steps: int = 10,
        regularisation: float = 0.1,
    ) -> None:
        at_least(2, latent_dim=latent_dim)
        at_least(1, pretraining=pretraining, steps=steps)
        at_least(0.0, regularisation=regularisation)
        super().__init__(shape, latent_dim)
        if len(shape) not in (1, 3) or (len(shape) == 3 and len(hidden) != 1):
            msg = f"normalised_autoencoder: inputs of shape {tuple(shape)}, hidden {hidden}"
            raise HepgenError(f"{msg}; it takes observables, or images with one hidden width")
        self.network = (
            DenseAutoencoder(shape, hidden=hidden, latent_dim=latent_dim)
            if len(shape) == 1
            else ConvAutoencoder(shape, hidden=hidden[0], latent_dim=latent_dim)
        )
        self.pretraining = pretraining
        self.steps = steps
        self.regularisation = regularisation
        # The residuals' dimensions: the inputs' less the sphere's.
        self.freedom = max(1, math.prod(shape) - latent_dim + 1)
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.register_buffer("temperature", torch.ones(()))
        self.register_buffer("replay", functional.normalize(torch.randn(REPLAYED, latent_dim)))

    def encode(self, x: Tensor) -> Tensor:
        """Codes on the unit sphere, shape (n, latent_dim)."""
        return functional.normalize(self.network.encode(x))

    def decode(self, code: Tensor) -> Tensor:
        """What codes of shape (n, latent_dim) stand for, shape (n, *shape)."""
        return self.network.decode(code)

    def loss(self, x: Tensor, weight: Tensor | None = None) -> Tensor | None:
        """T times the negative log-likelihood's gradient as a loss of a batch, each event counting by its weight (n,).

        It is no measure of what has been learnt, for it vanishes where the model's events are the data: there is no
        validation loss, and the last weights stand.
        """
        if not self.training:
            return None
        energy = self.mse(x)
        weight = torch.ones_like(energy) if weight is None else weight
        self.batches += 1
        if self.batches <= self.pretraining:
            self._set_temperature((weight * energy.detach()).mean() / weight.mean().clamp_min(1e-12))
            return (weight * energy).mean()
        drawn = self.mse(self._draw(len(x)))
        unit = self.temperature * self.freedom
        learnt = energy + self.regularisation / unit * energy.square()
        raised = drawn - self.regularisation / unit * drawn.square()
        return (weight * learnt).mean() - weight.mean() * raised.mean()

    def calibrate(self, x: Tensor) -> None:
        """See `Reconstructor`.

        Raises:
            HepgenError: if the training was no longer than its pretraining.
        """
        if self.batches <= self.pretraining:
            msg = f"normalised_autoencoder: all {int(self.batches)} batches were pretraining, as for any autoencoder"
            raise HepgenError(f"{msg}; set settings.pretraining, now {self.pretraining}, below that or train longer")
        super().calibrate(x)

    def _set_temperature(self, energy: Tensor) -> None:
        """T = 2E/(d − l) gives d − l residuals of mean square E·d/(d − l) just that variance; averaged over batches."""
        now = (2 * energy / self.freedom).clamp_min(1e-12)
        self.temperature.copy_(now if self.batches == 1 else torch.lerp(self.temperature, now, 0.05))

    def _draw(self, n: int) -> Tensor:
        """Events of the model, without gradients, shape (n or the buffer's length if that is less, *shape)."""
        # No place twice: which of two codes stays would be left to chance on a GPU.
        place = torch.randperm(REPLAYED, device=self.replay.device)[:n]
        code = self.replay[place]
        restart = torch.rand(len(code), 1, device=code.device) < RESTART
        code = torch.where(restart, functional.normalize(torch.randn_like(code)), code)
        code = self._chain(code, lambda code: self.mse(self.decode(code)), LATENT_STEP, functional.normalize)
        self.replay[place] = code
        # The variance of one residual under exp(−E/T).
        deviation = (self.temperature * math.prod(self.shape) / 2).sqrt()
        bound = torch.relu if len(self.shape) == 3 else (lambda x: x)
        return self._chain(self.decode(code).detach(), self.mse, INPUT_STEP * deviation, bound)

    def _chain(
        self, x: Tensor, energy: Callable[[Tensor], Tensor], step: Tensor | float, project: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """A Langevin chain at the temperature with noise of size `step`; no drift is longer than its noise is wide."""
        for _ in range(self.steps):
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(energy(x).sum(), x)
            drift = -(step**2) / (2 * self.temperature) * slope
            length = drift.flatten(1).norm(dim=1).clamp_min(1e-12)
            limit = step * math.sqrt(x[0].numel())
            drift = drift * (limit / length).clamp(max=1.0).view(-1, *[1] * (x.ndim - 1))
            x = project(x.detach() + drift + step * torch.randn_like(x))
        return x.detach()
