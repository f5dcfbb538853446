"""Derived observables that agree with the jets'."""

import math

import numpy as np

from hepgen.generation.derived import derive, derived_names

FEATURES = ["pt_j1", "eta_j1", "mass_j1", "pt_j2", "eta_j2", "dphi_jj", "mass_j2"]


def test_derived_observables_need_all_kinematics():
    assert derived_names(FEATURES) == ["mjj", "deta_jj", "dr_jj"]
    assert derived_names(FEATURES[:-1]) == []
    assert derived_names([*FEATURES, "mjj"]) == ["deta_jj", "dr_jj"]
    assert derive(np.ones((5, 2)), FEATURES[:2]).shape == (5, 0)


def test_mass_of_two_massless_jets():
    """m² = 2 pT1 pT2 (cosh Δη − cos Δφ), at any side of Δφ; the order of the features does not matter."""
    for side in (-0.2, 0.2):
        x = np.array([[1500.0, 0.7, 0.0, 1300.0, -0.4, math.pi + side, 0.0]])
        mass = math.sqrt(2 * 1500 * 1300 * (math.cosh(1.1) - math.cos(math.pi - 0.2)))
        order = [3, 1, 6, 0, 5, 2, 4]
        for values, names in ((x, FEATURES), (x[:, order], [FEATURES[k] for k in order])):
            np.testing.assert_allclose(derive(values, names), [[mass, 1.1, math.hypot(1.1, math.pi - 0.2)]], rtol=1e-12)


def test_mass_of_massive_jets_at_rest_in_the_transverse_plane():
    """Back to back with equal pT and mass: mjj = 2 √(pT² + m²) at η = 0."""
    x = np.array([[400.0, 0.0, 300.0, 400.0, 0.0, math.pi, 300.0]])
    np.testing.assert_allclose(derive(x, FEATURES), [[1000.0, 0.0, math.pi]], rtol=1e-12)
