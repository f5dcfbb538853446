import numpy as np
import pytest
import torch

from hepgen.config import Training
from hepgen.metrics.divergences import triangular, triangular_floor
from hepgen.unfolding.omnifold import LOGIT_LIMIT, Reweighter, omnifold

SMALL = Reweighter(
    "mlp", {"hidden": [32, 32]}, Training(epochs=15, batch_size=500, learning_rate=5e-3, patience=5), "cpu"
)
EDGES = np.linspace(-2.5, 2.5, 26)
N = 6000


def pairs(n, rng, mean=0.0, width=1.0):
    truth = rng.normal(mean, width, (n, 1))
    return truth, truth + rng.normal(0, 0.5, (n, 1))


def distance(first, second, weights=None):
    return triangular(np.histogram(first[:, 0], EDGES, weights=weights)[0], np.histogram(second[:, 0], EDGES)[0])


@pytest.fixture(scope="module")
def toy():
    rng = np.random.default_rng(1)
    return *pairs(N, rng), *pairs(N, rng, 0.25, 0.85)


@pytest.fixture(scope="module")
def unfolded(toy):
    truth, reco, _, data = toy
    return omnifold(truth, reco, data, iterations=3, reweighter=SMALL, seed=1)


def test_closer_to_the_truth_than_prior_and_data(toy, unfolded):
    truth, _, data_truth, data = toy
    found = distance(truth, data_truth, unfolded.weights[-1])
    assert unfolded.weights.shape == (3, N)
    assert found < 0.25 * distance(truth, data_truth)
    assert found < 0.25 * distance(data, data_truth)
    # Residual bias of three iterations and the noise of the weights are of the order of the floor itself.
    assert found < 2 * triangular_floor(25, N, N)


def test_moments_are_unfolded(toy, unfolded):
    truth = toy[0][:, 0]
    mean = np.average(truth, weights=unfolded.weights[-1])
    width = np.sqrt(np.average((truth - mean) ** 2, weights=unfolded.weights[-1]))
    # 6000 smeared events on either side fix the mean to 0.02; twice that for the network.
    assert mean == pytest.approx(0.25, abs=0.06)
    assert width == pytest.approx(0.85, abs=0.06)


def test_agrees_with_the_data_at_detector_level(toy, unfolded):
    _, reco, _, data = toy
    assert distance(reco, data, unfolded.weights[-1]) < 1.5 * triangular_floor(25, N, N)


def test_weights_have_mean_one(unfolded):
    np.testing.assert_allclose(unfolded.weights.mean(1), 1, rtol=1e-12)
    assert unfolded.weights.min() > 0


def test_same_seed_same_bits(toy):
    truth, reco, _, data = (x[:1500] for x in toy)
    runs = [omnifold(truth, reco, data, iterations=1, reweighter=SMALL, seed=s).weights for s in (4, 4, 5)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_null_an_independent_half_leaves_the_weights_at_one():
    rng = np.random.default_rng(2)
    truth, reco = pairs(N, rng)
    data_truth, data = pairs(N, rng)
    weights = omnifold(truth, reco, data, iterations=2, reweighter=SMALL, seed=1).weights[-1]
    # What a network finds between two halves is noise: a logit of about √(parameters in use / N) ≈ 0.05.
    assert weights.std() < 0.12
    assert np.median(weights) == pytest.approx(1, abs=0.05)
    assert distance(truth, data_truth, weights) < 1.8 * triangular_floor(25, N, N)


def test_event_weights_stand_for_events():
    """Data that are a reweighted copy of the simulation are unfolded to the reweighted truth."""
    rng = np.random.default_rng(3)
    truth, reco = pairs(N, rng)
    target = np.exp(0.5 * truth[:, 0] - 0.125)
    weights = omnifold(
        truth, reco, reco, data_weights=target, simulation_weights=np.full(N, 3.0), iterations=2,
        reweighter=SMALL, seed=1,
    ).weights[-1]  # fmt: skip
    shifted = np.average(truth[:, 0], weights=weights)
    assert shifted == pytest.approx(np.average(truth[:, 0], weights=target), abs=0.06)


def test_events_of_zero_weight_do_not_matter(toy):
    truth, reco, _, data = (x[:1500] for x in toy)
    base = np.where(np.arange(1500) < 1200, 1.0, 0.0)
    weights = omnifold(truth, reco, data, simulation_weights=base, iterations=1, reweighter=SMALL, seed=1).weights
    assert np.isfinite(weights).all()
    assert np.average(weights[0], weights=base) == pytest.approx(1)


def test_unseen_events_take_the_mean_weight_of_their_truth(toy):
    truth, reco, data_truth, data = toy
    rng = np.random.default_rng(5)
    # High values are lost more often, both in the simulation and in the data.
    seen, seen_data = (rng.random(N) < 1 / (1 + np.exp(2 * x[:, 0] - 2)) for x in (truth, data_truth))
    poisoned = np.where(seen[:, None], reco, np.nan)
    weights = omnifold(
        truth, poisoned, data[seen_data], pass_reco=seen, iterations=3, reweighter=SMALL, seed=1
    ).weights[-1]
    assert np.average(truth[:, 0], weights=weights) == pytest.approx(data_truth.mean(), abs=0.06)
    assert distance(truth, data_truth, weights) < 0.4 * distance(truth, data_truth)
    # The yield is corrected for the efficiency: per event seen, as many are produced as in the data.
    assert weights.sum() / seen.sum() == pytest.approx(N / seen_data.sum(), rel=0.03)


def test_fakes_keep_their_weight_and_do_not_reach_the_truth(toy):
    """Noise that is as frequent in the data as in the simulation is unfolded away."""
    truth, reco, data_truth, data = toy
    rng = np.random.default_rng(8)
    noise = N // 4
    fakes, data_fakes = (rng.normal(2, 0.5, (noise, 1)) for _ in range(2))
    true = np.arange(N + noise) < N
    poison = np.full((noise, 1), np.nan)
    weights = omnifold(
        np.concatenate([truth, poison]), np.concatenate([reco, fakes]), np.concatenate([data, data_fakes]),
        pass_truth=true, iterations=3, reweighter=SMALL, seed=1,
    ).weights  # fmt: skip
    assert (weights[:, ~true] == 1).all()
    np.testing.assert_allclose(weights.mean(1), 1, rtol=1e-12)
    final = weights[-1, true]
    assert np.average(truth[:, 0], weights=final) == pytest.approx(data_truth.mean(), abs=0.06)
    assert distance(truth, data_truth, final) < 0.4 * distance(truth, data_truth)


def test_saturation_is_clamped_counted_and_reported(capsys):
    truth, reco = pairs(2000, np.random.default_rng(6))
    sharp = Reweighter("mlp", {"hidden": [32]}, Training(epochs=40, batch_size=100, learning_rate=5e-2), "cpu")
    result = omnifold(truth, reco, reco + 100, iterations=1, reweighter=sharp, seed=1)
    assert result.clamped[0, 0] > 0
    assert np.isfinite(result.weights).all()
    assert "warning: classifier saturated" in capsys.readouterr().err


def test_ratios_stay_within_the_limit():
    y = (np.arange(2000) % 2).astype(float)
    x = torch.from_numpy((2 * y[:, None] - 1).astype(np.float32))
    sharp = Reweighter("mlp", {"hidden": [32]}, Training(epochs=40, batch_size=100, learning_rate=5e-2), "cpu")
    ratio, clamped = sharp(x, y, np.ones(2000), x, seed=1)
    assert clamped == 2000
    np.testing.assert_allclose(np.abs(np.log(ratio)), LOGIT_LIMIT, rtol=1e-12)
