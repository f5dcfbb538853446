from itertools import combinations

import numpy as np
import pytest
from scipy.integrate import dblquad

from hepgen.config import Integration
from hepgen.integration.matrix_element import (
    ALPHA_S,
    CASIMIR,
    DIMENSIONS,
    born,
    cross_section,
    momenta,
    phase_space,
    reference,
)


def cuts(**changes):
    return Integration(**changes, methods={"uniform": {"type": "uniform"}})


def points(n, seed=1):
    return np.random.default_rng(seed).random((n, DIMENSIONS))


def test_partons_are_massless_and_share_the_beams_momentum():
    k = momenta(35.0, phase_space(points(100))[0])
    np.testing.assert_allclose(k.sum(1), np.tile([35.0, 0, 0, 0], (100, 1)), atol=1e-12)
    np.testing.assert_allclose((k**2 @ [1, -1, -1, -1]), 0, atol=1e-10)


def test_momenta_lie_where_the_point_says():
    point, _ = phase_space(points(100))
    k = momenta(35.0, point)
    np.testing.assert_allclose(2 * k[:, :2, 0].T / 35, [point.x1, point.x2], atol=1e-12)
    np.testing.assert_allclose(k[:, 0, 3] / k[:, 0, 0], point.cos_theta, atol=1e-12)
    np.testing.assert_allclose(np.arctan2(k[:, 0, 2], k[:, 0, 1]) % (2 * np.pi), point.phi, atol=1e-9)


def test_events_outside_the_cuts_have_no_weight():
    block, u = cuts(y_cut=0.02, min_energy=4.0, max_cos_theta=0.7), points(5000)
    k = momenta(35.0, phase_space(u)[0])
    masses = [((k[:, i] + k[:, j]) ** 2 @ [1, -1, -1, -1]) / 35**2 for i, j in combinations(range(3), 2)]
    inside = (np.min(masses, 0) > 0.02) & (k[:, :, 0].min(1) > 4) & (abs(k[:, :, 3] / k[:, :, 0]).max(1) < 0.7)
    assert 0 < inside.sum() < len(u)
    np.testing.assert_array_equal(cross_section(block, u) > 0, inside)


@pytest.mark.parametrize(("y_cut", "min_energy"), [(0.05, 0.0), (0.05, 5.0), (0.01, 10.0)])
def test_without_a_cut_on_angles_quadrature_gives_the_known_energies(y_cut, min_energy):
    """σ₀ C_F α_s/2π ∫ (x1² + x2²)/((1 - x1)(1 - x2)): Ellis, Gaillard, Ross 1976."""
    least, most = 2 * min_energy / 35, 1 - y_cut
    integral, _ = dblquad(
        lambda x2, x1: (x1**2 + x2**2) / ((1 - x1) * (1 - x2)),
        max(least, 2 - 2 * most), most,
        lambda x1: max(least, 2 - most - x1), lambda x1: max(least, 2 - most - x1, min(most, 2 - least - x1)),
        epsrel=1e-9,
    )  # fmt: skip
    expected = born(35.0) * CASIMIR * ALPHA_S / (2 * np.pi) * integral
    block = cuts(y_cut=y_cut, min_energy=min_energy, max_cos_theta=1.0)
    assert reference(block, nodes=60, angles=8) == pytest.approx(expected, rel=1e-6)


def test_born_cross_section():
    """R = 11/3 muon pairs, of 86.8 nb GeV² over s."""
    assert born(10.0) == pytest.approx(11 / 3 * 86.8e3 / 100, rel=1e-3)


@pytest.mark.parametrize("changes", [{}, {"y_cut": 0.02, "min_energy": 5.0, "max_cos_theta": 0.6}])
def test_the_integrand_integrates_to_the_quadrature(changes):
    """Four standard errors of 200,000 uniform points, with a fixed seed."""
    block = cuts(**changes)
    values = cross_section(block, points(200_000))
    error = values.std() / np.sqrt(len(values))
    assert values.mean() == pytest.approx(reference(block, nodes=20, angles=300), abs=4 * error)
