"""The preprocessing that generators ask for."""

import re
from collections.abc import Sequence

from torch import Tensor, nn

from hepgen.config import Generation, Generator
from hepgen.errors import HepgenError
from hepgen.observables import describe
from hepgen.preprocessing import SCALERS, MinMax, Scaler, Support
from hepgen.registry import look_up

__all__ = ["make_scaler"]


def make_scaler(network: nn.Module, entry: Generator, block: Generation) -> Scaler:
    """The preprocessing that a generator asks for, not yet fitted.

    Raises:
        HepgenError: if it asks for an unknown one.
    """
    if entry.inputs != "features":
        return look_up("scaler of a generator", network.scaler, SCALERS)(1 if entry.inputs == "images" else 3)
    known = {"support": lambda: _Named(block.features), "minmax": lambda: MinMax(len(block.features))}
    return look_up("scaler of a generator", network.scaler, known)()


class _Named(Support):
    """`Support` of named observables: their bounds, angles, and jets in order of falling pT or mass."""

    def __init__(self, features: Sequence[str]) -> None:
        known = [describe(name) for name in features]
        above = [_above(name) for name in features]
        super().__init__(
            [observable.support for observable in known],
            [observable.period for observable in known],
            [features.index(name) if name in features else None for name in above],
        )
        self.features = features

    def fit(self, x: Tensor) -> "_Named":
        """Learn the constants from data of shape (n, d).

        Raises:
            HepgenError: if more than 1 % of a feature's values lie outside its bounds; fewer, as rounding makes
                them, are moved inside.
        """
        for name, values, (low, high) in zip(self.features, x.T, self.support, strict=True):
            outside = float(((values < low) | (values > high)).double().mean())
            if outside > 0.01:
                msg = (
                    f"generation.features: {outside:.1%} of {name} lie outside its physical range {low:g} to {high:g}; "
                    "check the column's units and conventions"
                )
                raise HepgenError(msg)
        super().fit(x)
        return self


def _above(name: str) -> str | None:
    """The observable that bounds this one from above in every event, if there is one."""
    if name == "mass_light":
        return "mass_heavy"
    jet = re.fullmatch(r"pt_j(\d+)", name)
    return f"pt_j{int(jet[1]) - 1}" if jet else None
