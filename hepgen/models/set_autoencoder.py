"""An autoencoder of jets as sets of constituents, which the Chamfer distance compares."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from hepgen.errors import HepgenError
from hepgen.models.autoencoders import Autoencoder, code_width
from hepgen.models.layers import dense
from hepgen.models.sets import DeepSets, present

__all__ = ["ConstituentAutoencoder", "chamfer_distance"]


def chamfer_distance(x: Tensor, y: Tensor) -> Tensor:
    """pT-weighted Chamfer distance of sets of particles, shape (n,).

    Each particle looks for the nearest one of the other set, by the squared distance of all features; the mean of
    these, weighted by the particles' shares of their set's pT, is taken in both directions. Particles without pT
    count for nothing.

    Args:
        x: (pT, η, φ) of particles, shape (n, number, 3); padding has pT = 0.
        y: The same of the other sets, shape (n, any number, 3).

    References:
        Barrow, Tenenbaum, Bolles, Wolf 1977, IJCAI; Fan, Su, Guibas 2016, arXiv:1612.00603 (for point sets).
    """
    distances = (x[:, :, None] - y[:, None]).square().sum(-1)
    total = 0.0
    for points, others, table in ((x, y, distances), (y, x, distances.transpose(1, 2))):
        nearest = table.masked_fill(~present(others)[:, None], torch.inf).amin(2)
        share = points[..., 0] / points[..., 0].sum(1, keepdim=True).clamp_min(1e-12)
        total = total + torch.where(present(points), share * nearest.nan_to_num(posinf=0.0), 0.0).sum(1)
    return total


class ConstituentAutoencoder(Autoencoder):
    """A Deep Sets encoder, and a decoder that gives as many particles, compared as sets by the Chamfer distance.

    Args:
        shape: (number, 3): pT, η and φ of a jet's constituents, padded with zeros, each of order one.
        particle: Widths of the encoder's layers that see one particle.
        hidden: Width of the dense layers on both sides of the bottleneck.
        latent_dim: Width of the bottleneck.
        noise: See `Autoencoder`, as for the settings that follow; padding stays as it is.
        sparsity: Weight of the penalty on the code.
        beta: Weight of the divergence.

    References:
        Those of `DeepSets` and `chamfer_distance`.
    """

    kinds = ("chamfer", "latent")

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        particle: Sequence[int] = (64, 64),
        hidden: int = 64,
        latent_dim: int = 6,
        noise: float = 0.0,
        sparsity: float = 0.0,
        beta: float | None = None,
    ) -> None:
        if len(shape) != 2 or shape[1] != 3:
            msg = f"constituent_autoencoder: inputs of shape {tuple(shape)}; it takes particles of 3 features"
            raise HepgenError(f"{msg} (inputs: constituents)")
        encoder = DeepSets(3, particle, [hidden, code_width(latent_dim, beta)])
        decoder = nn.Sequential(*dense([latent_dim, hidden, hidden, shape[0] * shape[1]]))
        super().__init__(shape, encoder, decoder, latent_dim, noise=noise, sparsity=sparsity, beta=beta)
        self.plain = False
        # The Chamfer distance is no likelihood's logarithm, so that there is no ELBO.
        self.kinds = tuple("regularised" if kind == "elbo" else kind for kind in self.kinds)

    def decode(self, code: Tensor) -> Tensor:
        """Jets of codes of shape (n, latent_dim), shape (n, number, 3); all particles have a pT above 0."""
        pt, direction = super().decode(code).split([1, 2], dim=-1)
        return torch.cat([functional.softplus(pt), direction], dim=-1)

    def error(self, x: Tensor, rebuilt: Tensor) -> Tensor:
        """Chamfer distance of each jet and what became of it, shape (n,)."""
        return chamfer_distance(x, rebuilt)

    def chamfer(self, x: Tensor) -> Tensor:
        """Chamfer distance of each jet and its reconstruction."""
        return self.error(x, self.reconstruct(x))

    def regularised(self, x: Tensor) -> Tensor:
        """Chamfer distance at the mean code plus the weighted divergence."""
        return self.elbo(x)

    def corrupt(self, x: Tensor) -> Tensor:
        """Particles with noise, whose pT stays above 0."""
        noisy = super().corrupt(x)
        pt = torch.where(noisy[..., :1] > 0, noisy[..., :1], x[..., :1])
        return torch.cat([pt, noisy[..., 1:]], dim=-1) * present(x)[..., None]
