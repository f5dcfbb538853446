"""The preprocessing that generators ask for."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hepgen.config import Generation, Generator
from hepgen.errors import HepgenError
from hepgen.observables import describe
from hepgen.preprocessing import SCALERS, MinMax, Scaler, Support
from hepgen.registry import look_up

__all__ = ["make_scaler"]

# How far below the smallest pT its cut is taken to lie, in standard deviations.
MARGIN = 1e-3


def make_scaler(network: nn.Module, entry: Generator, block: Generation) -> Scaler:
    """The preprocessing that a generator asks for, not yet fitted.

    Raises:
        HepgenError: if it asks for an unknown one.
    """
    if entry.inputs != "features":
        return look_up("scaler of a generator", network.scaler, SCALERS)(1 if entry.inputs == "images" else 3)
    known = {"support": lambda: _FromCut(block.features), "minmax": lambda: MinMax(len(block.features))}
    return look_up("scaler of a generator", network.scaler, known)()


class _FromCut(Support):
    """`Support` of named observables, whose pT start at the selection's cut instead of at 0."""

    def __init__(self, features: Sequence[str]) -> None:
        super().__init__([describe(name).support for name in features])
        self.features = features

    def fit(self, x: Tensor) -> "_FromCut":
        self.bounds.copy_(torch.tensor(_support(self.features, x.numpy()), dtype=torch.float64).T)
        super().fit(x)
        return self


def _support(features: Sequence[str], x: np.ndarray) -> list[tuple[float, float]]:
    """The (low, high) bounds of every feature, with those of pT raised to just below the smallest value.

    The spectrum falls steeply from the selection's cut, an edge that is smooth in the logarithm of pT − cut.

    Raises:
        HepgenError: if more than 1 % of a feature's values lie outside its bounds; fewer, as rounding makes
            them, are moved inside by `Support`.
    """
    bounds = []
    for name, values in zip(features, x.T, strict=True):
        low, high = describe(name).support
        outside = np.mean((values < low) | (values > high))
        if outside > 0.01:
            msg = (
                f"generation.features: {outside:.1%} of {name} lie outside its physical range {low:g} to {high:g}; "
                "check the column's units and conventions"
            )
            raise HepgenError(msg)
        if name.startswith("pt_"):
            low = float(values.min() - MARGIN * values.std())
        bounds.append((low, high))
    return bounds
