"""Samplers of the unit hypercube that adapt to an integrand, each point with its weight."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import vegas
from torch import Tensor, nn

from hepgen.config import IntegrationMethod
from hepgen.errors import HepgenError
from hepgen.models import GENERATORS
from hepgen.training import pick_device, train

__all__ = ["Draw", "Integrand", "draw"]

Integrand = Callable[[np.ndarray], np.ndarray]

BATCH = 50_000


class Draw(NamedTuple):
    """Points of an adapted sampler.

    Attributes:
        u: Points in the unit hypercube, shape (n, d).
        weight: Integrand over density, shape (n,); its mean estimates the integral.
        stratum: The part of the hypercube that each point was drawn in, shape (n,); their numbers are fixed.
        adaptation: Evaluations of the integrand before these.
    """

    u: np.ndarray
    weight: np.ndarray
    stratum: np.ndarray
    adaptation: int


def draw(
    name: str,
    method: IntegrationMethod,
    integrand: Integrand,
    dimensions: int,
    events: int,
    seed: int,
    device: str = "auto",
) -> Draw:
    """Adapt a method to an integrand, then draw points of it, which do not adapt it any more.

    Args:
        name: What the method is called in ``integration.methods``.
        method: What to draw with.
        integrand: Takes points of shape (n, dimensions) to values of shape (n,), nowhere negative.
        dimensions: Of the hypercube.
        events: How many points to draw; VEGAS+ draws as many whole iterations as come closest.
        seed: Fixes all random numbers.
        device: Of a flow: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        HepgenError: if a flow's settings are unfit or its training diverges.
    """
    rng = np.random.default_rng(seed)
    if method.type == "flow":
        return _flow(name, method, integrand, dimensions, events, seed, device)
    if method.type == "uniform":
        u = rng.random((events, dimensions))
        return Draw(u, integrand(u), np.zeros(events, dtype=np.int32), 0)
    return _vegas(method, integrand, dimensions, events, rng)


def _vegas(
    method: IntegrationMethod, integrand: Integrand, dimensions: int, events: int, rng: np.random.Generator
) -> Draw:
    """VEGAS with its library's settings; for ``vegas`` without adaptive strata, points then drawn from the map alone.

    References:
        Lepage, J. Comput. Phys. 27 (1978) 192; VEGAS+: Lepage, 2020, arXiv:2009.05112.
    """
    stratified = {} if method.type == "vegas_plus" else {"beta": 0.0}
    sampler = vegas.Integrator(
        [[0, 1]] * dimensions,
        nitn=method.iterations,
        neval=method.points,
        ran_array_generator=rng.random,
        **stratified,
    )
    adaptation = int(sampler(vegas.lbatchintegrand(integrand)).sum_neval)
    if method.type == "vegas":
        y = rng.random((events, dimensions))
        u, jacobian = np.empty_like(y), np.empty(events)
        sampler.map.map(y, u, jacobian)
        return Draw(u, jacobian * integrand(u), np.zeros(events, dtype=np.int32), adaptation)
    iterations = max(round(events / sampler.last_neval), 1)
    # The iterator lends its arrays and writes into them again.
    batches = [
        [np.array(array) for array in batch]
        for _ in range(iterations)
        for batch in sampler.random_batch(yield_hcube=True)
    ]
    u, volume, stratum = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    return Draw(u, volume * integrand(u) * len(u) / iterations, stratum.astype(np.int32), adaptation)


def _flow(
    name: str, method: IntegrationMethod, integrand: Integrand, dimensions: int, events: int, seed: int, device: str
) -> Draw:
    torch.manual_seed(seed)
    try:
        flow = GENERATORS.load(method.model)((dimensions,), 0, **method.settings)
    except HepgenError as error:
        msg = f"integration.methods.{name}: {error}"
        raise HepgenError(msg) from error
    model = _Adapting(flow, integrand).to(pick_device(device))
    noise = _Noise(method.points, dimensions)
    train(model, [noise], settings=method.training, seed=seed, name=name)
    generator = torch.Generator().manual_seed(seed)
    parts = [model.points(flow.noise(min(BATCH, events - n), generator)) for n in range(0, events, BATCH)]
    u, weight = (np.concatenate(arrays) for arrays in zip(*(part[2:] for part in parts), strict=True))
    return Draw(u, weight, np.zeros(events, dtype=np.int32), method.points * method.training.epochs)


class _Noise:
    """Standard normal noise, new at every look; `hepgen.training.train` fixes the seed in each epoch."""

    def __init__(self, number: int, dimensions: int) -> None:
        self.shape = number, dimensions

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor) -> Tensor:
        return torch.randn(len(index), self.shape[1])


class _Adapting(nn.Module):
    """A flow that learns an integrand from the points that it draws itself.

    The hypercube's points are u = Φ(v), Φ being the normal distribution function and v the flow's events, so that a
    flow that is the identity draws uniform points. Points outside the cuts have no weight, and teach only by their
    absence.

    References:
        Gao, Isaacson, Krause, i-flow, 2020, arXiv:2001.05486; Gao, Höche, Isaacson, Krause, Schulz, Event generation
        with normalizing flows, 2020, arXiv:2001.10028.
    """

    def __init__(self, flow: nn.Module, integrand: Integrand) -> None:
        super().__init__()
        self.flow = flow
        self.integrand = integrand

    @torch.no_grad()
    def points(self, noise: Tensor) -> tuple[Tensor, Tensor, np.ndarray, np.ndarray]:
        """Events v that noise becomes, their log-densities, points u of the hypercube and weights f(u)/g(u)."""
        noise = noise.to(next(self.parameters()).device)
        v, log_jacobian = self.flow.inverse(noise, noise[:, :0])
        v = v.to(noise.dtype)
        density = _normal(noise) - log_jacobian.double()
        # Beyond eight deviations u would be 0 or 1 to double precision, on a face of the hypercube.
        u = torch.special.ndtr(v.double().clamp(-8, 8)).cpu().numpy()
        return v, density, u, self.integrand(u) * (_normal(v) - density).exp().cpu().numpy()

    def loss(self, noise: Tensor) -> Tensor:
        """The divergence ∫ p ln(p/g) of the flow's density g from the normalised integrand p.

        Estimated with points drawn from g as it is, which are held fixed: its value is that of the mean of w ln w, its
        gradient that of the mean of -w ln g, w being the weights over their mean.
        """
        v, density, _, weight = self.points(noise)
        weight = torch.from_numpy(weight / max(weight.mean(), np.finfo(float).tiny)).to(v.device)
        ratio = density - self.flow.log_prob(v, v[:, :0])
        return (torch.xlogy(weight, weight) + weight * ratio).mean()


def _normal(x: Tensor) -> Tensor:
    """Log-density of the standard normal distribution, shape (n,), in double precision."""
    x = x.double()
    return -0.5 * (x**2 + np.log(2 * np.pi)).sum(1)
