"""The bump hunt: the most significant excess over a smooth background, and how often chance makes one."""

import io
from contextlib import redirect_stdout
from dataclasses import dataclass

import numpy as np
from pyBumpHunter import BumpHunter1D
from scipy.stats import beta

from hepgen.errors import HepgenError
from hepgen.metrics.intervals import LEVEL, Interval
from hepgen.search.background import Fit, fit, fit_many

__all__ = ["Bump", "hunt"]

# Windows are as wide as two bins at least, and as an eighth of the spectrum at most.
NARROWEST = 2
WIDEST = 1 / 8
# An excess with a smaller local p-value is left out of the fit, which it would pull up.
SUSPICIOUS = 0.01
# Without so many events on both sides of it the fit would have to be extrapolated.
BESIDE = 10
# Toys whose fit fails are left out; more than these would bias what is left.
FAILED_TOYS = 0.01


@dataclass(frozen=True)
class Bump:
    """The most significant excess of a spectrum.

    Attributes:
        background: The fit that it stands out from.
        window: Its lower and upper edge [GeV].
        excess: Events above the background in the window.
        local: p-value of the window alone.
        by_bin: Smallest local p-value of all windows that hold a bin, shape (bins,).
        overall: Share of background-only spectra that have an excess as significant anywhere: the global p-value,
            with the interval that the number of toys leaves.
        fit: Share of background-only spectra that the function describes no better.
    """

    background: Fit
    window: tuple[float, float]
    excess: float
    local: float
    by_bin: np.ndarray
    overall: Interval
    fit: float


def hunt(counts: np.ndarray, edges: np.ndarray, toys: int, seed: int) -> Bump:
    """Fit and scan a spectrum and, in just the same way, toys of its background.

    Where the most significant window has a local p-value below 1 %, the fit is repeated without it, once, if ten
    events lie on either side.

    Args:
        counts: Events per bin, shape (bins,).
        edges: Bin edges [GeV], shape (bins + 1,).
        toys: Spectra drawn from the fit to all bins.
        seed: Fixes the toys.

    Raises:
        HepgenError: if the fit to the spectrum fails, or that to more than one toy in a hundred.

    References:
        Choudalakis 2011, arXiv:1101.0390 (BumpHunter); ATLAS 2017, arXiv:1703.09127 (the window left out).
    """
    hunter = BumpHunter1D(
        rang=(edges[0], edges[-1]), bins=edges, nworker=1, seed=0, width_min=NARROWEST,
        width_max=max(NARROWEST, int(len(counts) * WIDEST)),
    )  # fmt: skip
    everywhere = fit(counts, edges)
    chance = np.random.default_rng(seed).poisson(everywhere.expected, (toys, len(counts)))
    spectra = np.concatenate([counts[None], chance])
    fits = fit_many(spectra, edges)
    local, used = _scan_all(hunter, spectra, fits.expected)
    again = np.flatnonzero((local < SUSPICIOUS) & _between_events(spectra, used))
    without = fit_many(spectra[again], edges, used[again])
    local[again], _ = _scan_all(hunter, spectra[again], without.expected)
    good = fits.converged.copy()
    good[again] &= without.converged
    if np.mean(~good) > FAILED_TOYS:
        msg = f"search: the background fit failed on {np.sum(~good)} of {toys} toys"
        raise HepgenError(f"{msg}; take looser cuts, more events or another search.range")
    background = fit(counts, edges, used[0]) if 0 in again else everywhere
    smallest = _scan(hunter, counts, background.expected)
    first, width = _window(hunter)
    good = good[1:]
    return Bump(
        background=background,
        window=(float(edges[first]), float(edges[first + width])),
        excess=float(hunter.signal_eval),
        local=smallest,
        by_bin=_by_bin(hunter, len(counts)),
        overall=_share(np.sum(local[1:][good] <= smallest), good.sum()),
        fit=_share(np.sum(fits.deviance[1:][good] >= everywhere.deviance), good.sum()).value,
    )


def _scan_all(hunter: BumpHunter1D, spectra: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smallest local p-values, shape (spectra,), and the bins outside their windows, shape (spectra, bins)."""
    local, outside = np.ones(len(spectra)), np.ones(spectra.shape, dtype=bool)
    for number, pair in enumerate(zip(spectra, expected, strict=True)):
        local[number] = _scan(hunter, *pair)
        first, width = _window(hunter)
        outside[number, first : first + width] = False
    return local, outside


def _between_events(spectra: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Whether each window has enough events below and above it, shape (spectra,)."""
    first = np.argmin(outside, axis=1)[:, None]
    bins = np.arange(spectra.shape[1])
    below, above = ((spectra * outside * side).sum(1) for side in (bins < first, bins > first))
    return np.minimum(below, above) >= BESIDE


def _scan(hunter: BumpHunter1D, counts: np.ndarray, expected: np.ndarray) -> float:
    """The smallest local p-value of a spectrum; everything else stays in the hunter."""
    with redirect_stdout(io.StringIO()):
        hunter.bump_scan(counts, expected, is_hist=True, do_pseudo=False)
    return float(hunter.min_Pval_ar[0])


def _window(hunter: BumpHunter1D) -> tuple[int, int]:
    """First bin and width of the most significant window of the last scan."""
    return int(hunter.min_loc_ar[0]), int(hunter.min_width_ar[0])


def _by_bin(hunter: BumpHunter1D, bins: int) -> np.ndarray:
    """The smallest local p-value of the last scan's windows that hold each bin."""
    smallest = np.ones(bins)
    for width, local in enumerate(hunter.res_ar, start=NARROWEST):
        for shift in range(width):
            part = smallest[shift : shift + len(local)]
            np.minimum(part, local, out=part)
    return smallest


def _share(found: int, trials: int) -> Interval:
    """A p-value from toys, never zero (Davison and Hinkley 1997), and Jeffreys' interval of the share."""
    low, high = beta.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2], found + 0.5, trials - found + 0.5)
    value = (found + 1) / (trials + 1)
    return Interval(value, min(float(low), value), max(float(high), value))
