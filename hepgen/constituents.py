"""The hardest constituents of jets as padded arrays, made a batch at a time."""

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from hepgen.config import Constituents
from hepgen.images import prepare

__all__ = ["JetConstituents"]

STEP = 2000


class JetConstituents:
    """Constituents of n jets, indexable like a tensor of shape (n, number, 3).

    The features are the fraction of the jet's summed pT, and η and φ in the jet's own coordinates, prepared as for
    images. Constituents come by falling pT; jets with fewer than `number` are padded with zeros.

    Args:
        constituents: ``n * var * {pt, eta, phi}``, at least one a jet, in GeV and radians.
        settings: How many, and the steps of the preparation.

    References:
        Komiske, Metodiev, Thaler 2018, arXiv:1810.05165 (Energy Flow Networks).
    """

    def __init__(self, constituents: ak.Array, settings: Constituents) -> None:
        self.number = settings.number
        parts = [_features(constituents[i : i + STEP], settings) for i in range(0, len(constituents), STEP)]
        counts, features = (np.concatenate(part) for part in zip(*parts, strict=True))
        self.counts = torch.from_numpy(counts)
        self.starts = self.counts.cumsum(0) - self.counts
        self.features = torch.from_numpy(features)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: Tensor | np.ndarray | slice) -> Tensor:
        """The jets of an index array, mask or slice: float32, shape (len(index), number, 3)."""
        counts, starts = self.counts[index], self.starts[index]
        rows = torch.repeat_interleave(torch.arange(len(counts)), counts)
        place = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
        jets = torch.zeros(len(counts), self.number, 3)
        jets[rows, place] = self.features[starts[rows] + place]
        return jets


def _features(jets: ak.Array, settings: Constituents) -> tuple[np.ndarray, np.ndarray]:
    """How many constituents each of some jets keeps, and their features, one jet after the other."""
    jets = jets[ak.argsort(jets.pt, axis=1, ascending=False)]
    n, counts = len(jets), ak.to_numpy(ak.num(jets))
    owner = np.repeat(np.arange(n), counts)
    flat = ak.flatten(jets)
    pt, eta, phi = (ak.to_numpy(flat[name]).astype(np.float64) for name in ("pt", "eta", "phi"))
    x, y = prepare(pt, eta, phi, owner, n, settings)
    fraction = pt / np.bincount(owner, pt, n)[owner]
    rank = np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
    features = np.stack([fraction, x, y], axis=1)[rank < settings.number]
    return np.minimum(counts, settings.number).astype(np.int64), features.astype(np.float32)
