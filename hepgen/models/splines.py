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
    low, extent, slopes = _around(t, parameters, bound, axis=1 if inverse else 0)
    (x0, y0), (width, height) = low.unbind(1), extent.unbind(1)
    delta = height / width
    a, b = (slopes / delta[:, None]).unbind(1)
    both = a + b
    if inverse:
        # The root of (1 − c) θ² + c θ = rise in [0, 1], in the form that does not cancel.
        rise = (t - y0) / height
        c = a - rise * (both - 2)
        theta = 2 * rise / (c + torch.sqrt(c * c + 4 * rise * (1 - c)))
    else:
        theta = (t - x0) / width
    rest = 1 - theta
    square, product, other = theta * theta, theta * rest, rest * rest
    bottom = torch.addcmul(square + other, both, product)
    share = torch.addcmul(square, a, product) / bottom
    bulge = torch.addcmul(torch.addcmul(product + product, b, square), a, other)
    log_slope = torch.log(delta * bulge / (bottom * bottom))
    # Beyond the bound the end of the spline is moved along: its slope there is 1.
    beyond = x - t
    if inverse:
        return torch.addcmul(x0, theta, width) + beyond, -log_slope
    return torch.addcmul(y0, height, share) + beyond, log_slope


def _around(t: Tensor, parameters: Tensor, bound: float, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the splines are between the knots around points t of [−bound, bound], of shape (d, n), on an axis.

    Returns:
        The knot before, the width and height to that after, and the derivatives at both, all of shape (d, 2, n) and in
        the precision of t.
    """
    bins = (parameters.shape[1] + 1) // 3
    sizes = parameters[:, : 2 * bins].unflatten(1, (2, bins)).softmax(2)
    # A knot is the sum of the bins before it; those at the bounds are no sums, so that they are exact.
    number = torch.arange(bins + 1, dtype=sizes.dtype, device=t.device)[:, None]
    least = torch.where(number < bins, 2 * bound * LEAST * number - bound, bound)
    sums = sizes.new_full((bins + 1, bins), 2 * bound * (1 - LEAST * bins)).tril(-1) * (number < bins)
    knots = torch.baddbmm(least, sums.expand(2 * t.shape[0], -1, -1), sizes.flatten(0, 1)).unflatten(0, (-1, 2))
    before = (t[:, None] >= knots[:, axis, 1:-1]).sum(1)
    sides = torch.stack([before, before + 1], dim=1)
    low, high = knots.gather(2, sides[:, None].expand(-1, 2, -1, -1)).to(t.dtype).unbind(2)
    edge = parameters.new_full((1, 1, 1), UNIT_SLOPE).expand(t.shape[0], 1, t.shape[1])
    slopes = torch.cat([edge, parameters[:, 2 * bins :], edge], dim=1).gather(1, sides)
    return low, high - low, (functional.softplus(slopes) + LEAST).to(t.dtype)
