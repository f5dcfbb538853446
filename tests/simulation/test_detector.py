import awkward as ak
import numpy as np
import pytest

from hepgen.simulation.detector import ECAL, HCAL, propagate, simulate

PION, KLONG, PHOTON, ELECTRON, MUON = (
    (211, 0.1396, 1),
    (130, 0.4976, 0),
    (22, 0.0, 0),
    (11, 0.0005, -1),
    (13, 0.1057, -1),
)


def gun(events, *shots):
    """Events that all hold the same particles, each (species, pt, eta), at random azimuths."""
    rng = np.random.default_rng(1)
    rows = {name: np.empty((events, len(shots))) for name in ("pt", "eta", "phi", "mass", "charge")}
    rows["pdgid"] = np.empty((events, len(shots)), np.int64)
    for i, ((pdgid, mass, charge), pt, eta) in enumerate(shots):
        for name, value in (("pt", pt), ("eta", eta), ("mass", mass), ("charge", charge), ("pdgid", pdgid)):
            rows[name][:, i] = value
        rows["phi"][:, i] = rng.uniform(-np.pi, np.pi, events)
    return ak.from_regular(ak.zip({name: ak.Array(values) for name, values in rows.items()}))


def detect(truth, seed=2):
    return simulate(truth, np.random.default_rng(seed))


def energy(particles):
    return ak.to_numpy(ak.sum(particles.pt * np.cosh(particles.eta), axis=1))


def test_neutral_particles_fly_straight():
    eta, phi = np.array([-4.0, -1.0, 0.0, 2.5]), np.array([-3.0, 0.0, 1.0, 3.1])
    surface = propagate(np.full(4, 0.3), eta, phi, np.zeros(4))
    np.testing.assert_allclose(surface, [eta, phi], atol=1e-9)


@pytest.mark.parametrize("charge", [1, -1])
@pytest.mark.parametrize(("pt", "eta"), [(20.0, 0.5), (1.0, -0.8), (0.9, 2.2), (0.3, 0.4), (0.2, -1.5)])
def test_helix_follows_the_lorentz_force(pt, eta, charge):
    """Against a step-by-step integration of dp/ds = q v × B, with 2e-5 m a step."""
    step, phi = 2e-5, 0.7
    position = direction = 0j
    direction = np.exp(1j * phi)
    turn = np.exp(-1j * charge * 0.299792458 * 3.8 / pt * step)
    z = 0.0
    while abs(position) < 1.29 and abs(z) < 3.0:
        position += direction * step
        direction *= turn
        z += np.sinh(eta) * step
    surface = propagate(np.array([pt]), np.array([eta]), np.array([phi]), np.array([charge]))
    np.testing.assert_allclose(np.ravel(surface), [np.arcsinh(z / abs(position)), np.angle(position)], atol=1e-3)


@pytest.mark.parametrize(
    ("species", "pt", "eta", "efficiency"),
    [
        (PION, 10.0, 0.2, 0.95),
        (PION, 0.9, 0.2, 0.70),
        (PION, 10.0, 2.0, 0.85),
        (PION, 10.0, 3.0, 0.0),
        (ELECTRON, 200.0, 0.2, 0.99),
        (MUON, 10.0, -2.0, 0.98),
    ],
)
def test_tracking_efficiency(species, pt, eta, efficiency):
    truth = gun(4000, (species, pt, eta))
    # A track keeps the direction of its particle to the last bit; a tower's point is random.
    tracks = ak.to_numpy(ak.sum(detect(truth).eta == eta, axis=1))
    assert tracks.max() <= 1
    # Four standard deviations of a binomial.
    assert tracks.mean() == pytest.approx(efficiency, abs=4 * np.sqrt(efficiency * (1 - efficiency) / 4000))


@pytest.mark.parametrize(
    ("species", "pt", "eta", "width"),
    [
        # Muons have the track's resolution alone: 0.010 ⊕ 1e-4 · 50.
        (MUON, 50.0, 0.2, np.hypot(0.01, 0.005)),
        # (1 + 0.64 η²) (0.008 ⊕ 0.11/√E ⊕ 0.40/E) for E = 50 cosh 0.2 GeV.
        (PHOTON, 50.0, 0.2, 1.0256 * np.sqrt(0.008**2 + 0.11**2 / 51.0 + 0.4**2 / 51.0**2)),
        # 0.05 ⊕ 1.5/√E.
        (KLONG, 100.0, 0.2, np.hypot(0.05, 1.5 / np.sqrt(102.0))),
        (KLONG, 20.0, 3.5, np.hypot(0.13, 2.7 / np.sqrt(20 * np.cosh(3.5)))),
    ],
)
def test_response_of_single_particles(species, pt, eta, width):
    truth = gun(4000, (species, pt, eta))
    found = detect(truth)
    response = energy(found[ak.num(found) > 0]) / (pt * np.cosh(eta))
    # Mean and width to four standard errors, σ/√n and σ/√2n; 3 % of the width for the tail of a log-normal.
    assert response.mean() == pytest.approx(1, abs=4 * width / np.sqrt(4000))
    assert response.std() == pytest.approx(width, rel=4 / np.sqrt(8000) + 0.03)


@pytest.mark.parametrize(
    ("species", "pt", "threshold"),
    # The least E at which E > 2 σ(E) with σ = 1.0256 (0.11 √E ⊕ 0.40) GeV, and E > σ(E) with σ = 1.5 √E ⊕ 0.05 E.
    [(PHOTON, 1.0, 0.846), (KLONG, 3.0, 2.256)],
)
def test_faint_towers_are_suppressed(species, pt, threshold):
    found = detect(gun(4000, (species, pt, 0.2)))
    lowest = np.sort(energy(found[ak.num(found) > 0]))
    assert 0.5 < ak.mean(ak.num(found)) < 0.9
    # 4,000 events leave no gap above the threshold; σ is taken at the tower's centre, 0.01 away at most.
    assert threshold * 0.99 < lowest[0] < threshold * 1.02


def test_pions_are_measured_by_their_tracks():
    truth = gun(4000, (PION, 20.0, 0.2))
    response = energy(detect(truth)) / energy(truth)
    low, middle, high = np.quantile(response, [0.16, 0.5, 0.84])
    # The HCAL alone would give 0.33, the track 0.01; neutral excesses and lost tracks make up the tail.
    assert middle == pytest.approx(1, abs=0.01)
    assert (high - low) / 2 < 0.15


def test_energy_under_tracks_is_not_counted_twice():
    rng = np.random.default_rng(3)
    truth = gun(3000, (PION, 30.0, 0.4), (PHOTON, 30.0, 0.4))
    truth = ak.with_field(truth, ak.from_regular(np.repeat(rng.uniform(-3, 3, (3000, 1)), 2, axis=1)), "phi")
    response = energy(detect(truth)) / energy(truth)
    # Half the energy is measured by a track or the HCAL, half by the ECAL; a few per cent are noise above the cuts.
    assert response.mean() == pytest.approx(1, abs=0.04)


def test_tracks_come_first_then_photons_then_neutral_hadrons():
    found = detect(gun(500, (KLONG, 200.0, -1.0), (PHOTON, 100.0, 0.0), (MUON, 100.0, 1.0)))
    complete = found[ak.num(found) == 3]
    assert len(complete) > 450
    # Towers of 0.0174 and 0.087.
    np.testing.assert_allclose(ak.to_numpy(complete.eta), np.tile([1.0, 0.0, -1.0], (len(complete), 1)), atol=0.09)
    assert ak.fields(found) == ["pt", "eta", "phi"]


def test_events_do_not_mix():
    truth = gun(200, (PHOTON, 50.0, 0.2))
    truth = ak.with_field(truth, truth.phi * 0 + 1, "phi")
    found = detect(truth)
    assert ak.all(ak.num(found) == 1)
    assert ak.max(found.pt) < 60


def test_directions_point_to_the_particle():
    truth = gun(1000, (PHOTON, 80.0, -2.0))
    found = detect(truth)
    one = ak.num(found) == 1
    assert ak.mean(one) > 0.99
    dphi = ak.to_numpy(ak.flatten(found.phi[one] - truth.phi[one] + np.pi)) % (2 * np.pi) - np.pi
    # The point and the particle are in the same tower: 0.0174 in η and 1° in φ.
    assert np.abs(dphi).max() <= np.pi / 180 + 1e-9
    assert ak.max(abs(found.eta[one] - truth.eta[one])) <= 0.0174 + 1e-9


def test_the_same_seed_gives_the_same_particles():
    truth = gun(50, (PION, 5.0, 1.0), (PHOTON, 5.0, 1.2), (KLONG, 50.0, 2.0))
    assert ak.array_equal(detect(truth, 4), detect(truth, 4))
    assert not ak.array_equal(detect(truth, 4).pt[:, 0], detect(truth, 5).pt[:, 0])


def test_empty_events_stay_in_their_place():
    truth = gun(3, (MUON, 50.0, 0.0))
    truth = truth[[[0], [], [0]]]
    found = detect(truth, 1)
    assert len(found) == 3
    assert len(found[1]) == 0
    assert len(detect(truth[:0])) == 0


@pytest.mark.parametrize("calorimeter", [ECAL, HCAL], ids=["ECAL", "HCAL"])
def test_towers_tile_the_surface(calorimeter):
    rng = np.random.default_rng(6)
    assert len(calorimeter.edges) == len(calorimeter.divisions) + 1
    assert np.all(np.diff(calorimeter.edges) > 0)
    towers = np.arange(calorimeter.divisions.sum())
    eta, phi, center = calorimeter.spread(towers, rng)
    np.testing.assert_array_equal(calorimeter.tower(eta, phi), towers)
    np.testing.assert_allclose(center, -center[::-1], atol=1e-12)
