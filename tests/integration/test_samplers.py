import numpy as np
import pytest
import torch

from hepgen.config import IntegrationMethod
from hepgen.errors import HepgenError
from hepgen.integration.samplers import draw

# Of a Gaussian of width 0.1 in the middle of the square; less than 1e-5 of it lies outside.
TRUTH = 2 * np.pi * 0.01
METHODS = {
    "uniform": {"type": "uniform"},
    "vegas": {"type": "vegas", "points": 2000, "iterations": 5},
    "vegas_plus": {"type": "vegas_plus", "points": 2000, "iterations": 5},
    "flow": {
        "type": "flow",
        "points": 2000,
        "settings": {"layers": 2, "hidden": 8, "blocks": 1},
        "training": {"epochs": 3, "batch_size": 200, "learning_rate": 0.01},
    },
}


def integrand(u):
    return np.exp(-50 * ((u - 0.5) ** 2).sum(1))


def drawn(name, seed=1, events=5000):
    return draw(name, IntegrationMethod(**METHODS[name]), integrand, 2, events, seed, "cpu")


@pytest.fixture(scope="module")
def draws():
    return {name: drawn(name) for name in METHODS}


@pytest.mark.parametrize("name", METHODS)
def test_the_mean_weight_is_the_integral(draws, name):
    """Four standard errors, for VEGAS+ those that it would have without its strata."""
    weight = draws[name].weight
    assert weight.mean() == pytest.approx(TRUTH, abs=4 * weight.std() / np.sqrt(len(weight)))
    assert draws[name].u.shape == (len(weight), 2)
    assert len(weight) == pytest.approx(5000, rel=0.25)


@pytest.mark.parametrize("name", ["vegas", "vegas_plus", "flow"])
def test_adaptation_lowers_the_variance(draws, name):
    def relative_variance(weight):
        return weight.var() / weight.mean() ** 2

    assert relative_variance(draws[name].weight) < 0.5 * relative_variance(draws["uniform"].weight)
    assert draws[name].adaptation > 0


@pytest.mark.parametrize("name", METHODS)
def test_a_seed_means_the_same_events(draws, name):
    torch.manual_seed(99)
    np.testing.assert_array_equal(drawn(name).weight, draws[name].weight)
    assert not np.array_equal(drawn(name, seed=2, events=200).u[:100], draws[name].u[:100])


@pytest.mark.parametrize("name", ["vegas", "flow"])
def test_points_follow_the_density_that_their_weights_are_over(draws, name):
    """The points of a quarter of the square, weighted by one over their density, measure its area: four errors."""
    u, weight, _, _ = draws[name]
    area = np.where((u > 0.5).all(1), weight / integrand(u), 0.0)
    assert area.mean() == pytest.approx(0.25, abs=4 * area.std() / np.sqrt(len(area)))


def test_strata_hold_several_points(draws):
    assert np.bincount(draws["vegas_plus"].stratum).min() >= 2
    assert not draws["vegas"].stratum.any()


def test_an_integrand_that_vanishes_teaches_nothing_and_breaks_nothing():
    flow = IntegrationMethod(**{**METHODS["flow"], "training": {"epochs": 1, "batch_size": 1000}})
    weight = draw("flow", flow, lambda u: np.zeros(len(u)), 2, 100, 1, "cpu").weight
    assert not weight.any()


def test_impossible_settings_are_refused():
    with pytest.raises(HepgenError, match=r"integration\.methods\.flow: .*at least 2 features"):
        draw("flow", IntegrationMethod(**METHODS["flow"]), integrand, 1, 100, 1, "cpu")
