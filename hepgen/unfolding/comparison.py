"""Spectra as all methods unfold them, side by side with what else is known of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hepgen.config import Unfolding
from hepgen.errors import HepgenError
from hepgen.metrics.histograms import Counts
from hepgen.unfolding.dataset import Pairs
from hepgen.unfolding.iterations import choose
from hepgen.unfolding.results import Binned, measured_by
from hepgen.unfolding.spectra import Spectrum
from hepgen.unfolding.uncertainties import Budget, budget

__all__ = ["Spectra", "side_by_side"]


@dataclass(frozen=True)
class Spectra:
    """One spectrum of all methods.

    Attributes:
        truth: Truth level of the data, where it is known.
        results: What each method makes of it.
        chosen: The iteration of each method that is reported, from 0.
        budgets: Its uncertainties.
    """

    truth: Counts | None
    results: dict[str, Binned]
    chosen: dict[str, int]
    budgets: dict[str, Budget]

    @property
    def first(self) -> Binned:
        """Any method's result, for what they have in common: bins, data, simulation."""
        return next(iter(self.results.values()))

    @property
    def spectrum(self) -> Spectrum:
        """The bins."""
        return self.first.spectrum


def side_by_side(block: Unfolding, files: Sequence[Path], truth: Pairs | None) -> list[Spectra]:
    """The spectra of all methods, each method at the iteration that its toys ask for.

    Args:
        block: The unfolding block.
        files: Products of `hepgen.unfolding.results.combine`, one for each method.
        truth: The data with their truth, where it is known.

    Raises:
        HepgenError: if a method's file is missing or of other spectra, or its iteration cannot be chosen.
    """
    found = {name: measured_by(name, files) for name in block.methods}
    chosen = {name: choose(spectra) for name, spectra in found.items()}
    return [_of_one(name, found, chosen, truth) for name in (*block.observables, *block.planes)]


def _of_one(name: str, found: dict[str, list[Binned]], chosen: dict[str, int], truth: Pairs | None) -> Spectra:
    results = {
        method: binned for method, spectra in found.items() for binned in spectra if binned.spectrum.name == name
    }
    lacking = [method for method in found if method not in results]
    if lacking:
        msg = f"unfolding: no {name} in the spectra of {', '.join(lacking)}; run `hepgen unfolding combine` again"
        raise HepgenError(msg)
    first = next(iter(results.values()))
    budgets = {method: budget(binned, chosen[method]) for method, binned in results.items()}
    known = first.spectrum.count(truth.truth, truth.true_weights, "truth") if truth else None
    return Spectra(known, results, chosen, budgets)
