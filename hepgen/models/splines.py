"""Monotonic rational-quadratic splines, without branches on values."""

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["LEAST", "UNIT_SLOPE", "rational_quadratic"]

# The smallest bin, as a share of all, and the smallest derivative.
LEAST = 1e-3
# The parameter of a derivative of 1.
UNIT_SLOPE = math.log(math.expm1(1 - LEAST))


def rational_quadratic(x: Tensor, parameters: Tensor, bound: float, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Map numbers by one spline each, which acts inside ±bound and is the identity outside.

    The knots are found in the precision of the parameters, the map between them in that of x: where parameters make
    the slope 1e-6, an inverse needs what only float64 holds.

    Args:
        x: Numbers, shape (d, n).
        parameters: Of `bins` widths and heights, which are their softmax, and of the `bins` − 1 derivatives at the
            inner knots, which are their softplus: shape (d, 3 bins − 1, n); events come last because that is fastest.
        bound: Where the splines end, with derivative 1.
        inverse: Whether to apply the inverse map.

    Returns:
        The mapped numbers and the logarithms of the derivatives there, of shape (d, n) and in the precision of x.

    References:
        Durkan, Bekasov, Murray, Papamakarios, Neural Spline Flows, 2019, arXiv:1906.04032.
    """
    t = x.clamp(-bound, bound)
    (x0, y0), (x1, y1), (d0, d1) = _around(t, parameters, bound, axis=1 if inverse else 0)
    width, height = x1 - x0, y1 - y0
    delta = height / width
    curve = d0 + d1 - 2 * delta
    if inverse:
        # The root of a θ² + b θ = δ rise in [0, 1], in the form that does not cancel.
        rise = t - y0
        b = height * d0 - rise * curve
        c = delta * rise
        theta = 2 * c / (b + torch.sqrt(b * b + 4 * c * (height * delta - b)))
    else:
        theta = (t - x0) / width
    rest = 1 - theta
    product = theta * rest
    share = delta / (delta + curve * product)
    mapped = x0 + theta * width if inverse else y0 + theta * (delta * theta + d0 * rest) * width * share
    log_slope = torch.log(share * share * (d1 * theta * theta + 2 * delta * product + d0 * rest * rest))
    # Beyond the bound the end of the spline is moved along: its slope there is 1.
    return mapped + (x - t), -log_slope if inverse else log_slope


def _around(t: Tensor, parameters: Tensor, bound: float, axis: int) -> list[tuple[Tensor, Tensor]]:
    """What the splines are between the knots around points t of [−bound, bound], of shape (d, n), on an axis.

    Returns:
        Coordinates (x, y) of the knot before and of that after, and the derivatives at both: each of shape (d, n).
    """
    bins = (parameters.shape[1] + 1) // 3
    sizes = parameters[:, : 2 * bins].unflatten(1, (2, bins)).softmax(2)
    least = 2 * bound * LEAST * torch.arange(1, bins, dtype=sizes.dtype, device=t.device)[:, None] - bound
    inner = torch.add(least, sizes[:, :, :-1].cumsum(2), alpha=2 * bound * (1 - LEAST * bins))
    after = (t[:, None] >= inner[:, axis]).sum(1)
    sides = torch.stack([after - 1, after], dim=1)
    index = sides.clamp(0, bins - 2)
    ends = sides != index
    knots = inner.gather(2, index[:, None].expand(-1, 2, -1, -1)).to(t.dtype)
    edges = bound * torch.arange(-1, 2, 2, dtype=t.dtype, device=t.device)[:, None]
    slopes = functional.softplus(parameters[:, 2 * bins :].gather(1, index)) + LEAST
    before, behind = torch.where(ends[:, None], edges, knots).unbind(2)
    return [before.unbind(1), behind.unbind(1), torch.where(ends, 1.0, slopes.to(t.dtype)).unbind(1)]
