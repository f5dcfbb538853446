"""The events that generators learn from and are held against: one split for all models and seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hepgen.config import Generation
from hepgen.errors import HepgenError
from hepgen.provenance import seed_for
from hepgen.table import read_tables

__all__ = ["Split", "derive", "derived_names", "read_split"]

KINEMATICS = ("pt_j1", "eta_j1", "mass_j1", "pt_j2", "eta_j2", "dphi_jj", "mass_j2")
DERIVED = ("mjj", "deta_jj")


class Split(NamedTuple):
    """Features of the events in each part, shape (n, features), float64."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def read_split(generation: Generation, seed: int, paths: Sequence[str | Path]) -> Split:
    """Read a sample's features and split its events at random.

    Args:
        generation: The config's block.
        seed: The config's seed; with the sample's name it alone decides where an event goes.
        paths: Observables of all chunks of the sample, in order.

    Raises:
        HepgenError: if a feature is unknown, constant or not finite, the events are weighted, or too few.
    """
    table = read_tables(paths)
    if "weight" in table.columns:
        msg = f"generation.sample: {generation.sample!r} has weighted events; unweight it, generators learn counts"
        raise HepgenError(msg)
    x = table.matrix(generation.features)
    _check(x, generation)
    order = np.random.default_rng(seed_for(seed, generation.sample, "split")).permutation(len(x))
    test = round(len(x) * generation.test_fraction)
    validation = test + round((len(x) - test) * generation.validation_fraction)
    return Split(x[order[validation:]], x[order[test:validation]], x[order[:test]])


def _check(x: np.ndarray, generation: Generation) -> None:
    """Raise `HepgenError` for events that no density can be learnt from."""
    where = f"generation.features of sample {generation.sample!r}"
    needed = 10 * x.shape[1]
    if len(x) < needed:
        msg = f"{where}: {len(x)} events are too few to learn {x.shape[1]} features; at least {needed} are needed"
        raise HepgenError(msg)
    for name, values in zip(generation.features, x.T, strict=True):
        bad = ~np.isfinite(values)
        if bad.any():
            msg = f"{where}: {bad.sum()} of {len(values)} values of {name} are not finite; leave out these events"
            raise HepgenError(msg)
        if np.ptp(values) == 0:
            msg = f"{where}: {name} is {values[0]:g} in every event; leave it out, there is nothing to learn"
            raise HepgenError(msg)


def derived_names(features: Sequence[str]) -> list[str]:
    """Observables that can be computed from the features and are not among them."""
    return [name for name in DERIVED if name not in features] if set(KINEMATICS) <= set(features) else []


def derive(x: np.ndarray, features: Sequence[str]) -> np.ndarray:
    """The derived observables of events, shape (n, len(derived_names(features))).

    Both are computed from the two jets' features in the same way for truth and generated events: the
    invariant mass mjj [GeV] of the massive jets, and |η1 − η2|.

    Args:
        x: Features of shape (n, len(features)); GeV and radians.
        features: Names of the columns.
    """
    names = derived_names(features)
    if not names:
        return np.empty((len(x), 0))
    import vector  # slow to import, and a run is planned with the names alone

    column = dict(zip(features, x.T, strict=True))
    first, second = (
        vector.array({"pt": column[f"pt_{j}"], "eta": column[f"eta_{j}"], "phi": phi, "mass": column[f"mass_{j}"]})
        for j, phi in (("j1", np.zeros(len(x))), ("j2", column["dphi_jj"]))
    )
    values = {"mjj": (first + second).mass, "deta_jj": np.abs(column["eta_j1"] - column["eta_j2"])}
    return np.stack([values[name] for name in names], axis=1)
