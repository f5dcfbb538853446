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
    eta=np.concatenate([0.087 * np.arange(21), [1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 2.868, 2.95], FORWARD]),
    phi=np.repeat([72, 36, 18], [19, 19, 2]),
    regions=(3.0,),
    terms=np.array([(0.05, 1.5, 0.0, 1.0, 0.0, 0.0), (0.13, 2.7, 0.0, 1.0, 0.0, 0.0)]),
    fractions={ELECTRON: 0.0, MUON: 0.0, 22: 0.0, 310: 0.7, 3122: 0.7, 0: 1.0},
    energy_min=1.0,
    # The card has 2, which loses 7 to 8 % of the mass of QCD jets; 1 reproduces the LHC Olympics events.
    significance_min=1.0,
)


def simulate(truth: ak.Array, rng: np.random.Generator) -> ak.Array:
    """The particles that a detector like CMS reconstructs by energy flow.

    Charged particles are tracked and smeared; both calorimeters sum the energy that arrives in their towers.
    What significantly exceeds the tracks that lead to a tower becomes a photon (ECAL) or a neutral hadron
    (HCAL); where nothing does, these tracks are scaled to the weighted mean of both measurements. All
    particles start at the origin, and there is no pile-up.

    Args:
        truth: Visible final state, ``n * var * {pt, eta, phi, mass, charge, pdgid}``; GeV, radians, units of e.
        rng: Source of all random numbers.

    Returns:
        Massless particles ``n * var * {pt, eta, phi}``: an event's tracks, then photons, then neutral hadrons.

    References:
        de Favereau et al. (DELPHES 3) 2013, arXiv:1307.6346; the numbers are those of its CMS card, but for the
        significance in the HCAL.
    """
    event = np.repeat(np.arange(len(truth)), ak.to_numpy(ak.num(truth)))
    true = {name: ak.to_numpy(ak.flatten(truth[name])) for name in ak.fields(truth)}
    surface = propagate(true["pt"], true["eta"], true["phi"], true["charge"])
    pt, resolution = _track(true, surface[0], rng)
    tracked = pt > 0
    energy, measured = (np.hypot(p * np.cosh(true["eta"]), true["mass"]) for p in (true["pt"], pt))
    neutrals = []
    for calorimeter in (ECAL, HCAL):
        fraction = calorimeter.fraction(true["pdgid"])
        charged = np.where(tracked, fraction * measured, 0.0)
        scale, excess = _energy_flow(calorimeter, event, *surface, fraction * energy, charged, resolution, rng)
        pt = pt * scale
        neutrals.append(excess)
    tracks = np.stack([event[tracked], pt[tracked], true["eta"][tracked], true["phi"][tracked]])
    return _group(np.concatenate([tracks, *neutrals], axis=1), len(truth))


def propagate(pt: np.ndarray, eta: np.ndarray, phi: np.ndarray, charge: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """η and φ, seen from the origin, of the points where particles reach the calorimeters.

    Args:
        pt: Transverse momenta at the origin, GeV.
        eta: Their pseudorapidities.
        phi: Their azimuths.
        charge: Charges in units of e; the field along +z turns positive ones clockwise.
    """
    # After an arc of length s a circle of radius 1/2κ through the origin is sin(κs)/κ away from it, at φ − κs.
    curvature = charge * 0.299792458 * FIELD / (2 * pt)
    bend = np.maximum(np.abs(curvature), 1e-9)
    barrel = np.where(bend * RADIUS < 1, np.arcsin(np.minimum(bend * RADIUS, 1)) / bend, np.inf)
    arc = np.minimum(barrel, HALF_LENGTH / np.maximum(np.abs(np.sinh(eta)), 1e-9))
    distance = np.sin(bend * arc) / bend
    # Loopers may arrive on the far side of the beam line.
    azimuth = phi - curvature * arc + np.where(distance < 0, np.pi, 0.0)
    return np.arcsinh(arc * np.sinh(eta) / np.maximum(np.abs(distance), 1e-9)), wrap_phi(azimuth)


def _track(true: dict[str, np.ndarray], eta: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Measured pT, 0 for what leaves no track, and its relative resolution; `eta` is that of the surface."""
    pdgid = np.abs(true["pdgid"])
    species = np.where(pdgid == ELECTRON, 1, np.where(pdgid == MUON, 2, 0))
    region, step = np.searchsorted(EFFICIENCY_ETA, np.abs(eta)), np.searchsorted(EFFICIENCY_PT, true["pt"])
    found = (true["charge"] != 0) & (rng.random(len(eta)) < EFFICIENCY[species, region, step])
    constant, slope = RESOLUTION[species, np.searchsorted(RESOLUTION_ETA, np.abs(eta))].T
    resolution = np.minimum(np.hypot(constant, slope * true["pt"]), 1.0)
    return np.where(found, _log_normal(true["pt"], resolution, rng), 0.0), resolution


def _energy_flow(
    calorimeter: Calorimeter,
    event: np.ndarray,
    eta: np.ndarray,
    phi: np.ndarray,
    deposit: np.ndarray,
    charged: np.ndarray,
    resolution: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Compare the energy in every tower with the tracks that lead there.

    Args:
        calorimeter: Which one.
        event: Event of each particle, shape (n,).
        eta: Where it arrives.
        phi: The same in azimuth.
        deposit: The energy that it leaves here, GeV.
        charged: The same as measured by its track, 0 without one.
        resolution: Relative resolution of the track.
        rng: Source of all random numbers.

    Returns:
        Factor to scale each track by, shape (n,), and event, pT, η, φ of the neutral excesses, shape (4, m).
    """
    hit = np.flatnonzero((deposit > 0) & (np.abs(eta) < calorimeter.eta[-1]))
    towers = calorimeter.divisions.sum()
    keys, member = np.unique(event[hit] * towers + calorimeter.tower(eta[hit], phi[hit]), return_inverse=True)
    arrived, tracks, variance = (
        np.bincount(member, values[hit], len(keys)) for values in (deposit, charged, (resolution * charged) ** 2)
    )
    tower_eta, tower_phi, center = calorimeter.spread(keys % towers, rng)
    energy = _log_normal(arrived, calorimeter.sigma(arrived, center) / arrived, rng)
    sigma = calorimeter.sigma(energy, center)
    energy[(energy < calorimeter.energy_min) | (energy < calorimeter.significance_min * sigma)] = 0.0
    excess = energy - tracks
    error = np.sqrt(sigma**2 + variance)
    neutral = (excess > calorimeter.energy_min) & (excess > calorimeter.significance_min * error)
    scaled = ~neutral & (tracks > 0)
    mean = (tracks * sigma**2 + energy * variance)[scaled] / (error**2 * tracks)[scaled]
    factor, scale = np.ones(len(keys)), np.ones(len(event))
    factor[scaled] = mean
    scale[hit] = factor[member]
    found = np.stack([keys // towers, excess / np.cosh(tower_eta), tower_eta, tower_phi])
    return scale, found[:, neutral]


def _log_normal(mean: np.ndarray, relative: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Log-normal numbers of given mean and relative standard deviation, which stay positive."""
    width = np.sqrt(np.log1p(relative**2))
    return mean * np.exp(width * rng.standard_normal(len(mean)) - width**2 / 2)


def _group(particles: np.ndarray, events: int) -> ak.Array:
    """Rows event, pT, η, φ as lists of particles, in the order given within each event."""
    order = np.argsort(particles[0], kind="stable")
    event, pt, eta, phi = particles[:, order]
    flat = ak.zip({"pt": pt, "eta": eta, "phi": phi})
    return ak.unflatten(flat, np.bincount(event.astype(np.int64), minlength=events))
