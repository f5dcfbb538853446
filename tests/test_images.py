"""Jet images: each step, and what must not change them."""

import awkward as ak
import numpy as np
import pytest
import torch

from hepgen.config import Images
from hepgen.images import JetImages

OFF = Images(center=False, rotate=False, flip=False, normalize=False)


def jets(n=40, seed=1, spread=0.15):
    """Jets of one to thirty particles, some of them across φ = ±π."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 30, n)
    total = counts.sum()
    phi = np.repeat(rng.uniform(-np.pi, np.pi, n), counts) + spread * rng.normal(size=total)
    columns = {
        "pt": rng.exponential(50, total) + 1,
        "eta": np.repeat(rng.normal(size=n), counts) + 0.6 * spread * rng.normal(size=total),
        "phi": np.mod(phi + np.pi, 2 * np.pi) - np.pi,
    }
    return ak.unflatten(ak.zip(columns), counts)


def images(jets, **steps):
    return JetImages(jets, Images(**steps))[:].numpy()


def moments(images, width=1.6):
    """Mean position and covariance of the pixels of each image."""
    pixels = images.shape[-1]
    centers = ((np.arange(pixels) + 0.5) / pixels - 0.5) * width
    grid = np.stack(np.meshgrid(centers, centers, indexing="ij"))
    weight = images / images.sum((2, 3), keepdims=True)
    mean = np.einsum("nxy,dxy->nd", weight[:, 0], grid)
    square = np.einsum("nxy,dxy,exy->nde", weight[:, 0], grid, grid)
    return mean, square - mean[:, :, None] * mean[:, None, :]


def moved(jets, deta=0.0, dphi=0.0):
    phi = np.mod(jets.phi + dphi + np.pi, 2 * np.pi) - np.pi
    return ak.zip({"pt": jets.pt, "eta": jets.eta + deta, "phi": phi})


def turned(jets, angle):
    """Jets turned in the η–φ plane about the origin."""
    cos, sin = np.cos(angle), np.sin(angle)
    return ak.zip({"pt": jets.pt, "eta": cos * jets.eta - sin * jets.phi, "phi": sin * jets.eta + cos * jets.phi})


def central(**options):
    """Jets about the origin of the η–φ plane, which can be turned."""
    rng = np.random.default_rng(3)
    counts = rng.integers(5, 30, 40)
    total = counts.sum()
    columns = {"pt": rng.exponential(50, total) + 1, "eta": 0.2 * rng.normal(size=total)}
    return ak.unflatten(ak.zip(columns | {"phi": 0.1 * rng.normal(size=total)}), counts)


def test_shape_type_and_sum():
    found = JetImages(jets(), Images(pixels=20))
    assert len(found) == 40
    assert found[:].shape == (40, 1, 20, 20)
    assert found[:].dtype == torch.float32
    # float32 sums of a few dozen pixels
    np.testing.assert_allclose(found[:].sum((1, 2, 3)), 1, rtol=1e-5)


def test_pixels_hold_the_momentum():
    """Without normalisation the image is the pT in the window, which holds all of these jets."""
    inside = jets(spread=0.05)
    np.testing.assert_allclose(images(inside, normalize=False).sum((1, 2, 3)), ak.sum(inside.pt, axis=1), rtol=1e-5)


def test_one_particle_in_its_pixel():
    """η is the first index, φ the second, seen from the jet's own axis: here two equal particles."""
    pair = ak.Array([[{"pt": 5.0, "eta": -0.21, "phi": 0.41}, {"pt": 5.0, "eta": 0.21, "phi": -0.41}]])
    image = JetImages(pair, OFF.model_copy(update={"pixels": 16}))[:][0, 0]
    assert image.nonzero().tolist() == [[5, 12], [10, 3]]
    assert image.sum() == 10


def test_particles_outside_the_window_are_lost():
    pair = ak.Array([[{"pt": 9.0, "eta": 0.0, "phi": 0.0}, {"pt": 1.0, "eta": 1.5, "phi": 0.0}]])
    assert images(pair, normalize=False).sum() == pytest.approx(9)
    assert images(pair).sum() == pytest.approx(1)


def test_centring():
    """The centroid lies at the origin to within half a pixel; without the step it is the jet's axis, near by."""
    mean, _ = moments(images(jets(), pixels=80, rotate=False, flip=False))
    assert np.abs(mean).max() < 0.5 * 1.6 / 80
    # at a distance a, cosh a differs from 1 by a²/2: a pair of unequal particles tells the two apart
    pair = ak.Array([[{"pt": 50.0, "eta": 0.0, "phi": 0.0}, {"pt": 10.0, "eta": 0.7, "phi": 0.0}]])
    centred, plain = (images(pair, pixels=400, center=c, rotate=False, flip=False) for c in (True, False))
    assert not np.array_equal(centred, plain)


@pytest.mark.parametrize("center", [True, False])
def test_moving_a_jet_changes_nothing(center):
    """Shifts in φ always, also across ±π; a shift in η is a boost, which leaves centred images alone."""
    reference = images(jets(), center=center)
    np.testing.assert_allclose(images(moved(jets(), dphi=2.7), center=center), reference, atol=1e-5)
    if center:
        np.testing.assert_allclose(images(moved(jets(), deta=0.9)), reference, atol=1e-5)


def test_principal_axis_becomes_vertical():
    _, covariance = moments(images(central(), pixels=80, flip=False))
    # pixels of 0.02 blur the covariance by 0.02²/12 and move particles by half of it
    assert (covariance[:, 1, 1] > covariance[:, 0, 0]).all()
    assert np.abs(covariance[:, 0, 1]).max() < 2e-3
    _, plain = moments(images(central(), pixels=80, rotate=False, flip=False))
    assert np.abs(plain[:, 0, 1]).max() > 5e-3


@pytest.mark.parametrize("angle", [0.3, 1.2, 2.9])
def test_turning_a_jet_changes_nothing(angle):
    """Float64 coordinates are equal to a few ulp, so that at most a particle on a border changes its pixel."""
    reference, found = images(central()), images(turned(central(), angle))
    same = np.isclose(found, reference, atol=1e-5).all((1, 2, 3))
    assert same.mean() >= 0.97
    unturned = images(central(), rotate=False), images(turned(central(), angle), rotate=False)
    assert np.isclose(*unturned, atol=1e-5).all((1, 2, 3)).mean() < 0.1


def test_hardest_quadrant_is_flipped_to_the_upper_right():
    found = images(jets())[:, 0]
    quadrants = [
        found[:, a, b].sum((1, 2)) for a in (slice(0, 20), slice(20, 40)) for b in (slice(0, 20), slice(20, 40))
    ]
    # a particle on an axis may fall into the neighbouring quadrant's pixels: jets of one particle sit at the origin
    several = ak.to_numpy(ak.num(jets())) > 2
    assert (np.argmax(quadrants, axis=0)[several] == 3).all()
    plain = images(jets(), flip=False)[:, 0]
    assert (plain[several][:, 20:, 20:].sum((1, 2)) < found[several][:, 20:, 20:].sum((1, 2))).any()


def test_mirrored_jets_look_alike():
    mirrored = ak.zip({"pt": central().pt, "eta": -central().eta, "phi": central().phi})
    same = np.isclose(images(mirrored), images(central()), atol=1e-5).all((1, 2, 3))
    assert same.mean() >= 0.97
    assert not np.isclose(images(mirrored, flip=False), images(central(), flip=False), atol=1e-5).all((1, 2, 3)).all()


def test_order_of_particles_does_not_matter():
    shuffled = jets()[:, ::-1]
    np.testing.assert_allclose(images(shuffled), images(jets()), atol=1e-5)


@pytest.mark.parametrize(
    "index", [torch.tensor([7, 3, 3, 11]), np.array([7, 3, 3, 11]), slice(5, 9), torch.arange(40) % 3 == 0]
)
def test_indexing_agrees_with_the_whole(index):
    found = JetImages(jets(), Images())
    whole = found[torch.arange(40)]
    torch.testing.assert_close(found[index], whole[index], rtol=0, atol=0)


def test_more_jets_than_fit_one_step(monkeypatch):
    whole = images(jets())
    monkeypatch.setattr("hepgen.images.STEP", 7)
    np.testing.assert_array_equal(images(jets()), whole)


def test_no_jet_and_many_pixels():
    assert JetImages(jets()[:0], Images())[:].shape == (0, 1, 40, 40)
    np.testing.assert_allclose(images(jets(3), pixels=200).sum((1, 2, 3)), 1, rtol=1e-5)


def test_memory_is_that_of_the_filled_pixels():
    found = JetImages(jets(), Images(pixels=100))
    assert len(found.values) <= len(ak.flatten(jets().pt))
    assert found.index.dtype == torch.int16
