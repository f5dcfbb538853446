"""What a search leaves of one cut."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hepgen.metrics.intervals import Interval
from hepgen.plots.figures import Role

if TYPE_CHECKING:
    from hepgen.search.hunt import Bump
    from hepgen.search.statistics import Limits

__all__ = ["NO_CUT", "Case", "Outcome", "Test"]

NO_CUT = "no cut"


@dataclass(frozen=True)
class Test:
    """The test of one spectrum for the simulated signal.

    Attributes:
        spec: The pyhf workspace of the bins around the signal.
        observed: Significance of the signal, in standard deviations.
        expected: The same of the data that background and injected signal predict.
        limits: Upper limits on the signal.
        precision: Relative error of the expected limit, which goes with √b/ε: that of the signal's efficiency ε, from
            the number of its events, and half that of the background b.
    """

    spec: dict[str, Any]
    observed: float
    expected: float
    limits: "Limits"
    precision: float


@dataclass(frozen=True)
class Outcome:
    """One spectrum.

    Attributes:
        counts: Events per bin, shape (bins,).
        bump: Its most significant excess.
        background: Events that the fit expects in the bins around the signal.
        test: The test for the simulated signal, if there is background enough for it.
    """

    counts: np.ndarray
    bump: "Bump"
    background: Interval
    test: Test | None


@dataclass(frozen=True)
class Case:
    """One cut, or none.

    Attributes:
        tagger: Whose score is cut on; None for no cut.
        efficiency: Share of the pseudo-data that is kept.
        role: How it is drawn.
        events: Events in the range, by number of injected signal events.
        outcomes: The same for the spectra; without those of too few events.
    """

    tagger: str | None
    efficiency: float
    role: Role
    events: dict[int, float]
    outcomes: dict[int, Outcome]

    @property
    def label(self) -> str:
        """The cut for a reader."""
        kind = " (supervised)" if self.role == "supervised" else ""
        return f"{self.tagger}{kind}, {100 * self.efficiency:g} % kept" if self.tagger else NO_CUT

    @property
    def file(self) -> str:
        """The cut as a part of a file's name."""
        return f"{self.tagger}_{self.efficiency:g}" if self.tagger else "no_cut"

    @property
    def test(self) -> Test | None:
        """The test without signal in the data, if there is one."""
        return self.outcomes[0].test if self.outcomes else None

    @property
    def expected_limit(self) -> float:
        """Median expected limit on signal events without signal; infinite where there is none."""
        return self.test.limits.expected[2] if self.test else math.inf
