import numpy as np
import pytest

from hepgen.config import Training, UnfoldingMethod
from hepgen.unfolding.conditional_flow import conditional_flow
from hepgen.unfolding.dataset import Level, Pairs, Problem

SETTINGS = {"hidden": 16, "layers": 2, "blocks": 1, "bins": 4}
TRAINING = Training(epochs=5, batch_size=150, learning_rate=5e-3)
N = 1500


@pytest.fixture(scope="module")
def problem():
    """One smeared Gaussian, which a tenth of the simulation's events miss and a twentieth only seem to have.

    The data also have a peak of background, which would move their mean by another 0.28.
    """
    rng = np.random.default_rng(1)
    truth, data = rng.normal(0, 1, (N, 1)), rng.normal(0.3, 0.8, (N, 1))
    seen, true = rng.random(N) > 0.1, rng.random(N) > 0.05
    seen |= ~true
    reco = np.where(seen[:, None], truth + rng.normal(0, 0.5, (N, 1)), np.nan)
    pairs = Pairs(np.where(true[:, None], truth, np.nan), reco, rng.uniform(0.5, 1.5, N), true, seen)
    reco, peak = data + rng.normal(0, 0.5, (N, 1)), rng.normal(2, 0.3, (300, 1))
    measured = Level(np.concatenate([reco, peak]), np.ones(N + 300))
    return Problem(pairs, measured, Level(rng.normal(2, 0.3, (600, 1)), np.full(600, 0.5)))


@pytest.fixture(scope="module")
def outcome(problem):
    settings = UnfoldingMethod(type="conditional_flow", iterations=2, settings=SETTINGS, training=TRAINING)
    return conditional_flow(problem, settings, seed=1, device="cpu")


def test_iterations_come_closer_to_the_truth(problem, outcome):
    simulation = problem.simulation
    truth = simulation.truth[simulation.pass_truth, 0]
    weights = (outcome.weights * simulation.weights)[:, simulation.pass_truth]
    means = weights @ truth / weights.sum(1)
    # A single use of the simulation's prior gives 0.8 of the shift of 0.3, as the response's variance is 1/4; with
    # fewer from so few events. The simulation's own mean is uncertain by 0.02.
    assert 0.12 < means[0] < means[1] < 0.36
    # 0.92 is the width of the truths that the first iteration draws.
    assert np.sqrt(np.average((truth - means[1]) ** 2, weights=weights[1])) < 0.95


def test_weights_are_normalised_where_both_levels_pass(problem, outcome):
    simulation = problem.simulation
    both = simulation.pass_truth & simulation.pass_reco
    assert outcome.weights.shape == (2, N)
    assert np.average(outcome.weights[:, both], weights=simulation.weights[both], axis=1) == pytest.approx([1, 1])
    assert (outcome.weights[:, ~simulation.pass_truth] == 1).all()
    assert {name: len(values) for name, values in outcome.about.items()} == {"clamped": 2, "clipped": 2}
