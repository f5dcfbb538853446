"""What a search leaves of one cut."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from hepgen.search.hunt import Bump
from hepgen.search.statistics import Limits

__all__ = ["NO_CUT", "Case", "Outcome"]

NO_CUT = "no cut"


@dataclass(frozen=True)
class Outcome:
    """One spectrum.

    Attributes:
        counts: Events per bin, shape (bins,).
        bump: Its most significant excess.
        spec: The pyhf workspace of the bins around the signal.
        observed: Significance of the simulated signal, in standard deviations.
        expected: The same of the data that background and injected signal predict.
        limits: Upper limits on the signal.
    """

    counts: np.ndarray
    bump: Bump
    spec: dict[str, Any]
    observed: float
    expected: float
    limits: Limits


@dataclass(frozen=True)
class Case:
    """One cut, or none.

    Attributes:
        tagger: Whose score is cut on; None for no cut.
        efficiency: Share of the pseudo-data that is kept.
        events: Events in the range, by number of injected signal events.
        outcomes: The same for the spectra; without those of too few events.
    """

    tagger: str | None
    efficiency: float
    events: dict[int, float]
    outcomes: dict[int, Outcome]

    @property
    def label(self) -> str:
        """The cut for a reader."""
        return f"{self.tagger}, {100 * self.efficiency:g} % kept" if self.tagger else NO_CUT

    @property
    def file(self) -> str:
        """The cut as a part of a file's name."""
        return f"{self.tagger}_{self.efficiency:g}" if self.tagger else "no_cut"

    @property
    def expected_limit(self) -> float:
        """Median expected limit on signal events without signal."""
        return self.outcomes[0].limits.expected[2]
