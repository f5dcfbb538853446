"""Invertible scalers of observables that know their log-Jacobian."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from hepgen.training import Indexable

__all__ = ["SCALERS", "MinMax", "Scale", "Scaler", "Standard", "Support", "Unit", "scaled"]


class Scaler(nn.Module):
    """An invertible, elementwise map of columns, fitted once.

    Forward takes physical values of shape (n, d) in float64 to network inputs in float32; `inverse` takes
    them back. The fitted constants are buffers, so that they are saved with the model.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(features, dtype=torch.float64))

    def fit(self, x: Tensor) -> "Scaler":
        """Learn the constants from data of shape (n, d)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        return ((x.double() - self.shift) / self.scale).float()

    def inverse(self, z: Tensor) -> Tensor:
        """Network values of shape (n, d) back to physical ones, float64."""
        return z.double() * self.scale + self.shift

    def log_jacobian(self, x: Tensor) -> Tensor:
        """log |∂z/∂x| summed over columns, shape (n,)."""
        return -self.scale.log().sum().expand(len(x))


class Standard(Scaler):
    """Mean 0 and standard deviation 1 in every column; constant columns are only shifted."""

    def fit(self, x: Tensor) -> "Standard":
        x = x.double()
        self.shift.copy_(x.mean(0))
        self.scale.copy_(_nonzero((x - self.shift).square().mean(0).sqrt()))
        return self


class MinMax(Scaler):
    """The range of every column mapped to [−1, 1]."""

    def fit(self, x: Tensor) -> "MinMax":
        low, high = x.double().amin(0), x.double().amax(0)
        self.shift.copy_((high + low) / 2)
        self.scale.copy_(_nonzero((high - low) / 2))
        return self


class Scale(Scaler):
    """One factor for each feature of the last axis: zeros stay zeros, as they must in images and padding.

    The root mean square becomes 1. With one feature all pixels of an image share the factor.
    """

    def fit(self, x: Tensor) -> "Scale":
        self.scale.copy_(_nonzero(self._flat(x).square().mean(0).sqrt()))
        return self

    def _flat(self, x: Tensor) -> Tensor:
        return x.double().reshape(-1, len(self.scale))

    def log_jacobian(self, x: Tensor) -> Tensor:
        repeats = x[0].numel() // len(self.scale)
        return super().log_jacobian(x) * repeats


class Unit(Scale):
    """The largest value becomes 1 and the smallest, or 0 where that is smaller, 0: what a cross-entropy needs."""

    def fit(self, x: Tensor) -> "Unit":
        flat = self._flat(x)
        low = flat.amin(0).clamp(max=0.0)
        self.shift.copy_(low)
        self.scale.copy_(_nonzero(flat.amax(0) - low))
        return self


class Support(Scaler):
    """Maps each column's support to the real line, then to mean 0 and standard deviation 1.

    A column bounded below becomes log(exp(t) − 1) with t = x − low in units of its mean, one bounded on both
    sides log((x − low)/(high − x)), and an unbounded one stays as it is; what the network makes is thus always
    inside the support. The first is log t near the bound and t itself in the tail: after a plain logarithm a
    small excess of the network's noise over the data becomes an event far beyond any spectrum.

    Args:
        support: (low, high) of each column, ±inf where unbounded. Data on the edge of a bound are moved
            inside by a billionth of their spread.
    """

    def __init__(self, support: list[tuple[float, float]]) -> None:
        super().__init__(len(support))
        self.register_buffer("bounds", torch.tensor(support, dtype=torch.float64).T.contiguous())
        self.register_buffer("margin", torch.zeros(len(support), dtype=torch.float64))
        self.register_buffer("unit", torch.ones(len(support), dtype=torch.float64))

    def fit(self, x: Tensor) -> "Support":
        self.margin.copy_(1e-9 * _nonzero(x.double().std(0, correction=0)))
        self.unit.copy_(self._distances(x)[0].mean(0))
        u = self._to_line(x)
        self.shift.copy_(u.mean(0))
        self.scale.copy_(_nonzero(u.std(0, correction=0)))
        return self

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self._to_line(x))

    def inverse(self, z: Tensor) -> Tensor:
        u = super().inverse(z)
        low, high = self.bounds
        one_sided = low + self.unit * functional.softplus(u)
        two_sided = low + (high - low) * u.sigmoid()
        return torch.where(low.isinf(), u, torch.where(high.isinf(), one_sided, two_sided))

    def log_jacobian(self, x: Tensor) -> Tensor:
        below, above = self._distances(x)
        low, high = self.bounds
        one_sided = -self.unit.log() - (-torch.expm1(-below / self.unit)).log()
        two_sided = (1 + below / above).log() - below.log()
        slope = torch.where(high.isinf(), one_sided, two_sided)
        return super().log_jacobian(x) + torch.where(low.isinf(), 0.0, slope).sum(1)

    def _to_line(self, x: Tensor) -> Tensor:
        below, above = self._distances(x)
        low, high = self.bounds
        t = below / self.unit
        one_sided = t + (-torch.expm1(-t)).log()
        two_sided = below.log() - above.log()
        return torch.where(low.isinf(), x.double(), torch.where(high.isinf(), one_sided, two_sided))

    def _distances(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Distances of every value from its two bounds, 1 where there is none."""
        low, high = self.bounds
        below = torch.where(low.isinf(), 1.0, torch.maximum(x.double() - low, self.margin))
        above = torch.where(high.isinf(), 1.0, torch.maximum(high - x.double(), self.margin))
        return below, above


def _nonzero(scale: Tensor) -> Tensor:
    return torch.where(scale > math.ulp(1.0), scale, 1.0)


SCALERS = {"standard": Standard, "scale": Scale, "unit": Unit}


def scaled(inputs: "Indexable", scaler: Scaler) -> "Indexable":
    """Network inputs: a tensor at once, anything else when it is asked for."""
    return scaler(inputs) if isinstance(inputs, Tensor) else _Lazy(inputs, scaler)


class _Lazy:
    """Rows that are made and scaled when they are indexed."""

    def __init__(self, rows: "Indexable", scaler: Scaler) -> None:
        self.rows = rows
        self.scaler = scaler

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.scaler(self.rows[index])
