"""Jet images: kept sparse, made dense a batch at a time."""

import awkward as ak
import numpy as np
import torch
from torch import Tensor

from hepgen.config import Constituents, Images
from hepgen.events import wrap_phi

__all__ = ["JetImages", "prepare"]

STEP = 2000


class JetImages:
    """Images of n jets, indexable like a tensor of shape (n, 1, pixels, pixels); the last two axes are η and φ.

    Each jet is shifted, turned and mirrored as the settings say, its constituents' pT is summed in pixels, these are
    raised to a power (Finke et al. 2021, arXiv:2104.09051, study such remappings), then divided by their sum.
    Without `center` the origin is the direction of the jet's momentum. Constituents outside the window are lost.

    Args:
        constituents: ``n * var * {pt, eta, phi}``, in GeV and radians.
        settings: Pixels, window and steps.

    References:
        Macaluso, Shih 2018, arXiv:1803.00107.
        Heimel, Kasieczka, Plehn, Thompson 2018 ("QCD or What?"), arXiv:1808.08979.
    """

    def __init__(self, constituents: ak.Array, settings: Images) -> None:
        self.pixels = settings.pixels
        starts = range(0, len(constituents), STEP)
        parts = [_pixelate(constituents[start : start + STEP], settings) for start in starts]
        counts, index, values = (
            (np.concatenate(part) for part in zip(*parts, strict=True)) if parts else [np.zeros(0)] * 3
        )
        narrow = np.int16 if settings.pixels**2 <= np.iinfo(np.int16).max else np.int32
        self.counts = torch.from_numpy(counts.astype(np.int64))
        self.starts = self.counts.cumsum(0) - self.counts
        self.index = torch.from_numpy(index.astype(narrow))
        self.values = torch.from_numpy(values.astype(np.float32))

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: Tensor | np.ndarray | slice) -> Tensor:
        """The images of an index array, mask or slice: float32, shape (len(index), 1, pixels, pixels)."""
        counts, starts = self.counts[index], self.starts[index]
        rows = torch.repeat_interleave(torch.arange(len(counts)), counts)
        first = counts.cumsum(0) - counts
        entries = torch.arange(len(rows)) + (starts - first)[rows]
        images = torch.zeros(len(counts), self.pixels**2)
        images[rows, self.index[entries].long()] = self.values[entries]
        return images.view(len(counts), 1, self.pixels, self.pixels)


def _pixelate(jets: ak.Array, settings: Images) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Filled pixels of some jets: how many each has, their places in the flattened image and their contents."""
    n, area = len(jets), settings.pixels**2
    counts = ak.to_numpy(ak.num(jets))
    owner = np.repeat(np.arange(n), counts)
    flat = ak.flatten(jets)
    pt, eta, phi = (ak.to_numpy(flat[name]).astype(np.float64) for name in ("pt", "eta", "phi"))
    x, y = prepare(pt, eta, phi, owner, n, settings)
    column, row = (np.floor((u / settings.width + 0.5) * settings.pixels).astype(np.int64) for u in (x, y))
    inside = (column >= 0) & (column < settings.pixels) & (row >= 0) & (row < settings.pixels)
    place = (owner * area + column * settings.pixels + row)[inside]
    dense = np.bincount(place, pt[inside], n * area)
    filled = np.flatnonzero(dense > 0)
    values, owner = dense[filled] ** settings.power, filled // area
    if settings.normalize:
        values = values / np.bincount(owner, values, n)[owner]
    return np.bincount(owner, minlength=n), filled % area, values


def prepare(
    pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, owner: np.ndarray, n: int, settings: Images | Constituents
) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of constituents in their jet's own frame: (η, φ) after the steps that are switched on.

    Args:
        pt: Of all constituents, shape (m,), one jet after the other; eta and phi alike.
        eta: Pseudorapidities.
        phi: Azimuths.
        owner: The jet, 0 to n − 1, of each constituent.
        n: Number of jets.
        settings: The steps.
    """

    def total(values: np.ndarray) -> np.ndarray:
        """Sum over the constituents of each jet."""
        return np.bincount(owner, values, n)

    weight = pt / total(pt)[owner]
    if settings.center:
        # Any constituent will do as a first origin: it keeps the jet away from φ = ±π.
        first = np.searchsorted(owner, np.arange(n))
        x, y = eta - eta[first][owner], wrap_phi(phi - phi[first][owner])
        x, y = x - total(weight * x)[owner], y - total(weight * y)[owner]
    else:
        px, py, pz = total(pt * np.cos(phi)), total(pt * np.sin(phi)), total(pt * np.sinh(eta))
        x, y = eta - np.arcsinh(pz / np.hypot(px, py))[owner], wrap_phi(phi - np.arctan2(py, px)[owner])
    if settings.rotate:
        mean_x, mean_y = (0.0, 0.0) if settings.center else (total(weight * x), total(weight * y))
        xx, yy = total(weight * x * x) - mean_x**2, total(weight * y * y) - mean_y**2
        xy = total(weight * x * y) - mean_x * mean_y
        turn = np.pi / 2 - np.arctan2(2 * xy, xx - yy) / 2
        cos, sin = np.cos(turn)[owner], np.sin(turn)[owner]
        # Two constituents come to lie on a line; on which side of it is not left to the last bit.
        x, y = (x * cos - y * sin).round(12), (x * sin + y * cos).round(12)
    if settings.flip:
        quadrants = np.bincount(4 * owner + 2 * (x > 0) + (y > 0), pt, 4 * n).reshape(n, 4)
        hardest = quadrants.argmax(1)[owner]
        x, y = np.where(hardest < 2, -x, x), np.where(hardest % 2 == 0, -y, y)
    return x, y
