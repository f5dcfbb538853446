"""Normalizing flows: densities that can be evaluated and sampled exactly."""

import math

import torch
from nflows.distributions import StandardNormal
from nflows.nn.nets import ResidualNet
from nflows.transforms import CompositeTransform, PiecewiseRationalQuadraticCouplingTransform
from nflows.transforms.base import Transform
from torch import Tensor, nn

from hepgen.errors import HepgenError
from hepgen.models.layers import weighted_mean

__all__ = ["Flow", "RQSCouplingFlow"]


class Flow(nn.Module):
    """An invertible map between events and standard normal noise, for given conditions.

    Subclasses set `transform`, whose call and whose ``inverse`` take (n, features) and the conditions to the pair of
    (n, features) and the log of the Jacobian determinant, (n,).

    Args:
        shape: (features,).
        conditions: Number of conditions, which may be 0.
    """

    scaler = "support"
    mirror_eta = False
    batch = 2500
    transform: Transform

    def __init__(self, shape: tuple[int, ...], conditions: int) -> None:
        super().__init__()
        (self.features,) = shape
        self.conditions = conditions
        self.base = StandardNormal([self.features])

    def forward(self, x: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Noise of shape (n, features) that events came from, and log |∂z/∂x|, shape (n,)."""
        return self.transform(x, self._context(c))

    def inverse(self, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Events of shape (n, features) made from noise, and log |∂x/∂z|, shape (n,)."""
        return self.transform.inverse(z, self._context(c))

    def log_prob(self, x: Tensor, c: Tensor) -> Tensor:
        """Log density of events of shape (n, features) under conditions (n, conditions), shape (n,)."""
        z, log_jacobian = self(x, c)
        return self.base.log_prob(z) + log_jacobian

    def loss(self, x: Tensor, c: Tensor, weight: Tensor | None = None) -> Tensor:
        """Weighted mean of the negative log-likelihood, a scalar."""
        return weighted_mean(-self.log_prob(x, c), weight)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.features, generator=generator)

    @torch.no_grad()
    def draw(self, noise: Tensor, c: Tensor) -> Tensor:
        return self.inverse(noise, c)[0]

    def _context(self, c: Tensor) -> Tensor | None:
        return c if self.conditions else None


class RQSCouplingFlow(Flow):
    """Coupling flow of monotonic rational-quadratic splines that starts as the identity.

    Which features a layer transforms is given by the binary digits of their index, each mask being followed
    by its complement: 2 ⌈log₂ features⌉ layers make every feature depend on every other.

    Args:
        shape: (features,), at least 2.
        conditions: Number of conditions, which may be 0.
        layers: Coupling layers.
        bins: Bins of each spline.
        tail_bound: The splines act inside ±tail_bound and are the identity outside.
        hidden: Width of the residual networks that predict the splines.
        blocks: Residual blocks of each network.

    Raises:
        HepgenError: if there are fewer than two features.

    References:
        Durkan, Bekasov, Murray, Papamakarios, Neural Spline Flows, 2019, arXiv:1906.04032.
        Gao, Isaacson, Krause, i-flow (the masks), 2020, arXiv:2001.10028.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        conditions: int,
        *,
        layers: int = 6,
        bins: int = 8,
        tail_bound: float = 5.0,
        hidden: int = 128,
        blocks: int = 2,
    ) -> None:
        super().__init__(shape, conditions)
        if self.features < 2:
            msg = f"rqs_flow: a coupling flow needs at least 2 features, found {self.features}"
            raise HepgenError(msg)

        def network(inputs: int, outputs: int) -> nn.Module:
            return ResidualNet(inputs, outputs, hidden, context_features=conditions or None, num_blocks=blocks)

        self.transform = CompositeTransform(
            [
                _SplineCoupling(mask, network, num_bins=bins, tails="linear", tail_bound=tail_bound)
                for mask in _masks(self.features, layers)
            ]
        )
        for coupling in self.transform._transforms:
            _start_as_identity(coupling)


class _SplineCoupling(PiecewiseRationalQuadraticCouplingTransform):
    """nflows' coupling layer with its splines inverted in float64.

    In float32, rounding in a steep spline can make the discriminant of the inverse's quadratic negative, on
    which nflows stops; the network, which takes most of the time, stays in the precision of its inputs.
    """

    def _coupling_transform_inverse(self, inputs: Tensor, transform_params: Tensor) -> tuple[Tensor, Tensor]:
        outputs, log_jacobian = super()._coupling_transform_inverse(inputs.double(), transform_params.double())
        return outputs.to(inputs.dtype), log_jacobian.to(inputs.dtype)


def _masks(features: int, layers: int) -> list[Tensor]:
    """1 for the features that a layer transforms, 0 for those that it looks at."""
    digits = math.ceil(math.log2(features))
    index = torch.arange(features)
    return [((index >> (layer // 2 % digits)) & 1) ^ (layer & 1) for layer in range(layers)]


def _start_as_identity(coupling: PiecewiseRationalQuadraticCouplingTransform) -> None:
    """Bins of equal size and derivatives of 1, whatever the features looked at."""
    final = coupling.transform_net.final_layer
    nn.init.zeros_(final.weight)
    nn.init.zeros_(final.bias)
    slopes = final.bias.data.view(coupling.num_transform_features, -1)[:, 2 * coupling.num_bins :]
    # softplus(x) + min_derivative = 1
    slopes.fill_(math.log(math.expm1(1 - coupling.min_derivative)))
