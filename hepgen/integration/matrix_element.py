"""e⁺e⁻ → γ* → q q̄ g at tree level, with cuts, over the unit hypercube; and its integral by quadrature."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from hepgen.config import Integration

__all__ = [
    "ALPHA_S",
    "CASIMIR",
    "DIMENSIONS",
    "PROCESS",
    "Point",
    "born",
    "cross_section",
    "momenta",
    "phase_space",
    "reference",
]

PROCESS = "ee_qqg"
DIMENSIONS = 5
# α(0) and α_s(m_Z), neither running; Σ e_q² of five massless flavours; colours; (ħc)² [pb GeV²].
ALPHA, ALPHA_S = 1 / 137.035999, 0.118
CHARGES, COLOURS, CASIMIR = 11 / 9, 3, 4 / 3
PICOBARN = 0.3893793721e9


class Point(NamedTuple):
    """Where events lie in phase space, each of shape (n,).

    Attributes:
        x1, x2: Energies of quark and antiquark over half the collision energy; the gluon's is 2 - x1 - x2.
        cos_theta: Cosine of the quark's angle to the electron beam.
        phi: The quark's azimuth about the beam, 0 to 2π.
        psi: The antiquark's azimuth about the quark, 0 to 2π.
    """

    x1: np.ndarray
    x2: np.ndarray
    cos_theta: np.ndarray
    phi: np.ndarray
    psi: np.ndarray


def phase_space(u: np.ndarray) -> tuple[Point, np.ndarray]:
    """Points of all of phase space from the unit hypercube, and the Jacobian |∂(x1, x2, cos θ, φ, ψ)/∂u|.

    Args:
        u: Shape (n, 5), between 0 and 1.

    Returns:
        The points, and the Jacobian of shape (n,).
    """
    x1 = u[:, 0]
    angles = 2 * np.pi * u[:, 3:].T
    return Point(x1, 1 - x1 * u[:, 1], 2 * u[:, 2] - 1, *angles), 8 * np.pi**2 * x1


def momenta(energy: float, point: Point) -> np.ndarray:
    """Four-momenta (E, px, py, pz) [GeV] of q, q̄ and g in the centre of mass, the electron along z, shape (n, 3, 4)."""
    x1, x2, cos_theta, phi, psi = point
    # cos of the opening angle of massless q and q̄: x1 x2 (1 - cos) = 2 (1 - x3) = 2 (x1 + x2 - 1).
    cosine = np.clip(1 - 2 * (x1 + x2 - 1) / (x1 * x2), -1, 1)
    sine, sin_theta = np.sqrt(1 - cosine**2), np.sqrt(1 - cos_theta**2)
    cos_phi, sin_phi = np.cos(phi), np.sin(phi)
    quark = np.stack([sin_theta * cos_phi, sin_theta * sin_phi, cos_theta], -1)
    inward = np.stack([cos_theta * cos_phi, cos_theta * sin_phi, -sin_theta], -1)
    sideward = np.stack([-sin_phi, cos_phi, np.zeros_like(phi)], -1)
    across = np.cos(psi)[:, None] * inward + np.sin(psi)[:, None] * sideward
    antiquark = cosine[:, None] * quark + sine[:, None] * across
    p1, p2 = x1[:, None] * quark, x2[:, None] * antiquark
    energies = np.stack([x1, x2, 2 - x1 - x2], -1)
    return energy / 2 * np.concatenate([energies[:, :, None], np.stack([p1, p2, -p1 - p2], 1)], axis=-1)


def cross_section(block: Integration, u: np.ndarray) -> np.ndarray:
    """The integrand [pb]: its integral over the unit hypercube is the cross section within the cuts.

    dσ = |M|²/(2s) dΦ₃, dΦ₃ = s/(32 (2π)⁵) dx1 dx2 dcosθ dφ dψ, and, averaged over the spins of the beams and summed
    over the others, |M|² = 2 N_c C_F e⁴ g_s² Σe_q² Σ(p_i·k_j)² / ((p1·p2)(k1·k3)(k2·k3)), with i and j over both beams
    p and over quark and antiquark.

    Args:
        block: The collision energy and the cuts.
        u: Shape (n, 5).

    Returns:
        Shape (n,), 0 outside the cuts.

    References:
        Ellis, Gaillard, Ross, Nucl. Phys. B111 (1976) 253; Ellis, Stirling, Webber, QCD and Collider Physics, 1996.
    """
    point, jacobian = phase_space(u)
    k = momenta(block.energy, point)
    s = block.energy**2
    # Twice k_i·k_j over s is 1 - x of the third.
    invariants = 1 - 2 * k[:, :, 0] / block.energy
    cosines = k[:, :, 3] / np.maximum(k[:, :, 0], np.finfo(float).tiny)
    inside = (
        (invariants > block.y_cut).all(1)
        & (k[:, :, 0] > block.min_energy).all(1)
        & (np.abs(cosines) < block.max_cos_theta).all(1)
    )
    beams = block.energy / 2 * np.array([[1, 0, 0, 1], [1, 0, 0, -1]])
    products = np.einsum("nim,bm,m->nib", k[inside, :2], beams, [1, -1, -1, -1])
    gluon = s**2 / 4 * invariants[inside, 0] * invariants[inside, 1]
    coupling = 2 * COLOURS * CASIMIR * CHARGES * (4 * np.pi) ** 3 * ALPHA**2 * ALPHA_S
    squared = coupling * (products**2).sum((1, 2)) / (s / 2 * gluon)
    values = np.zeros(len(u))
    values[inside] = PICOBARN / (64 * (2 * np.pi) ** 5) * squared * jacobian[inside]
    return values


def born(energy: float) -> float:
    """Cross section [pb] of e⁺e⁻ → γ* → q q̄, 4πα²/(3s) N_c Σe_q²."""
    return PICOBARN * 4 * np.pi * ALPHA**2 / (3 * energy**2) * COLOURS * CHARGES


def reference(block: Integration, nodes: int = 40, angles: int = 1000) -> float:
    """The cross section [pb] within the cuts by quadrature, by a route of its own.

    With the beam at the angle β to the normal of the event's plane and at the azimuth α in it, cos θ_i = sin β
    cos(α - φ_i). The cut on all of them bounds sin²β by c²/max cos²(α - φ_i), and the integral over cos β is known;
    those over ln(1 - x1) and ln(1 - x2) are Gauss and Legendre's, that over α is the trapezoidal rule.

    Args:
        block: The collision energy and the cuts.
        nodes: Of each of the quadratures over x1, in every piece, and x2.
        angles: Steps of α over half a turn.
    """
    least, most = 2 * block.min_energy / block.energy, 1 - block.y_cut
    # The others share 2 - x1: where they may be just as soft or hard as the cuts allow, the range of x2 has a kink.
    kinks = {least, most, 2 - 2 * most, 2 - 2 * least, 2 - most - least}
    edges = sorted(kink for kink in kinks if max(least, 2 - 2 * most) <= kink <= most)
    total = 0.0
    for low, high in pairwise(edges):
        x1, weights = _nodes(low, high, nodes)
        bottom, top = np.maximum(least, 2 - most - x1), np.minimum(most, 2 - least - x1)
        x2, inner = _nodes(bottom[:, None], np.maximum(bottom, top)[:, None], nodes)
        total += float(weights @ (_oriented(x1[:, None], x2, block.max_cos_theta, angles) * inner).sum(1))
    return born(block.energy) * CASIMIR * ALPHA_S / (2 * np.pi) * total


def _nodes(low: np.ndarray | float, high: np.ndarray | float, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes x of Gauss and Legendre's quadrature in ln(1 - x) between limits, and their weights over 1 - x."""
    points, weights = np.polynomial.legendre.leggauss(number)
    start, stop = np.log1p(-np.asarray(low)), np.log1p(-np.asarray(high))
    half = (start - stop) / 2
    return -np.expm1((start + stop) / 2 + half * points), half * weights


def _oriented(x1: np.ndarray, x2: np.ndarray, limit: float, angles: int) -> np.ndarray:
    """x1² + x2² times the share of its orientations that the cut on all cos θ keeps."""
    x1, x2 = np.broadcast_arrays(x1, x2)
    x3 = 2 - x1 - x2
    azimuths = (
        np.zeros_like(x1),
        np.arccos(np.clip(1 - 2 * (1 - x3) / (x1 * x2), -1, 1)),
        -np.arccos(np.clip(1 - 2 * (1 - x2) / (x1 * x3), -1, 1)),
    )
    total = np.zeros_like(x1)
    for alpha in np.arange(angles) * np.pi / angles:
        squares = [np.cos(alpha - azimuth) ** 2 for azimuth in azimuths]
        cosine = np.sqrt(1 - np.minimum(1, limit**2 / np.maximum.reduce(squares)))
        # The means of 1 and of sin²β over |cos β| between that and 1.
        kept, sines = 1 - cosine, 2 / 3 - cosine + cosine**3 / 3
        total += (x1**2 + x2**2) * kept + (x1**2 * squares[0] + x2**2 * squares[1]) * sines
    return 3 / 4 * total / angles
