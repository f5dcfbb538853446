"""Observables that follow from the features that a generator learns."""

from collections.abc import Sequence

import numpy as np

__all__ = ["derive", "derived_names"]

KINEMATICS = ("pt_j1", "eta_j1", "mass_j1", "pt_j2", "eta_j2", "dphi_jj", "mass_j2")
DERIVED = ("mjj", "deta_jj", "dr_jj")


def derived_names(features: Sequence[str]) -> list[str]:
    """Observables that can be computed from the features and are not among them."""
    return [name for name in DERIVED if name not in features] if set(KINEMATICS) <= set(features) else []


def derive(x: np.ndarray, features: Sequence[str]) -> np.ndarray:
    """The derived observables of events, shape (n, len(derived_names(features))).

    All are computed from the two jets' features in the same way for truth and generated events: the invariant mass
    mjj [GeV] of the massive jets, |η1 − η2|, and their distance ΔR in η and φ.

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
    values = {
        "mjj": (first + second).mass,
        "deta_jj": np.abs(column["eta_j1"] - column["eta_j2"]),
        "dr_jj": first.deltaR(second),
    }
    return np.stack([values[name] for name in names], axis=1)
