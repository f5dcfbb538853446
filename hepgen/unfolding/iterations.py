"""Which iteration of a method is reported: chosen by pseudo-data, never by the measured sample's truth."""

from collections.abc import Sequence

from hepgen.unfolding.results import Binned

__all__ = ["choose"]


def choose(spectra: Sequence[Binned]) -> int:
    """The iteration to report, from 0."""
    return spectra[0].nominal.shape[1] - 1
