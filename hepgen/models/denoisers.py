"""Networks that diffusion and flow matching share: what an event is inside, and how noise is told from it."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from hepgen.models.layers import dense
from hepgen.models.sets import present

__all__ = ["CloudDenoiser", "TableDenoiser"]

# Radians per unit of time of the slowest and of the fastest wave of the embedding, as powers of ten.
SLOWEST, FASTEST, WAVES = 0.0, 2.0, 16
# Deviations from the mean beyond which no logarithm of a pT is made: exp does not overflow.
FARTHEST = 10.0


class Time(nn.Module):
    """Times, shape (n, 1), as features of a given width: sines and cosines of them, and a network.

    References:
        Vaswani et al. 2017, arXiv:1706.03762; Ho, Jain, Abbeel 2020, arXiv:2006.11239 (of times).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(SLOWEST, FASTEST, WAVES))
        self.network = nn.Sequential(nn.Linear(2 * WAVES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        angles = t * self.frequencies
        return self.network(torch.cat([angles.sin(), angles.cos()], dim=1))


class TableDenoiser(nn.Module):
    """Residual network for events of features, shape (d,); inside, an event is what it is outside.

    Args:
        shape: (features,).
        conditions: Number of conditions, given beside the features.
        hidden: Width.
        blocks: Residual blocks, each told the time.
    """

    batch = 2500
    scaler: Literal["support"] = "support"
    uniforms = 0

    def __init__(self, shape: tuple[int, ...], conditions: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.shape = shape
        self.first = nn.Linear(shape[0] + conditions, hidden)
        self.time = Time(hidden)
        self.blocks = nn.ModuleList(_TimedBlock(hidden) for _ in range(blocks))
        self.last = nn.Linear(hidden, shape[0])

    def forward(self, z: Tensor, t: Tensor, c: Tensor, mask: Tensor) -> Tensor:
        """What is to be told from noisy events z, shape (n, features), at times t, shape (n, 1) or (1, 1)."""
        h, time = self.first(torch.cat([z, c], dim=1)), self.time(t)
        for block in self.blocks:
            h = block(h, time)
        return self.last(functional.silu(h))

    def enter(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Events as they are inside, shape (n, features), and which of their numbers mean something."""
        return x, torch.ones_like(x)

    def leave(self, z: Tensor, mask: Tensor) -> Tensor:
        """Events from what they are inside."""
        return z

    def surprise(self, mask: Tensor, c: Tensor) -> Tensor:
        """−log p of which numbers mean something, shape (n,): all do."""
        return mask.new_zeros(len(c))

    def draw_mask(self, u: Tensor, c: Tensor) -> Tensor:
        """Which numbers mean something, from `uniforms` random ones."""
        return c.new_ones(1, 1)


class _TimedBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)
        self.time = nn.Linear(width, width)

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        return h + self.second(functional.silu(self.first(functional.silu(h)) + self.time(time)))


class CloudDenoiser(nn.Module):
    """Network for a jet's constituents, shape (number, 3): rows of pT, η and φ by falling pT, padded with zeros.

    Inside, a constituent is (log pT, η, φ), each shifted and scaled to mean 0 and deviation 1 by what the first batch
    of the training holds. How many constituents a jet has is drawn first, by their probabilities under its
    conditions. Rows talk to each other through means and sums over the jet in layers after EPiC; they also know their
    rank, so that the network is not equivariant under permutations: data come sorted.
    Jets with fewer constituents than rows hold all their pT, so that their sum is set to that of such jets; the
    others' is at most that.

    Args:
        shape: (number, 3).
        conditions: Number of conditions, given to the jet's features.
        hidden: Width.
        blocks: Layers.

    References:
        Buhmann, Kasieczka, Thaler, EPiC-GAN, 2023, arXiv:2301.08128; Buhmann et al., EPiC-ly Fast Particle Cloud
        Generation with Flow-Matching and Diffusion, 2023, arXiv:2310.00049.
    """

    batch = 500
    scaler: Literal["scale"] = "scale"
    uniforms = 1

    def __init__(self, shape: tuple[int, ...], conditions: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.shape = shape
        self.first = nn.Linear(3, hidden)
        self.rank = nn.Parameter(torch.randn(shape[0], hidden) / hidden**0.5)
        self.jet = nn.Sequential(*_silu([1 + conditions, hidden, hidden]))
        self.time = Time(hidden)
        self.blocks = nn.ModuleList(_JetBlock(hidden) for _ in range(blocks))
        self.last = nn.Linear(hidden, 3)
        self.numbers = nn.Sequential(*dense([1 + conditions, hidden, shape[0]]))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("deviation", torch.ones(3))
        self.register_buffer("total", torch.ones(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    def forward(self, z: Tensor, t: Tensor, c: Tensor, mask: Tensor) -> Tensor:
        """What is to be told from noisy jets z, shape (n, number, 3), at times t, shape (n, 1) or (1, 1)."""
        share = mask.mean(1)
        h, jet = self.first(z) + self.rank, self.jet(torch.cat([share, c], dim=1)) + self.time(t)
        for block in self.blocks:
            h, jet = block(h, jet, mask, share)
        return self.last(functional.silu(h))

    def enter(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Jets as they are inside, shape (n, number, 3), and which rows are constituents, (n, number, 1)."""
        here = present(x)
        logs = torch.cat([torch.where(here, x[..., 0], 1.0).log()[..., None], x[..., 1:]], dim=-1)
        if self.training and not self.seen:
            self.deviation, self.mean = torch.std_mean(logs[here], dim=0)
            self.total, self.seen = x[..., 0].sum(1).amax(), torch.ones_like(self.seen)
        mask = here[..., None].to(x.dtype)
        return (logs - self.mean) / self.deviation * mask, mask

    def leave(self, z: Tensor, mask: Tensor) -> Tensor:
        """Jets from what they are inside: sorted by falling pT, rows of padding zero."""
        rows = z * self.deviation + self.mean
        pt = z[..., :1].clamp(-FARTHEST, FARTHEST) * self.deviation[0] + self.mean[0]
        pt = pt.exp() * mask
        factor = self.total / pt.sum(1, keepdim=True)
        whole = mask[:, -1:] == 0
        pt = pt * torch.where(whole, factor, factor.clamp(max=1.0))
        order = pt.argsort(dim=1, descending=True)
        return (torch.cat([pt, rows[..., 1:]], dim=-1) * mask).gather(1, order.expand(-1, -1, 3))

    def surprise(self, mask: Tensor, c: Tensor) -> Tensor:
        """−log p of how many rows are constituents, shape (n,)."""
        number = mask.sum((1, 2)).long() - 1
        return functional.cross_entropy(self._numbers(c), number, reduction="none")

    def draw_mask(self, u: Tensor, c: Tensor) -> Tensor:
        """Which rows are constituents, shape (n, number, 1), from a uniform number each, (n, 1)."""
        above = self._numbers(c).softmax(1).cumsum(1) <= u
        first = torch.ones_like(above[:, :1])
        return torch.cat([first, above[:, :-1]], dim=1)[..., None].to(u.dtype)

    def _numbers(self, c: Tensor) -> Tensor:
        """Logits of 1, 2, ... constituents, shape (n, number)."""
        return self.numbers(torch.cat([c.new_ones(c.shape[0], 1), c], dim=1))


class _JetBlock(nn.Module):
    """First the jet's features learn from its constituents, then these from the jet."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pool = nn.Linear(2 * width, width)
        self.jet = nn.Linear(width, width)
        self.tell = nn.Linear(width, width)
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, h: Tensor, jet: Tensor, mask: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        total = (h * mask).mean(1)
        pooled = self.pool(torch.cat([total, total / share], dim=1))
        jet = jet + self.jet(functional.silu(pooled + jet))
        told = self.tell(functional.silu(jet))[:, None]
        return h + self.second(functional.silu(self.first(functional.silu(h)) + told)), jet


def _silu(widths: Sequence[int]) -> list[nn.Module]:
    """The layers of `dense` with SiLU between them."""
    return [nn.SiLU() if isinstance(layer, nn.LeakyReLU) else layer for layer in dense(widths)]
