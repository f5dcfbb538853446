"""Principal component analysis as an anomaly tagger: the linear autoencoder's optimum in closed form."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hepgen.errors import HepgenError
from hepgen.models.reconstruction import CHUNK, Reconstructor

if TYPE_CHECKING:
    from hepgen.training import Indexable

__all__ = ["PCA"]


class PCA(Reconstructor):
    """Anomaly score = squared distance to the subspace of the leading principal components.

    A linear autoencoder trained with the squared error spans the same subspace.

    Args:
        shape: Shape of one event's input.
        components: Dimension of the subspace, smaller than the input's.

    References:
        K. Pearson, Philosophical Magazine 2 (1901) 559; P. Baldi, K. Hornik, Neural Networks 2 (1989) 53.
    """

    def __init__(self, shape: tuple[int, ...], *, components: int = 2) -> None:
        super().__init__(shape, components)
        features = math.prod(shape)
        if not 0 < components < features:
            msg = f"pca: components is {components}; it must be at least 1 and less than the {features} inputs"
            raise HepgenError(msg)
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("components", torch.zeros(components, features))

    def fit(self, x: "Indexable", weight: Tensor | None = None, *, seed: int = 1) -> "PCA":
        """Find the components of data of shape (n, *shape), each event counting by its weight (n,), not negative.

        The solution is exact, so that no seed enters it. Events are made in parts, twice: what is kept is the
        covariance in double precision, whose leading directions are those of the data's singular values.

        Raises:
            HepgenError: if there are fewer events than components.
        """
        if len(x) <= len(self.components):
            msg = f"pca: {len(x)} training events cannot fix {len(self.components)} components"
            raise HepgenError(msg)
        weight = torch.ones(len(x)).double() if weight is None else weight.double()
        parts = torch.arange(len(x)).split(CHUNK)
        mean = sum(weight[part] @ x[part].flatten(1).double() for part in parts) / weight.sum()
        covariance = torch.zeros(len(mean), len(mean)).double()
        for part in parts:
            centred = x[part].flatten(1).double() - mean
            covariance += centred.T @ (weight[part, None] * centred)
        directions = torch.linalg.eigh(covariance).eigenvectors.T.flip(0)
        self.mean.copy_(mean)
        self.components.copy_(directions[: len(self.components)])
        return self

    def encode(self, x: Tensor) -> Tensor:
        """Coordinates in the subspace, shape (n, components)."""
        return (x.flatten(1) - self.mean) @ self.components.T

    def decode(self, code: Tensor) -> Tensor:
        """The points of the subspace at coordinates of shape (n, components), shape (n, *shape)."""
        return (self.mean + code @ self.components).reshape(-1, *self.shape)
