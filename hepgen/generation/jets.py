"""Jets that generators make, as particles, and the observables that they are judged by."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import awkward as ak
import numpy as np

from hepgen.config import Generation, Generator, Images
from hepgen.metrics.histograms import Counts
from hepgen.observables import POSITIVE, Observable, describe, jet_values

if TYPE_CHECKING:
    from hepgen.jets import Jets

__all__ = ["FRACTIONS", "STEP", "describe_jet", "jet_columns", "jet_names", "mean_image", "particles", "spectrum"]

# Jets that are worked on at once.
STEP = 5000
# Bins of the logarithm (base 10) of a particle's fraction of the jet's pT.
FRACTIONS = np.linspace(-5, 0, 41)


def particles(entry: Generator, block: Generation, x: np.ndarray) -> ak.Array:
    """The particles of jets as a generator makes them, ``n * var * {pt, eta, phi}``.

    The pT are fractions of the jet's, η and φ the jet's own coordinates.

    Args:
        entry: The generator: for ``images`` every pixel above 0 is a particle at its centre, for ``constituents``
            every row whose pT is above 0.
        block: How images and constituents are made.
        x: Images of shape (n, 1, pixels, pixels) or constituents of shape (n, number, 3).
    """
    if entry.inputs == "constituents":
        pt, eta, phi = np.moveaxis(x.astype(np.float64), -1, 0)
    else:
        images = block.images
        pt = np.maximum(x.reshape(len(x), -1).astype(np.float64), 0) ** (1 / images.power)
        pt /= np.maximum(pt.sum(1, keepdims=True), math.ulp(0.0))
        centers = ((np.arange(images.pixels) + 0.5) / images.pixels - 0.5) * images.width
        eta, phi = (np.broadcast_to(axis.ravel(), pt.shape) for axis in np.meshgrid(centers, centers, indexing="ij"))
    kept = pt > 0
    return ak.unflatten(ak.zip({"pt": pt[kept], "eta": eta[kept], "phi": phi[kept]}), kept.sum(1))


def jet_names() -> list[str]:
    """The observables that `jet_columns` makes."""
    return list(_OBSERVABLES)


def describe_jet(name: str) -> Observable:
    """How an observable of `jet_columns` is labelled and binned."""
    return _OBSERVABLES[name]


def jet_columns(jets: ak.Array) -> dict[str, np.ndarray]:
    """Observables of jets by name, each float32 of shape (n,); all are 0 for a jet without particles.

    Args:
        jets: ``n * var * {pt, eta, phi}``, pT as fractions of the jet's; the particles are taken to be massless.
    """
    columns = {name: np.zeros(len(jets), np.float32) for name in _OBSERVABLES}
    filled = np.flatnonzero(ak.to_numpy(ak.num(jets)))
    for first in range(0, len(filled), STEP):
        rows = filled[first : first + STEP]
        record = _as_jets(jets[rows])
        for name, observable in _OBSERVABLES.items():
            columns[name][rows] = observable.function(record)[:, 0]
    return columns


def mean_image(jets: ak.Array, settings: Images, weights: np.ndarray) -> np.ndarray:
    """The mean of the jets' images, shape (pixels, pixels) with η first: fractions of the pT by pixel.

    Args:
        jets: ``n * var * {pt, eta, phi}``, pT as fractions of the jet's.
        settings: Pixels and window.
        weights: Of the jets, shape (n,).
    """
    pt, owner = _flat(jets)
    coordinates = [ak.to_numpy(ak.flatten(jets[name])) for name in ("eta", "phi")]
    edges = np.linspace(-settings.width / 2, settings.width / 2, settings.pixels + 1)
    return np.histogram2d(*coordinates, bins=[edges, edges], weights=pt * weights[owner])[0] / weights.sum()


def spectrum(jets: ak.Array, weights: np.ndarray) -> Counts:
    """Particles of jets by the logarithm of their fraction of the jet's pT, in `FRACTIONS`.

    The variance of a bin allows for jets of many particles: it is that of a sum over a given number of jets.
    """
    pt, owner = _flat(jets)
    bins = np.searchsorted(FRACTIONS, np.log10(pt), side="right")
    size = len(FRACTIONS) + 1
    per_jet = np.bincount(owner * size + bins, minlength=len(jets) * size).reshape(len(jets), size)
    values = weights @ per_jet
    return Counts(values, weights**2 @ (per_jet - values / weights.sum()) ** 2)


def _flat(jets: ak.Array) -> tuple[np.ndarray, np.ndarray]:
    """The particles' pT and the jet that each belongs to."""
    owner = np.repeat(np.arange(len(jets)), ak.to_numpy(ak.num(jets)))
    return ak.to_numpy(ak.flatten(jets.pt)).astype(np.float64), owner


def _as_jets(jets: ak.Array) -> "Jets":
    """One jet in each event, its momentum the sum of its particles'."""
    from hepgen.jets import Jets  # slow to import, and a run is planned with the names alone

    flat = ak.flatten(jets)
    pt, eta, phi = (ak.to_numpy(flat[name]).astype(np.float64) for name in ("pt", "eta", "phi"))
    p4 = {"px": pt * np.cos(phi), "py": pt * np.sin(phi), "pz": pt * np.sinh(eta), "E": pt * np.cosh(eta)}
    offsets = np.concatenate([[0], np.cumsum(ak.to_numpy(ak.num(jets)))])
    total = np.stack([np.add.reduceat(values, offsets[:-1]) for values in p4.values()], axis=1)
    return Jets(total[:, None], {"pt": pt, "eta": eta, "phi": phi, **p4}, offsets)


def _of_fractions(statistic: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[["Jets"], np.ndarray]:
    """An observable, shape (n, 1), of the particles' pT and of where those of each jet begin."""
    return lambda jets: statistic(jets.particles["pt"], jets.offsets[:-1])[:, None]


def _dispersion(pt: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """pTD = √(Σ pT²) / Σ pT (as CMS tells quarks from gluons: Cornelis 2014, arXiv:1409.3072)."""
    return np.sqrt(np.add.reduceat(pt**2, starts)) / np.add.reduceat(pt, starts)


def _same(name: str) -> Observable:
    """An observable as it is known for other jets, too."""
    column = f"{name}_j1"
    return replace(describe(column), function=lambda jets: jet_values(jets, name))


_OBSERVABLES = {
    observable.name: observable
    for observable in (
        Observable(
            "mass_over_pt_j1", r"leading jet $m/p_\mathrm{T}$", ranges=((0, 0.7),), support=POSITIVE,
            function=lambda jets: jets.mass,
        ),
        *(_same(name) for name in ("multiplicity", "width", "tau21", "tau32")),
        Observable(
            "leading_fraction_j1", "leading particle's fraction of the jet's $p_\\mathrm{T}$", ranges=((0, 1),),
            support=POSITIVE, function=_of_fractions(np.maximum.reduceat),
        ),
        Observable(
            "ptd_j1", r"leading jet $p_\mathrm{T}D$", ranges=((0, 1),), support=(0, 1),
            function=_of_fractions(_dispersion),
        ),
    )
}  # fmt: skip
