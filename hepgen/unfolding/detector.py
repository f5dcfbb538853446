"""What the simulation says about the detector, bin by bin: response, purity, stability, efficiency, fakes."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from hepgen.observables import describe
from hepgen.plots.figures import Axis, Curves, Map, Maps, known, steps
from hepgen.unfolding.dataset import Pairs
from hepgen.unfolding.spectra import Spectrum

__all__ = ["Detector", "Share", "detector_figure", "measure", "response_figure"]


class Share(NamedTuple):
    """A share of the events of every bin and its binomial error, shape (bins,); NaN in empty bins."""

    value: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Detector:
    """How one observable is measured, in C bins at particle and E at detector level.

    Attributes:
        response: Share of the seen events of a truth bin that are in a reco bin, shape (E, C); NaN in empty columns.
        purity: Share of a reco bin, without fakes, that was generated in the same bin; None where the levels' bins
            differ.
        stability: Share of the seen events of a truth bin that are reconstructed in the same bin; None likewise.
        efficiency: Share of a truth bin that is seen.
        fakes: Share of a reco bin that has no truth.
    """

    response: np.ndarray
    purity: Share | None
    stability: Share | None
    efficiency: Share
    fakes: Share


def measure(spectrum: Spectrum, simulation: Pairs) -> Detector:
    """Estimate these from simulated pairs.

    Args:
        spectrum: The bins of one observable.
        simulation: The pairs.
    """
    cause, effect = spectrum.cells(simulation.truth, "truth"), spectrum.cells(simulation.reco, "reco")
    true, seen, weights = simulation.pass_truth, simulation.pass_reco, simulation.weights
    sizes = {"truth": spectrum.size("truth"), "reco": spectrum.size("reco")}

    def share(passed: np.ndarray, among: np.ndarray, at: str) -> Share:
        cells = cause if at == "truth" else effect
        found = _share(cells[among], weights[among], passed[among], sizes[at])
        return Share(*(part[spectrum.inner(at)] for part in found))

    both, same = true & seen, cause == effect
    joint = effect * sizes["truth"] + cause
    matrix = np.bincount(joint, weights * both, sizes["reco"] * sizes["truth"]).reshape(sizes["reco"], -1)
    total = matrix.sum(0)
    response = np.divide(matrix, total, out=np.full(matrix.shape, np.nan), where=total > 0)
    return Detector(
        response[np.ix_(spectrum.inner("reco"), spectrum.inner("truth"))],
        share(same, both, "reco") if spectrum.same_bins else None,
        share(same, both, "truth") if spectrum.same_bins else None,
        share(seen, true, "truth"),
        share(~true, seen, "reco"),
    )


def _share(cells: np.ndarray, weights: np.ndarray, passed: np.ndarray, size: int) -> Share:
    """Weighted shares of those that pass; the variance is that of the quotient, whose numerator is a part."""
    total = np.bincount(cells, weights, size)
    squares = [np.bincount(cells, weights**2 * which, size) for which in (passed, ~passed)]
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.bincount(cells, weights * passed, size) / total
        variance = ((1 - value) ** 2 * squares[0] + value**2 * squares[1]) / total**2
    return Share(value, np.sqrt(variance))


def response_figure(spectrum: Spectrum, detector: Detector) -> Maps:
    """Where the events of every truth bin are reconstructed."""
    observable = describe(spectrum.name)
    shown = np.where(detector.response > 0, detector.response, np.nan)
    return Maps(
        title=f"response: {observable.label}",
        maps=[Map(title="", values=known(shown.T))],
        edges=(spectrum.truth[0].tolist(), spectrum.reco[0].tolist()),
        x=Axis(label=f"particle level: {observable.axis_label}"),
        y=Axis(label=f"detector level: {observable.axis_label}"),
        color=Axis(label="share of the truth bin's seen events", log=True, range=(1e-3, 1.0)),
        notes=["every truth bin (column) adds up to one, with what is reconstructed beyond the axis"],
    )


def detector_figure(spectrum: Spectrum, detector: Detector) -> Curves:
    """Purity, stability, efficiency and share of fakes."""
    observable = describe(spectrum.name)
    lines = [
        steps(label, spectrum.edges(at)[0], *share)
        for label, share, at in (
            ("purity (reco bins)", detector.purity, "reco"),
            ("stability (truth bins)", detector.stability, "truth"),
            ("efficiency (truth bins)", detector.efficiency, "truth"),
            ("fakes (reco bins)", detector.fakes, "reco"),
        )
        if share
    ]
    notes = ["efficiency: share of the events that is seen; fakes: share of the reco bin without truth"]
    if detector.purity:
        notes[:0] = [
            "purity: share of the reco bin, without fakes, that was generated in the same bin",
            "stability: share of the truth bin's seen events that is reconstructed in the same bin",
        ]
    return Curves(
        title=f"bin by bin: {observable.label}",
        lines=lines,
        x=Axis(label=observable.axis_label, range=(spectrum.truth[0][0], spectrum.truth[0][-1])),
        y=Axis(label="share of events", range=(-0.03, 1.4)),
        notes=[*notes, "bands: statistics of the simulation; empty bins are left out"],
    )
