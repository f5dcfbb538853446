"""Jets that generators make: the same particles and observables whichever way they are kept."""

import awkward as ak
import numpy as np
import pytest

from hepgen.config import Generation, Generator, Images
from hepgen.generation.columns import as_generated
from hepgen.generation.jets import FRACTIONS, describe_jet, jet_columns, jet_names, mean_image, particles, spectrum
from hepgen.table import Table

SETTINGS = {"pixels": 9, "width": 0.9, "rotate": False, "flip": False, "center": False}
BLOCK = Generation.model_validate(
    {"samples": ["toys"], "features": ["pt_j1"], "models": {"any": {"type": "any"}}, "images": SETTINGS}
)
PRONGS = ak.Array([[{"pt": 0.75, "eta": 0.1, "phi": 0.0}, {"pt": 0.25, "eta": -0.3, "phi": 0.0}], []])


def image(power):
    """One jet of two pixels, at (η, φ) = (0.1, 0) with 3/4 of its pT and at (−0.3, 0) with the rest; and none."""
    x = np.zeros((2, 1, 9, 9))
    x[0, 0, 5, 4], x[0, 0, 1, 4] = 0.75**power, 0.25**power
    x[:, 0, 0, 0] = -0.2
    return x


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_pixels_are_particles_at_their_centres(power):
    """Whatever the power of the pixels and their sum; a network's negative pixels are empty."""
    block = BLOCK.model_copy(update={"images": Images(**SETTINGS, power=power)})
    jets = particles(Generator(type="any", inputs="images"), block, 2 * image(power))
    assert ak.num(jets).tolist() == [2, 0]
    for name, expected in {"pt": [0.25, 0.75], "eta": [-0.3, 0.1], "phi": [0, 0]}.items():
        np.testing.assert_allclose(jets[name][0], expected, atol=1e-12)


def test_padding_is_no_particle():
    x = np.array([[[0.6, 0.1, 0.2], [0.3, 0.0, 0.0], [0.0, 0.0, 0.0], [-0.1, 0.3, 0.3]]])
    jets = particles(Generator(type="any", inputs="constituents"), BLOCK, x)
    assert jets.to_list() == [[{"pt": 0.6, "eta": 0.1, "phi": 0.2}, {"pt": 0.3, "eta": 0.0, "phi": 0.0}]]


def test_observables_of_two_prongs():
    columns = jet_columns(PRONGS)
    assert list(columns) == jet_names()
    values = {name: column[0] for name, column in columns.items()}
    # m² = 2 z (1 − z) pT² (cosh Δη − 1)
    assert values["mass_over_pt_j1"] == pytest.approx(np.sqrt(2 * 0.75 * 0.25 * (np.cosh(0.4) - 1)), rel=1e-6)
    assert (values["multiplicity_j1"], values["leading_fraction_j1"]) == (2, 0.75)
    assert values["ptd_j1"] == pytest.approx(np.hypot(0.75, 0.25))
    # The axis lies near the pT-weighted mean, 0: the width is 0.75 · 0.1 + 0.25 · 0.3.
    assert values["width_j1"] == pytest.approx(0.15, rel=0.01)
    assert values["tau21_j1"] == pytest.approx(0, abs=1e-6)
    assert all(column[1] == 0 for column in columns.values()), "a jet without particles"
    assert all(describe_jet(name).name == name for name in columns)


def test_mean_image_and_spectrum():
    settings, weights = BLOCK.images, np.array([2.0, 1.0])
    np.testing.assert_allclose(mean_image(PRONGS, settings, weights), np.clip(image(1)[0, 0], 0, 1) * 2 / 3)
    found = spectrum(PRONGS, weights)
    filled = np.flatnonzero(found.values)
    np.testing.assert_array_equal(filled, np.searchsorted(FRACTIONS, np.log10([0.25, 0.75]), "right"))
    assert found.values[filled].tolist() == [2, 2]
    # Jets of weights 2 and 1 with one and no particle there, their mean 2/3: 4 (1 − 2/3)² + (2/3)².
    np.testing.assert_allclose(found.variances[filled], 8 / 9)


@pytest.mark.parametrize("inputs", ["images", "constituents"])
def test_truth_is_made_as_a_generator_would_make_it(inputs):
    """Units and frame are those of the preparation: the jet's pT and place do not matter."""
    moved = ak.zip({"pt": 500 * PRONGS.pt, "eta": PRONGS.eta + 0.8, "phi": PRONGS.phi + 3.1})[:1]
    constituents = BLOCK.constituents.model_copy(update={"rotate": False, "flip": False, "center": False})
    block = BLOCK.model_copy(update={"constituents": constituents})
    truth = as_generated(Generator(type="any", inputs=inputs), block, Table({"pt_j1": np.ones(1)}, {}, (moved,)))
    expected = jet_columns(PRONGS)
    assert truth.columns["mass_over_pt_j1"][0] == pytest.approx(expected["mass_over_pt_j1"][0], rel=0.02)
    assert truth.columns["leading_fraction_j1"][0] == pytest.approx(0.75)
