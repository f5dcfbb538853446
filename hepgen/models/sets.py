"""Networks of jets as sets of constituents: the order of the particles does not matter."""

from collections.abc import Sequence

from torch import Tensor, nn

from hepgen.models.layers import at_least, dense

__all__ = ["DeepSets", "present"]


def present(x: Tensor) -> Tensor:
    """Which rows of constituents, shape (n, number, 3), are particles and no padding: their pT is not 0."""
    return x[..., 0] > 0


class DeepSets(nn.Module):
    """One network for each particle, the sum over particles, and another network for the sum.

    Args:
        features: Features of a particle, the first one its pT.
        particle: Widths of the layers that see one particle.
        jet: Widths of the layers that see the sum, the last one the output's.

    References:
        Zaheer et al. 2017, arXiv:1703.06114; Komiske, Metodiev, Thaler 2018, arXiv:1810.05165 (Particle Flow Networks).
    """

    def __init__(self, features: int, particle: Sequence[int], jet: Sequence[int]) -> None:
        super().__init__()
        at_least(1, particle=particle)
        self.particle = nn.Sequential(*dense([features, *particle]), nn.LeakyReLU(0.1))
        self.jet = nn.Sequential(*dense([particle[-1], *jet]))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of shape (n, jet[-1]) for constituents of shape (n, number, features)."""
        particles = self.particle(x) * present(x)[..., None]
        return self.jet(particles.sum(1) / x.shape[1])
