"""Trees as tensors give what scikit-learn and LightGBM make of the same trees."""

import lightgbm
import numpy as np
import pytest
import torch
from sklearn.ensemble import IsolationForest as SklearnForest

from hepgen.errors import HepgenError
from hepgen.models.trees import GradientBoosting, IsolationForest

# Sums of hundreds of terms of order one in double precision.
TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def events():
    """Inputs of 1000 events, some of which have equal values, labels and weights."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1000, 4))
    x[:, 3] = np.round(x[:, 3])
    label = x[:, 0] + x[:, 3] + rng.normal(size=1000) > 0
    return torch.from_numpy(x).float(), torch.from_numpy(label).float(), torch.from_numpy(rng.uniform(size=1000))


@pytest.mark.parametrize("number", [1000, 100])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_isolation_forest_equals_that_of_scikit_learn(events, number, weighted):
    x, _, weight = (values[:number] for values in events)
    ours = IsolationForest((4,), trees=20).fit(x, weight if weighted else None, seed=3)
    theirs = SklearnForest(n_estimators=20, max_samples=min(256, number), random_state=3)
    theirs.fit(x.numpy(), sample_weight=weight.numpy() if weighted else None)
    test = torch.cat([events[0], 10 * events[0]])
    np.testing.assert_allclose(ours.score(test), -theirs.score_samples(test.numpy()), rtol=0, atol=TOLERANCE)


def test_events_without_weight_are_not_drawn(events):
    x, _, _ = events
    weight = torch.cat([torch.ones(300), torch.zeros(700)])
    far = torch.where(weight[:, None] > 0, x, 99.0)
    ours, changed = (IsolationForest((4,), trees=20).fit(data, weight) for data in (x, far))
    torch.testing.assert_close(ours.score(x), changed.score(x), rtol=0, atol=0)


@pytest.mark.parametrize("settings", [{}, {"ensemble": 3}, {"leaves": 2}, {"min_events": 1000}])
def test_boosted_trees_as_tensors_equal_lightgbm(events, settings):
    """Also of trees that are a single leaf, for want of events."""
    x, label, weight = events
    model = GradientBoosting((2, 2), rounds=40, **settings).fit(x.reshape(-1, 2, 2), label, weight, seed=2)
    expected = np.mean([booster.predict(x.numpy(), raw_score=True) for booster in model.boosters], axis=0)
    np.testing.assert_allclose(model.forest()(x), expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(model.score(x.reshape(-1, 2, 2)), expected, rtol=0, atol=TOLERANCE)


def test_boosted_trees_learn_weighted_odds(events):
    """A tree without a cut gives the logarithm of the classes' total weights' ratio, in single precision inside."""
    x, label, weight = events
    weight = weight * (1 + label)
    model = GradientBoosting((4,), rounds=1, min_events=1000).fit(x, label, weight)
    expected = (weight[label == 1].sum() / weight[label == 0].sum()).log()
    torch.testing.assert_close(model.score(x), expected.expand(len(x)), rtol=1e-4, atol=0)


def test_an_ensemble_has_different_members(events):
    x, label, _ = events
    model = GradientBoosting((4,), rounds=5, ensemble=2).fit(x, label, seed=1)
    first, second = (booster.predict(x.numpy(), raw_score=True) for booster in model.boosters)
    assert np.abs(first - second).max() > 0.01
    again = GradientBoosting((4,), ensemble=2)
    again.load_state_dict(model.state_dict())
    assert all(isinstance(booster, lightgbm.Booster) for booster in again.boosters)
    assert torch.equal(again.score(x), model.score(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IsolationForest((4,), events=1), "events: is 1; it must be at least 2"),
        (lambda: IsolationForest((4,)).fit(torch.zeros(1, 4)), "1 training events cannot be set apart"),
        (lambda: IsolationForest((4,)).fit(torch.zeros(3, 4), torch.tensor([1, 0, 0])), "1 training events cannot"),
        (lambda: GradientBoosting((4,), ensemble=0), "ensemble: is 0"),
        (lambda: GradientBoosting((4,), leaves=1), "leaves: is 1; it must be at least 2"),
        (lambda: GradientBoosting((4,), learning_rate=0.0), "must be above 0"),
        (lambda: GradientBoosting((4,)).score(torch.zeros(1, 4)), "no trees yet"),
        (lambda: GradientBoosting((4,)).forest(), "no trees yet"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(HepgenError, match=message):
        make()
