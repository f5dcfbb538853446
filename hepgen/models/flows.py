"""Normalizing flows: densities that can be evaluated and sampled exactly."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from nflows.distributions import StandardNormal
from nflows.nn.nets import ResidualNet
from nflows.transforms import (
    AffineCouplingTransform,
    CompositeTransform,
    MaskedAffineAutoregressiveTransform,
    PiecewiseRationalQuadraticCouplingTransform,
    ReversePermutation,
)
from nflows.transforms.base import Transform
from nflows.transforms.coupling import CouplingTransform
from torch import Tensor, nn
from torch.nn import functional

from hepgen.errors import HepgenError
from hepgen.models.layers import at_least, weighted_mean
from hepgen.models.splines import LEAST, UNIT_SLOPE, rational_quadratic

__all__ = ["AffineCouplingFlow", "Flow", "MaskedAutoregressiveFlow", "RQSCouplingFlow"]


class Flow(nn.Module):
    """An invertible map between events and standard normal noise, for given conditions.

    Subclasses set `transform`, whose call and whose ``inverse`` take (n, features) and the conditions to the pair of
    (n, features) and the log of the Jacobian determinant, (n,). They may leave noise and events in float64: where a
    flow is steep, the one is found from the other only if it is not rounded to float32 on the way.

    Args:
        shape: (features,).
        conditions: Number of conditions, which may be 0.

    Raises:
        HepgenError: if events are no rows of a table.
    """

    scaler = "support"
    makes_features = True
    mirror_eta = False
    # Measured for splines: from 2,000 to 8,000 it is the same, below it is slower.
    batch = 4000
    transform: Transform

    def __init__(self, shape: tuple[int, ...], conditions: int) -> None:
        super().__init__()
        if len(shape) != 1:
            msg = f"events of shape {tuple(shape)}; a flow takes the rows of a table (inputs: features)"
            raise HepgenError(msg)
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
        return (self.base.log_prob(z) + log_jacobian).to(x.dtype)

    def loss(self, x: Tensor, c: Tensor, weight: Tensor | None = None) -> Tensor:
        """Weighted mean of the negative log-likelihood, a scalar."""
        return weighted_mean(-self.log_prob(x, c), weight)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, self.features, generator=generator)

    @torch.no_grad()
    def draw(self, noise: Tensor, c: Tensor) -> Tensor:
        return self.inverse(noise, c)[0].to(noise.dtype)

    def _context(self, c: Tensor) -> Tensor | None:
        return c if self.conditions else None


class RQSCouplingFlow(Flow):
    """Coupling flow of monotonic rational-quadratic splines that starts as the identity.

    The networks are float32, the splines and what is between the layers float64: events are found again from noise of
    float64 but for what is rounded in a network's inputs. `draw` and ``log_prob`` round their results to float32.

    Args:
        shape: (features,), at least 2, or 1 with conditions.
        conditions: Number of conditions, which may be 0.
        layers: Coupling layers; see `_masks` for what each transforms.
        bins: Bins of each spline.
        tail_bound: The splines act inside ±tail_bound and are the identity outside.
        hidden: Width of the residual networks that predict the splines.
        blocks: Residual blocks of each network.

    Raises:
        HepgenError: if there is one feature without conditions, or a setting is impossible.

    References:
        Durkan, Bekasov, Murray, Papamakarios, Neural Spline Flows, 2019, arXiv:1906.04032.
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
        at_least(2, bins=bins)
        at_least(1.0, tail_bound=tail_bound)
        if bins * LEAST >= 1:
            msg = (
                f"settings.bins: is {bins}; it must be below {1 / LEAST:g}, as no bin is smaller than {LEAST:g} of all"
            )
            raise HepgenError(msg)
        coupling = partial(_SplineCoupling, num_bins=bins, tails="linear", tail_bound=tail_bound)
        self.transform = _couplings(coupling, self, layers, hidden, blocks)
        for layer in self.transform._transforms:
            layer.transform_net.final_layer.bias.data.view(-1, 3 * bins - 1)[:, 2 * bins :] = UNIT_SLOPE


class AffineCouplingFlow(Flow):
    """Coupling flow that scales and shifts, and starts as the identity: quick, but blind to separate clusters.

    Args:
        shape: (features,), at least 2, or 1 with conditions.
        conditions: Number of conditions, which may be 0.
        layers: Coupling layers; see `_masks` for what each transforms.
        hidden: Width of the residual networks that predict scales and shifts.
        blocks: Residual blocks of each network.

    Raises:
        HepgenError: if there is one feature without conditions, or a setting is impossible.

    References:
        Dinh, Sohl-Dickstein, Bengio, Density estimation using Real NVP, 2016, arXiv:1605.08803.
    """

    def __init__(
        self, shape: tuple[int, ...], conditions: int, *, layers: int = 8, hidden: int = 128, blocks: int = 2
    ) -> None:
        super().__init__(shape, conditions)
        self.transform = _couplings(_AffineCoupling, self, layers, hidden, blocks)


class MaskedAutoregressiveFlow(Flow):
    """Flow that scales and shifts every feature by those before it, and starts as the identity.

    Each layer takes the features in the reverse order of the one before. The density of an event costs one pass, making
    one costs a pass for each feature.

    Args:
        shape: (features,).
        conditions: Number of conditions, which may be 0.
        layers: Autoregressive layers.
        hidden: Width of the masked residual networks, at least the number of features.
        blocks: Residual blocks of each network.

    Raises:
        HepgenError: if a setting is impossible.

    References:
        Papamakarios, Pavlakou, Murray, Masked Autoregressive Flow for Density Estimation, 2017, arXiv:1705.07057.
        Germain et al., MADE (the masks), 2015, arXiv:1502.03509.
    """

    def __init__(
        self, shape: tuple[int, ...], conditions: int, *, layers: int = 6, hidden: int = 128, blocks: int = 2
    ) -> None:
        super().__init__(shape, conditions)
        at_least(1, layers=layers, blocks=blocks)
        at_least(self.features, hidden=hidden)
        transforms: list[Transform] = []
        for _ in range(layers):
            layer = _MaskedAffine(self.features, hidden, context_features=conditions or None, num_blocks=blocks)
            final = layer.autoregressive_net.final_layer
            nn.init.zeros_(final.weight)
            final.bias.data.view(-1, 2)[:] = torch.tensor([UNIT_SLOPE, 0.0])
            transforms += [layer, _Reverse(self.features)]
        self.transform = CompositeTransform(transforms)


class _AffineCoupling(AffineCouplingTransform):
    """nflows' affine coupling layer with scales between e⁻³ and e³; nflows' own do not exceed 1.001.

    This and the next two do without checks of shapes, which no traced graph can hold.
    """

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        changed, shift, log_scale = self._split(inputs, context)
        outputs = inputs.index_copy(1, self.transform_features, changed * log_scale.exp() + shift)
        return outputs, log_scale.sum(1)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        changed, shift, log_scale = self._split(inputs, context)
        outputs = inputs.index_copy(1, self.transform_features, (changed - shift) / log_scale.exp())
        return outputs, -log_scale.sum(1)

    def _split(self, inputs: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The features that are transformed, their shifts and the logarithms of their scales, all (n, features)."""
        shift, scale = self.transform_net(inputs[:, self.identity_features], context).chunk(2, dim=1)
        return inputs[:, self.transform_features], shift, 3 * torch.tanh(scale / 3)


class _MaskedAffine(MaskedAffineAutoregressiveTransform):
    """nflows' autoregressive layer."""

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        outputs = log_jacobian = torch.zeros_like(inputs)
        for _ in range(self.features):
            parameters = self.autoregressive_net(outputs, context)
            outputs, log_jacobian = self._elementwise_inverse(inputs, parameters)
        return outputs, log_jacobian


class _Reverse(ReversePermutation):
    """nflows' reversal of the features."""

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return inputs.flip(1), inputs.new_zeros(inputs.shape[0])

    inverse = forward


class _SplineCoupling(PiecewiseRationalQuadraticCouplingTransform):
    """nflows' coupling layer with its parameters, but hepgen's spline.

    What is made of an event is a column in memory, so that all that is computed of one parameter lies together, and
    stays in float64 from the first layer to the last; the network, which takes most of the time, has its own precision.
    """

    def __init__(self, mask: Tensor, *args: Any, **settings: Any) -> None:
        super().__init__(mask, *args, **settings)
        # nflows divides widths and heights by √hidden; it is quicker to do that to the weights that they come from.
        scale = torch.ones(len(self.transform_features), 3 * self.num_bins - 1, dtype=torch.float64)
        scale[:, : 2 * self.num_bins] /= self.transform_net.hidden_features**0.5
        self.register_buffer("scale", scale.flatten()[:, None], persistent=False)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._map(inputs, context, inverse=False)

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._map(inputs, context, inverse=True)

    def _map(self, inputs: Tensor, context: Tensor | None, *, inverse: bool) -> tuple[Tensor, Tensor]:
        x = inputs.t().double()
        parameters = self._splines(x[self.identity_features], context)
        mapped, log_slope = rational_quadratic(x[self.transform_features], parameters, self.tail_bound, inverse=inverse)
        return x.index_copy(0, self.transform_features, mapped).t(), log_slope.sum(0)

    def _splines(self, seen: Tensor, context: Tensor | None) -> Tensor:
        """Parameters of the splines, shape (features, 3 bins − 1, n), from features looked at, shape (features, n)."""
        net = self.transform_net
        final = net.final_layer
        scale = self.scale.to(final.weight.dtype)
        inputs = seen.t().to(final.weight.dtype)
        hidden = net.initial_layer(inputs if context is None else torch.cat([inputs, context], dim=1))
        for block in net.blocks:
            first, second = block.linear_layers
            # In place, as memory takes longer than arithmetic.
            change = second(first(functional.relu(hidden)).relu_())
            if context is not None:
                change = functional.glu(torch.cat([change, block.context_layer(context)], dim=1), dim=1)
            hidden = change.add_(hidden)
        parameters = torch.addmm(final.bias[:, None] * scale, final.weight * scale, hidden.t())
        return parameters.unflatten(0, (self.transform_features.shape[0], -1))


def _couplings(
    coupling: Callable[..., CouplingTransform], flow: Flow, layers: int, hidden: int, blocks: int
) -> CompositeTransform:
    """Coupling layers whose networks predict 0.

    Raises:
        HepgenError: if the flow has neither two features nor a condition, or a setting is below 1.
    """
    at_least(1, layers=layers, hidden=hidden, blocks=blocks)
    if flow.features < 2 and not flow.conditions:
        msg = f"a coupling flow without conditions needs at least 2 features, found {flow.features}"
        raise HepgenError(msg)

    def network(inputs: int, outputs: int) -> nn.Module:
        net = ResidualNet(inputs, outputs, hidden, context_features=flow.conditions or None, num_blocks=blocks)
        nn.init.zeros_(net.final_layer.weight)
        nn.init.zeros_(net.final_layer.bias)
        return net

    return CompositeTransform([coupling(mask, network) for mask in _masks(flow.features, layers)])


def _masks(features: int, layers: int) -> list[Tensor]:
    """1 for the features that a layer transforms, 0 for those that it looks at, by the binary digits of their index.

    Each mask is followed by its complement: 2 ⌈log₂ features⌉ layers make every feature depend on every other, as in
    Gao, Isaacson, Krause, i-flow, 2020, arXiv:2001.10028. A single feature is transformed by all layers.
    """
    if features == 1:
        return [torch.ones(1)] * layers
    digits = math.ceil(math.log2(features))
    index = torch.arange(features)
    return [((index >> (layer // 2 % digits)) & 1) ^ (layer & 1) for layer in range(layers)]
