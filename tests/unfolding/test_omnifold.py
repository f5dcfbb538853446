import numpy as np
import pytest
import torch

from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.metrics.divergences import triangular, triangular_floor
from hepgen.models import CLASSIFIERS
from hepgen.unfolding.dataset import Level, Pairs, Problem
from hepgen.unfolding.omnifold import omnifold
from hepgen.unfolding.reweighting import LOGIT_LIMIT, Reweighter, normal_scores

TRAINING = Training(epochs=8, batch_size=400, learning_rate=1e-2, patience=4)
SMALL = Reweighter("mlp", {"hidden": [32, 32]}, TRAINING, "cpu")
TREES = Reweighter("gradient_boosting", {"leaves": 4, "rounds": 200})
SHARP = Reweighter("mlp", {"hidden": [32]}, Training(epochs=15, batch_size=50, learning_rate=5e-2), "cpu")
EDGES = np.linspace(-2.5, 2.5, 26)
N = 5000
JETS = 2000


def pairs(n, rng, mean=0.0, width=1.0):
    truth = rng.normal(mean, width, (n, 1))
    return truth, truth + rng.normal(0, 0.5, (n, 1))


def make_problem(
    truth, reco, data, *, weights=None, data_weights=None, seen=None, true=None, background=None, expected=0.0
):
    """A problem of arrays; all events pass and have a weight of one, and there is no background, unless given."""
    every = np.ones(len(truth), bool)
    seen, true = (every if mask is None else mask for mask in (seen, true))
    other = data[:0] if background is None else background
    return Problem(
        Pairs(truth, reco, np.ones(len(truth)) if weights is None else weights, true, seen),
        Level(data, np.ones(len(data)) if data_weights is None else data_weights),
        Level(other, np.full(len(other), expected / max(len(other), 1))),
    )


def distance(first, second, weights=None):
    return triangular(np.histogram(first[:, 0], EDGES, weights=weights)[0], np.histogram(second[:, 0], EDGES)[0])


@pytest.fixture(scope="module")
def toy():
    """Truth and reconstruction of a simulation, and of data with another mean and width."""
    rng = np.random.default_rng(1)
    return *pairs(N, rng), *pairs(N, rng, 0.25, 0.85)


@pytest.fixture(scope="module", params=[SMALL, TREES], ids=["mlp", "gradient_boosting"])
def unfolded(toy, request):
    truth, reco, _, data = toy
    return omnifold(make_problem(truth, reco, data), iterations=3, reweighter=request.param, seed=1)


def test_closer_to_the_truth_than_prior_and_data(toy, unfolded):
    truth, reco, data_truth, data = toy
    found = distance(truth, data_truth, unfolded.weights[-1])
    assert unfolded.weights.shape == (3, N)
    assert found < 0.25 * distance(truth, data_truth)
    assert found < 0.4 * distance(data, data_truth)
    # Residual bias of three iterations and the noise of the weights are of the order of the floor itself.
    assert found < 2 * triangular_floor(25, N, N)
    assert distance(reco, data, unfolded.weights[-1]) < 2 * triangular_floor(25, N, N)


def test_moments_are_unfolded(toy, unfolded):
    truth = toy[0][:, 0]
    mean = np.average(truth, weights=unfolded.weights[-1])
    width = np.sqrt(np.average((truth - mean) ** 2, weights=unfolded.weights[-1]))
    # 5000 smeared events on either side fix the mean to 0.02; three times that for the classifier.
    assert mean == pytest.approx(0.25, abs=0.06)
    assert width == pytest.approx(0.85, abs=0.06)


def test_weights_are_positive_with_mean_one(unfolded):
    np.testing.assert_allclose(unfolded.weights.mean(1), 1, rtol=1e-12)
    assert unfolded.weights.min() > 0


def test_classifiers_are_calibrated_on_events_held_out(unfolded):
    """In deciles of the prediction the label is what was predicted; truth-level labels fluctuate little."""
    predicted, observed, error = np.moveaxis(unfolded.about["calibration"], -1, 0)
    assert predicted.shape == (3, 2, 10)
    assert (np.diff(predicted, axis=-1) >= -1e-9).all()
    # The share of one class among 200 of 2000 events: √(¼/200).
    np.testing.assert_allclose(error[:, 0], 0.035, rtol=0.2)
    # Overtraining adds to the fluctuation: 10 of each 10 deciles within 4.5 deviations, most within 2.
    pulls = (observed - predicted)[:, 0] / error[:, 0]
    assert np.abs(pulls).max() < 4.5
    assert np.sqrt(np.mean(pulls**2)) < 1.8
    # The first iteration moves the mean by a quarter of the width: predictions spread.
    assert np.ptp(predicted[0, 0]) > 0.2
    np.testing.assert_allclose(predicted[:, 1], observed[:, 1], atol=0.02)


def test_same_seed_same_bits(toy):
    problem = make_problem(toy[0][:1500], toy[1][:1500], toy[3][:1500])
    runs = [omnifold(problem, iterations=1, reweighter=SMALL, seed=s).weights for s in (4, 4, 5)]
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])


def test_null_an_independent_half_leaves_the_weights_at_one():
    rng = np.random.default_rng(2)
    truth, reco = pairs(N, rng)
    data_truth, data = pairs(N, rng)
    weights = omnifold(make_problem(truth, reco, data), iterations=1, reweighter=SMALL, seed=1).weights[-1]
    # What a network finds between two halves is noise: a logit of about √(parameters in use / N) ≈ 0.05.
    assert weights.std() < 0.12
    assert np.median(weights) == pytest.approx(1, abs=0.05)
    assert distance(truth, data_truth, weights) < 1.8 * triangular_floor(25, N, N)


def test_event_weights_stand_for_events():
    """Data that are a reweighted copy of the simulation are unfolded to the reweighted truth."""
    truth, reco = pairs(N, np.random.default_rng(3))
    target = np.exp(0.5 * truth[:, 0] - 0.125)
    problem = make_problem(truth, reco, reco, weights=np.full(N, 3.0), data_weights=target)
    weights = omnifold(problem, iterations=2, reweighter=SMALL, seed=1).weights[-1]
    shifted = np.average(truth[:, 0], weights=weights)
    assert shifted == pytest.approx(np.average(truth[:, 0], weights=target), abs=0.06)


def test_events_of_zero_weight_do_not_matter():
    """Whatever is in them, the classifier is the same to the last bit, and a training of nothing else is refused."""
    rng = np.random.default_rng(9)
    x, y = torch.from_numpy(rng.normal(size=(600, 1))).float(), rng.integers(2, size=600).astype(float)
    w = (np.arange(600) < 400).astype(float)
    changed = torch.where(torch.from_numpy(w)[:, None] > 0, x, 50.0)
    first, second = (SMALL([inputs], y, w, [x[:50]], seed=1) for inputs in (x, changed))
    assert np.array_equal(first.values, second.values)
    assert np.array_equal(first.calibration, second.calibration)
    with pytest.raises(HepgenError, match="0 events of positive weight"):
        SMALL([x], y, 0 * w, [x], seed=1)


def test_copies_of_an_event_are_held_out_together(monkeypatch):
    sides = []

    class Spy:
        def __init__(self, features):
            pass

        def fit(self, x, y, w, *, validation, seed):
            sides.extend(set(part[:, 0].tolist()) for part in (x, validation[0]))

        def state_dict(self):
            return {}

        def predict(self, x):
            return torch.zeros(len(x), dtype=torch.float64)

    monkeypatch.setattr(CLASSIFIERS, "load", lambda name: Spy)
    events, w = torch.arange(50.0).repeat_interleave(3)[:, None], np.repeat([0.0, 1.0], [30, 120])
    calibration = Reweighter()([events], np.ones(150), w, [events], seed=1, copies=3).calibration
    assert [len(side) for side in sides] == [32, 8]
    assert sides[0] | sides[1] == set(range(10, 50))
    assert np.isfinite(calibration).all()


def test_bins_without_events_are_not_calibrated():
    y = (np.arange(40) % 2).astype(float)
    calibration = SHARP([torch.from_numpy(y[:, None]).float()], y, np.ones(40), [torch.zeros(1, 1)], seed=1).calibration
    # A fifth of 40 events are held out.
    assert np.isfinite(calibration).all(1).tolist() == [True] * 8 + [False] * 2


def test_unseen_events_take_the_mean_weight_of_their_truth(toy):
    truth, reco, data_truth, data = toy
    rng = np.random.default_rng(5)
    # High values are lost more often, both in the simulation and in the data.
    seen, seen_data = (rng.random(N) < 1 / (1 + np.exp(2 * x[:, 0] - 2)) for x in (truth, data_truth))
    problem = make_problem(truth, np.where(seen[:, None], reco, np.nan), data[seen_data], seen=seen)
    weights = omnifold(problem, iterations=2, reweighter=SMALL, seed=1).weights[-1]
    assert np.average(truth[:, 0], weights=weights) == pytest.approx(data_truth.mean(), abs=0.06)
    assert distance(truth, data_truth, weights) < 0.4 * distance(truth, data_truth)
    # The yield is corrected for the efficiency: per event seen, as many are produced as in the data.
    assert weights.sum() / seen.sum() == pytest.approx(N / seen_data.sum(), rel=0.03)


def test_fakes_and_background_do_not_reach_the_truth(toy):
    """Noise as frequent in the data as in the simulation, which keeps its weight, and a peak known from elsewhere.

    The peak, of a sixth of the data and in a yield of its own, would move the mean by 0.3 if taken for signal.
    """
    truth, reco, data_truth, data = toy
    rng = np.random.default_rng(8)
    noise = N // 4
    known, peak = rng.normal(2, 0.3, (N // 2, 1)), rng.normal(2, 0.3, (noise, 1))
    fakes, data_fakes = (rng.normal(2, 0.5, (noise, 1)) for _ in range(2))
    true = np.arange(N + noise) < N
    poisoned = np.concatenate([truth, np.full((noise, 1), np.nan)])
    measured = np.concatenate([data, data_fakes, peak])
    # The simulation stands for thrice the signal in the data.
    given = {"weights": np.full(N + noise, 3.0), "background": known, "expected": noise}
    problem = make_problem(poisoned, np.concatenate([reco, fakes]), measured, true=true, **given)
    weights = omnifold(problem, iterations=2, reweighter=SMALL, seed=1).weights
    assert (weights[:, ~true] == 1).all()
    np.testing.assert_allclose(weights.mean(1), 1, rtol=1e-12)
    final = weights[-1, true]
    assert np.average(truth[:, 0], weights=final) == pytest.approx(data_truth.mean(), abs=0.06)
    assert distance(truth, data_truth, final) < 0.4 * distance(truth, data_truth)


def test_constituents_tell_what_the_observables_do_not():
    """The observable is noise, the number of constituents differs: only a network that sees them can unfold it."""
    rng = np.random.default_rng(4)

    def jets(share):
        """Jets of one or three constituents; at detector level one in twenty is taken for the other kind."""
        true = rng.random(JETS) < share
        seen = true ^ (rng.random(JETS) < 0.05)
        return [
            np.abs(rng.normal(1, 0.1, (JETS, 3, 3))) * np.stack([k | True, k, k], 1)[..., None] for k in (true, seen)
        ]

    (true, seen), (data_true, data) = (
        [particles.astype(np.float32) for particles in jets(share)] for share in (0.5, 0.7)
    )
    noise = rng.normal(size=(4, JETS, 1))
    every = np.ones(JETS, bool)
    problem = Problem(
        Pairs(noise[0], noise[1], np.ones(JETS), every, every, true, seen),
        Level(noise[2], np.ones(JETS), data),
        Level(noise[3][:0], np.ones(0), data[:0]),
    )
    network = {"particle": [16], "summary": 4, "hidden": [16]}
    training = Training(epochs=8, batch_size=100, learning_rate=1e-2)
    sets = Reweighter("deep_sets", network, training, "cpu", constituents=True)
    many = true[:, 1, 0] > 0
    blind, sighted = (
        omnifold(problem, iterations=2, reweighter=reweighter, seed=1).weights[-1] for reweighter in (SMALL, sets)
    )
    target = (data_true[:, 1, 0] > 0).mean()
    # Shares of 2000 jets in the data and in the simulation are known to 0.01 each.
    assert np.average(many, weights=sighted) == pytest.approx(target, abs=0.04)
    assert np.average(many, weights=blind) == pytest.approx(many.mean(), abs=0.04)


def test_saturation_is_clamped_counted_and_reported(capsys):
    truth, reco = pairs(600, np.random.default_rng(6))
    result = omnifold(make_problem(truth, reco, reco + 100), iterations=1, reweighter=SHARP, seed=1)
    assert result.about["clamped"].shape == (1, 2)
    assert result.about["clamped"][0, 0] > 0
    assert np.isfinite(result.weights).all()
    assert "warning: classifier saturated" in capsys.readouterr().err


def test_ratios_stay_within_the_limit():
    y = (np.arange(1000) % 2).astype(float)
    x = torch.from_numpy((2 * y[:, None] - 1).astype(np.float32))
    ratio, clamped, calibration = SHARP([x], y, np.ones(1000), [x], seed=1)
    assert clamped == 1000
    np.testing.assert_allclose(np.abs(np.log(ratio)), LOGIT_LIMIT, rtol=1e-12)
    np.testing.assert_allclose(calibration[[0, -1], :2], [[0, 0], [1, 1]], atol=1e-4)


def test_normal_scores_keep_order_and_ties_whatever_the_spectrum():
    rng = np.random.default_rng(3)
    x = np.stack([np.exp(3 * rng.normal(size=4000)), rng.poisson(2, 4000), np.full(4000, 5.0)], 1)
    z = normal_scores(x)
    assert z.dtype == torch.float32
    assert [len(column.unique()) for column in z.T] == [len(np.unique(column)) for column in x.T]
    for column, scores in zip(x.T[:2], z.numpy().T, strict=False):
        assert (np.diff(scores[np.argsort(column, kind="stable")]) >= 0).all()
        assert scores.mean() == pytest.approx(0, abs=0.05)
        assert scores.std() == pytest.approx(1, abs=0.1)
    assert (z[:, 2] == 0).all()
