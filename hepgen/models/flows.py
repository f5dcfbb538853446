"""Normalizing flows: densities that can be evaluated and sampled exactly."""

import math

import torch
from nflows.distributions import StandardNormal
from nflows.nn.nets import ResidualNet
from nflows.transforms import CompositeTransform, PiecewiseRationalQuadraticCouplingTransform
from nflows.transforms.base import Transform
from torch import Tensor, nn

from hepgen.errors import HepgenError

__all__ = ["Flow", "RQSCouplingFlow"]

SAMPLE_BATCH = 2500


class Flow(nn.Module):
    """An invertible map between data and standard normal noise.

    Subclasses set `transform`, a module whose call and whose ``inverse`` take (n, features) to the pair
    of (n, features) and the log of the Jacobian determinant, (n,).

    Attributes:
        scaler: The preprocessing that it wants; see `hepgen.generation.train`.
        mirror_eta: Whether it wants to be trained on events reflected at random along the beam.
    """

    scaler = "support"
    mirror_eta = False
    transform: Transform

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.base = StandardNormal([features])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Noise of shape (n, features) that data came from, and log |∂z/∂x|, shape (n,)."""
        return self.transform(x)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Data of shape (n, features) made from noise, and log |∂x/∂z|, shape (n,)."""
        return self.transform.inverse(z)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density at points of shape (n, features), shape (n,)."""
        z, log_jacobian = self(x)
        return self.base.log_prob(z) + log_jacobian

    def loss(self, x: Tensor) -> Tensor:
        """Mean negative log-likelihood, a scalar."""
        return -self.log_prob(x).mean()

    @torch.no_grad()
    def sample(self, n: int, seed: int | torch.Generator) -> Tensor:
        """Draw events of shape (n, features), float32, on the CPU.

        The noise is drawn on the CPU on every device, so that a seed means the same events everywhere.
        """
        generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        device = next(self.parameters()).device
        noise = torch.randn(n, self.features, generator=generator)
        return torch.cat([self.inverse(z.to(device))[0].cpu() for z in noise.split(SAMPLE_BATCH)])


class RQSCouplingFlow(Flow):
    """Coupling flow of monotonic rational-quadratic splines that starts as the identity.

    Which features a layer transforms is given by the binary digits of their index, each mask being followed
    by its complement: 2 ⌈log₂ features⌉ layers make every feature depend on every other.

    Args:
        features: Number of columns, at least 2.
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
        features: int,
        *,
        layers: int = 6,
        bins: int = 8,
        tail_bound: float = 5.0,
        hidden: int = 128,
        blocks: int = 2,
    ) -> None:
        if features < 2:
            msg = f"rqs_flow: a coupling flow needs at least 2 features, found {features}"
            raise HepgenError(msg)
        super().__init__(features)

        def network(inputs: int, outputs: int) -> nn.Module:
            return ResidualNet(inputs, outputs, hidden, num_blocks=blocks)

        self.transform = CompositeTransform(
            [
                _SplineCoupling(mask, network, num_bins=bins, tails="linear", tail_bound=tail_bound)
                for mask in _masks(features, layers)
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
