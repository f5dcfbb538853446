"""Diffusion and flow matching: events made of noise step by step, for tables and for jets' constituents."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from hepgen.errors import HepgenError
from hepgen.models.denoisers import CloudDenoiser, TableDenoiser
from hepgen.models.layers import at_least, weighted_mean

__all__ = ["Diffusion", "FlowMatching"]

# The offset of the cosine schedule that keeps its first steps from being too small, and the largest β.
OFFSET, LARGEST = 0.008, 0.999
# Estimates of the clean event lie within so many deviations: at the first steps they are a small difference blown up.
BOUND = 20.0
# Deviation that is left of the noise at the end of a path.
LEFT = 1e-4


class Denoising(nn.Module):
    """What methods share that learn to take noise away: the network, the times, and what is random.

    Subclasses say how an event and noise are mixed and what of it the network is to tell (`mix`), and how events are
    made of noise (`refine`). Many steps at a high learning rate with averaged weights suit them, for example
    ``training: {epochs: 20, batch_size: 256, learning_rate: 2.0e-3, ema: 0.999, clip_norm: 1.0}``.

    Args:
        shape: (features,), or (number, 3) of a jet's constituents: pT, η and φ.
        conditions: Number of conditions, which may be 0.
        hidden: Width of the network.
        blocks: Its residual blocks.

    Raises:
        HepgenError: if the shape is another one, or a setting is too small.
    """

    mirror_eta = False
    makes_features = True
    makes_constituents = True

    def __init__(self, shape: tuple[int, ...], conditions: int, hidden: int, blocks: int) -> None:
        super().__init__()
        at_least(1, hidden=hidden, blocks=blocks)
        if len(shape) != 1 and (len(shape) != 2 or shape[1] != 3):
            msg = f"inputs of shape {tuple(shape)}; it makes features or a jet's constituents"
            raise HepgenError(f"{msg} (inputs: features or constituents)")
        network = TableDenoiser if len(shape) == 1 else CloudDenoiser
        self.network = network(shape, conditions, hidden, blocks)
        self.scaler, self.batch, self.uniforms = network.scaler, network.batch, network.uniforms
        self.size = math.prod(shape)

    def mix(self, z: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy events at times t in [0, 1), the times that the network is told, and what it is to answer."""
        raise NotImplementedError

    def refine(self, noise: Tensor, c: Tensor, mask: Tensor) -> Tensor:
        """Events, as they are inside, from normal noise of shape (n, `normals`)."""
        raise NotImplementedError

    @property
    def normals(self) -> int:
        """How many normal numbers an event is made of."""
        return self.size

    def loss(self, x: Tensor, c: Tensor, weight: Tensor | None = None) -> Tensor:
        """Weighted mean of the squared error, and of −log p of the number of constituents where there are any.

        The times of a batch are spread evenly (Kingma, Salimans, Poole, Ho 2021, arXiv:2107.00630). In evaluation,
        noise and times are the same every time, so that epochs are compared by what they learnt.
        """
        random = None if self.training else torch.Generator(x.device).manual_seed(0)
        z, mask = self.network.enter(x)
        noise = torch.randn(z.shape, device=z.device, generator=random)
        place = torch.randperm(len(z), device=z.device, generator=random)
        t = (place + torch.rand(len(z), device=z.device, generator=random)) / len(z)
        noisy, told, target = self.mix(z, noise, t.view(-1, *[1] * (z.ndim - 1)))
        error = (self.network(noisy, told.flatten(1)[:, :1], c, mask) - target).square() * mask
        losses = error.flatten(1).sum(1) / mask.expand_as(error).flatten(1).sum(1)
        return weighted_mean(losses + self.network.surprise(mask, c), weight)

    def noise(self, n: int, generator: torch.Generator) -> Tensor:
        normal = torch.randn(n, self.normals, generator=generator)
        return torch.cat([normal, torch.rand(n, self.uniforms, generator=generator)], dim=1)

    @torch.no_grad()
    def draw(self, noise: Tensor, c: Tensor) -> Tensor:
        mask = self.network.draw_mask(noise[:, self.normals :], c)
        return self.network.leave(self.refine(noise[:, : self.normals], c, mask), mask)


class Diffusion(Denoising):
    """Denoising diffusion with the cosine schedule; the network tells the noise.

    Args:
        shape: See `Denoising`, as for the three that follow.
        conditions: Number of conditions.
        hidden: Width of the network.
        blocks: Its residual blocks.
        steps: Steps of the diffusion that is learnt.
        sampling_steps: How many of them, evenly spaced, events are drawn with.
        sampler: "ddim" is a deterministic function of one draw of noise, its steps of second order for the same cost;
            "ancestral" adds noise in every step.

    References:
        Ho, Jain, Abbeel 2020, arXiv:2006.11239; Nichol, Dhariwal (the schedule) 2021, arXiv:2102.09672; Song, Meng,
        Ermon (the samplers) 2020, arXiv:2010.02502; Zhang, Chen (the second order: the step before gives the slope's
        change, as in the rule of Adams and Bashforth) 2022, arXiv:2204.13902.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        conditions: int,
        *,
        hidden: int = 128,
        blocks: int = 3,
        steps: int = 1000,
        sampling_steps: int = 50,
        sampler: Literal["ddim", "ancestral"] = "ddim",
    ) -> None:
        super().__init__(shape, conditions, hidden, blocks)
        at_least(1, sampling_steps=sampling_steps)
        at_least(sampling_steps, steps=steps)
        if sampler not in ("ddim", "ancestral"):
            msg = f"settings.sampler: is {sampler!r}; it must be ddim or ancestral"
            raise HepgenError(msg)
        self.steps, self.sampling_steps, self.ancestral = steps, sampling_steps, sampler == "ancestral"
        schedule = _cosine_schedule(steps)
        self.register_buffer("kept", schedule, persistent=False)
        # As numbers, so that a graph that is traced from the sampling holds them as constants.
        self.kept_shares: list[float] = schedule.tolist()

    @property
    def normals(self) -> int:
        return self.size * (1 + self.ancestral * (self.sampling_steps - 1))

    def mix(self, z: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # Rounding in float32 can make the last time of a batch 1.
        step = (t * self.steps).long().clamp(max=self.steps - 1) + 1
        kept = self.kept[step]
        return kept.sqrt() * z + (1 - kept).sqrt() * noise, step / self.steps, noise

    def refine(self, noise: Tensor, c: Tensor, mask: Tensor) -> Tensor:
        z, *fresh = noise.view(-1, self.normals // self.size, *self.network.shape).unbind(1)
        before, width_before = None, 1.0
        for place, (step, kept, next_kept) in enumerate(self._schedule()):
            told = direction = self.network(z, z.new_full((1, 1), step / self.steps), c, mask)
            width = math.sqrt(1 / next_kept - 1) - math.sqrt(1 / kept - 1)
            if before is not None and not self.ancestral:
                direction = told + width / (2 * width_before) * (told - before)
            before, width_before = told, width
            variance = (1 - next_kept) / (1 - kept) * (1 - kept / next_kept) if self.ancestral else 0.0
            clean = ((z - math.sqrt(1 - kept) * direction) / math.sqrt(kept)).clamp(-BOUND, BOUND)
            z = math.sqrt(next_kept) * clean + math.sqrt(1 - next_kept - variance) * direction
            if variance:
                z = z + math.sqrt(variance) * fresh[place]
        return z

    def _schedule(self) -> Iterator[tuple[int, float, float]]:
        """Steps from the last one down, and the shares of the event's variance kept at each and at the next one."""
        steps = [1 + self.steps * i // self.sampling_steps for i in range(self.sampling_steps)][::-1]
        for step, following in pairwise([*steps, 0]):
            yield step, self.kept_shares[step], self.kept_shares[following]


class FlowMatching(Denoising):
    """Conditional flow matching along straight paths from noise to events; the network tells the velocity.

    Args:
        shape: See `Denoising`, as for the three that follow.
        conditions: Number of conditions.
        hidden: Width of the network.
        blocks: Its residual blocks.
        steps: Steps of the midpoint rule, each of which takes the network twice.

    References:
        Lipman, Chen, Ben-Hamu, Nickel, Le 2022, arXiv:2210.02747.
    """

    def __init__(
        self, shape: tuple[int, ...], conditions: int, *, hidden: int = 128, blocks: int = 3, steps: int = 25
    ) -> None:
        super().__init__(shape, conditions, hidden, blocks)
        at_least(1, steps=steps)
        self.steps = steps

    def mix(self, z: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return t * z + (1 - (1 - LEFT) * t) * noise, t, z - (1 - LEFT) * noise

    def refine(self, noise: Tensor, c: Tensor, mask: Tensor) -> Tensor:
        def velocity(z: Tensor, t: float) -> Tensor:
            return self.network(z, z.new_full((1, 1), t), c, mask)

        z = noise.view(-1, *self.network.shape)
        width = 1 / self.steps
        for step in range(self.steps):
            middle = z + width / 2 * velocity(z, step * width)
            z = z + width * velocity(middle, (step + 0.5) * width)
        return z


def _cosine_schedule(steps: int) -> Tensor:
    """ᾱ, the share of the event's variance that is kept after 0, 1, ..., steps steps, shape (steps + 1,)."""
    angle = (torch.arange(steps + 1, dtype=torch.float64) / steps + OFFSET) / (1 + OFFSET) * math.pi / 2
    squares = angle.cos().square()
    ratio = (squares[1:] / squares[:-1]).clamp(min=1 - LARGEST)
    return torch.cat([torch.ones(1, dtype=torch.float64), ratio.cumprod(0)]).float()
