"""A parametrised general-purpose detector: tracks, calorimeter towers and energy flow, for many events at once."""

from dataclasses import dataclass

import awkward as ak
import numpy as np

from hepgen.events import wrap_phi

__all__ = ["ECAL", "HCAL", "Calorimeter", "propagate", "simulate"]

FIELD = 3.8  # T
RADIUS, HALF_LENGTH = 1.29, 3.0  # of the surface that the calorimeters begin at, m

ELECTRON, MUON = 11, 13
# Efficiency of tracking for hadrons, electrons and muons in regions of |η| and pT [GeV].
EFFICIENCY_ETA, EFFICIENCY_PT = (1.5, 2.5), (0.1, 1.0, 100.0)
EFFICIENCY = np.array(
    [
        [(0, 0.70, 0.95, 0.95), (0, 0.60, 0.85, 0.85), (0, 0, 0, 0)],
        [(0, 0.73, 0.95, 0.99), (0, 0.50, 0.83, 0.90), (0, 0, 0, 0)],
        [(0, 0.75, 0.99, 0.99), (0, 0.70, 0.98, 0.98), (0, 0, 0, 0)],
    ]
)
# Relative resolution of the pT of the same three: constant and slope [1/GeV], added in quadrature.
RESOLUTION_ETA = (0.5, 1.5)
RESOLUTION = np.array(
    [
        [(0.010, 1.5e-4), (0.015, 2.5e-4), (0.025, 5.5e-4)],
        [(0.030, 1.3e-3), (0.050, 1.7e-3), (0.150, 3.1e-3)],
        [(0.010, 1.0e-4), (0.015, 1.5e-4), (0.025, 3.5e-4)],
    ]
)


@dataclass(frozen=True)
class Calorimeter:
    """One calorimeter's towers, resolution and thresholds.

    Attributes:
        eta: Edges of the rings of towers in |η|, from 0.
        phi: Towers in each of these rings.
        regions: Upper edges in |η| of the regions of resolution.
        terms: For each region the constant, stochastic [√GeV] and noise [GeV] term of σ(E), and a, b, c of
            the factor a + b (|η| − c)² for the material in front.
        fractions: Share of its energy that a particle leaves here, by |PDG id|; 0 stands for all others.
        energy_min: Least energy of a tower and of its neutral excess, GeV.
        significance_min: The same in standard deviations.
    """

    eta: np.ndarray
    phi: np.ndarray
    regions: tuple[float, ...]
    terms: np.ndarray
    fractions: dict[int, float]
    energy_min: float
    significance_min: float

    def fraction(self, pdgid: np.ndarray) -> np.ndarray:
        """Share of the energy that each particle leaves here."""
        known, inverse = np.unique(np.abs(pdgid), return_inverse=True)
        return np.array([self.fractions.get(int(code), self.fractions[0]) for code in known])[inverse]

    def sigma(self, energy: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """Resolution σ(E) in GeV."""
        region = np.searchsorted(self.regions, np.abs(eta))
        constant, stochastic, noise, a, b, c = self.terms[region].T
        factor = a + b * (np.abs(eta) - c) ** 2
        return factor * np.sqrt((constant * energy) ** 2 + stochastic**2 * energy + noise**2)

    @property
    def edges(self) -> np.ndarray:
        """Tower edges in η on both sides."""
        return np.concatenate([-self.eta[:0:-1], self.eta])

    @property
    def divisions(self) -> np.ndarray:
        """Towers in φ of every ring on both sides."""
        return np.concatenate([self.phi[::-1], self.phi])

    def tower(self, eta: np.ndarray, phi: np.ndarray) -> np.ndarray:
        """Number of the tower that contains a point with |η| below the last edge."""
        ring = np.searchsorted(self.edges, eta, side="right") - 1
        first = np.cumsum(self.divisions) - self.divisions
        sector = ((phi + np.pi) / (2 * np.pi) * self.divisions[ring]).astype(np.int64)
        return first[ring] + np.minimum(sector, self.divisions[ring] - 1)

    def spread(self, tower: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A random point (η, φ) in each tower, and the η of its centre."""
        first = np.cumsum(self.divisions) - self.divisions
        ring = np.searchsorted(first, tower, side="right") - 1
        low, high = self.edges[ring], self.edges[ring + 1]
        phi = (tower - first[ring] + rng.random(len(tower))) / self.divisions[ring] * 2 * np.pi - np.pi
        return low + (high - low) * rng.random(len(tower)), wrap_phi(phi), (low + high) / 2


FORWARD = np.array([3.125, 3.3, 3.475, 3.65, 3.825, 4.0, 4.175, 4.35, 4.525, 4.7, 5.0])

ECAL = Calorimeter(
    eta=np.concatenate([0.0174 * np.arange(171), FORWARD]),
    phi=np.repeat([360, 36], [170, 11]),
    regions=(1.5, 2.5),
    terms=np.array(
        [
            (0.008, 0.11, 0.40, 1.00, 0.64, 0.0),
            (0.008, 0.11, 0.40, 2.16, 5.60, 2.0),
            (0.107, 2.08, 0.00, 1.00, 0.00, 0.0),
        ]
    ),
    fractions={ELECTRON: 1.0, 22: 1.0, 310: 0.3, 3122: 0.3, 0: 0.0},
    energy_min=0.5,
    significance_min=2.0,
)

HCAL = Calorimeter(
    eta=np.concatenate(
        [0.087 * np.arange(21), [1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95], FORWARD]
    ),
    phi=np.repeat([72, 36, 18], [19, 19, 2]),
    regions=(3.0,),
    terms=np.array([(0.05, 1.5, 0.0, 1.0, 0.0, 0.0), (0.13, 2.7, 0.0, 1.0, 0.0, 0.0)]),
    fractions={ELECTRON: 0.0, MUON: 0.0, 22: 0.0, 310: 0.7, 3122: 0.7, 0: 1.0},
    energy_min=1.0,
    # The card's later 2 loses a tenth of the jet mass.
    significance_min=1.0,
)


def simulate(truth: ak.Array, rng: np.random.Generator) -> ak.Array:
    """The particles that a detector like CMS reconstructs by energy flow.

    Charged particles are tracked and smeared; both calorimeters sum the energy that arrives in their towers;
    what exceeds the tracks that point there becomes a photon (ECAL) or a neutral hadron (HCAL), and where
    nothing does the tracks are scaled to the weighted mean of both measurements. All particles start at the
    origin.

    Args:
        truth: Visible final state, ``n * var * {pt, eta, phi, mass, charge, pdgid}``; GeV, radians, units of e.
        rng: Source of all random numbers.

    Returns:
        Massless particles ``n * var * {pt, eta, phi}``: an event's tracks, then photons, then neutral hadrons.

    References:
        de Favereau et al. (DELPHES 3) 2014, arXiv:1307.6346; parameters of its CMS card.
    """
    event = np.repeat(np.arange(len(truth)), ak.to_numpy(ak.num(truth)))
    flat = ak.flatten(truth)
    true = {name: ak.to_numpy(flat[name]) for name in ak.fields(truth)}
    eta, phi = propagate(true["pt"], true["eta"], true["phi"], true["charge"])
    energy = np.hypot(true["pt"] * np.cosh(true["eta"]), true["mass"])
    pt, resolution = _track(true, eta, rng)
    track_energy = np.hypot(pt * np.cosh(true["eta"]), true["mass"])
    neutrals = []
    scale = np.ones(len(pt))
    for calorimeter in (ECAL, HCAL):
        deposit = energy * calorimeter.fraction(true["pdgid"])
        hit = np.flatnonzero((deposit > 0) & (np.abs(eta) < calorimeter.eta[-1]))
        towers, members = np.unique(
            event[hit] * calorimeter.divisions.sum() + calorimeter.tower(eta[hit], phi[hit]), return_inverse=True
        )
        ...
    return neutrals


def propagate(
    pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, charge: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where particles from the origin reach the calorimeters' surface, as η and φ of that point.

    Args:
        pt, eta, phi: Momenta at the origin, GeV and radians.
        charge: In units of e; a positive one turns clockwise in the field along +z.
    """
    # A helix from the origin: after turning by 2a it is 2R sin(a) away, in the direction φ − a.
    curvature = charge * 0.299792458 * FIELD / pt / 2
    reach = ...
    return eta, phi
