"""What all models that rebuild events share: scores from the residual and from the code."""

import torch
from torch import Tensor, nn

from hepgen.errors import HepgenError
from hepgen.registry import unknown_name

__all__ = ["CHUNK", "Reconstructor"]

# Few enough images at a time for the widest published convolutions.
CHUNK = 512
# Pixels that hardly any training event lights would rule every χ² without a floor: a share of the mean residual.
FLOOR = 1e-2
# Smallest variance of a direction of the code, as a share of the mean one.
COLLAPSED = 1e-4


class Reconstructor(nn.Module):
    """Anomaly score = how badly an event is rebuilt, or how unusual its code is; subclasses encode and decode.

    Each of `kinds` is a method that takes inputs of shape (n, *shape) and returns scores of shape (n,).

    Args:
        shape: Shape of one event's input.
        latent_dim: Width of the code.
    """

    kinds: tuple[str, ...] = ("mse", "chi2", "latent")

    def __init__(self, shape: tuple[int, ...], latent_dim: int) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.register_buffer("variance", torch.ones(self.shape))
        self.register_buffer("center", torch.zeros(latent_dim))
        self.register_buffer("precision", torch.eye(latent_dim))

    def encode(self, x: Tensor) -> Tensor:
        """Codes of shape (n, latent_dim)."""
        raise NotImplementedError

    def decode(self, code: Tensor) -> Tensor:
        """What codes of shape (n, latent_dim) stand for, shape (n, *shape)."""
        raise NotImplementedError

    def reconstruct(self, x: Tensor) -> Tensor:
        """What the model makes of inputs of shape (n, *shape), same shape."""
        return self.decode(self.encode(x))

    def score(self, x: Tensor, kind: str | None = None) -> Tensor:
        """Scores of one of `kinds`, the first without a name, of shape (n,); nothing random enters them.

        Raises:
            HepgenError: if there is no such kind or the inputs have another shape than the model's.
        """
        kind = kind or self.kinds[0]
        if kind not in self.kinds:
            raise unknown_name("score", kind, self.kinds)
        # Sizes are no plain numbers while the model is traced for an export.
        if not torch.jit.is_tracing() and tuple(x.shape[1:]) != self.shape:
            msg = f"events of shape {tuple(x.shape[1:])} cannot be scored: the model was made for {self.shape}"
            raise HepgenError(msg)
        return getattr(self, kind)(x)

    def mse(self, x: Tensor) -> Tensor:
        """Mean squared residual."""
        return (x - self.reconstruct(x)).square().flatten(1).mean(1)

    def chi2(self, x: Tensor) -> Tensor:
        """Squared residual in units of its mean square on training events, averaged over pixels or features."""
        return ((x - self.reconstruct(x)).square() / self.variance).flatten(1).mean(1)

    def latent(self, x: Tensor) -> Tensor:
        """Squared Mahalanobis distance of the code from those of training events (Mahalanobis 1936)."""
        distance = self.encode(x) - self.center
        return ((distance @ self.precision) * distance).sum(1)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Learn from training inputs of shape (n, *shape) what `chi2` and `latent` compare with."""
        codes = torch.cat([self.encode(part) for part in x.split(CHUNK)]).double()
        self.center.copy_(codes.mean(0))
        covariance = (codes - codes.mean(0)).T @ (codes - codes.mean(0)) / len(codes)
        # A collapsed dimension varies by rounding only, which must not rule the distance.
        covariance += (COLLAPSED * covariance.diagonal().mean() + 1e-12) * torch.eye(len(covariance)).to(covariance)
        self.precision.copy_(torch.linalg.inv(covariance))
        if "chi2" in self.kinds:
            squares = sum((part - self.reconstruct(part)).double().square().sum(0) for part in x.split(CHUNK)) / len(x)
            self.variance.copy_(squares.clamp_min(FLOOR * float(squares.mean()) + 1e-12))
