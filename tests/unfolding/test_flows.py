import numpy as np

from hepgen.unfolding.dataset import Level, Pairs, Problem
from hepgen.unfolding.flows import columns, genuine_data


def test_bounds_that_a_level_does_not_keep_are_not_imposed():
    x = np.random.default_rng(1).uniform(0, 1, (500, 2))
    kept, broken = columns(["tau21_j1", "tau21_j1"], np.stack([x[:, 0], 1.2 * x[:, 1]], axis=1)).bounds.T
    assert kept.tolist() == [0, 1]
    assert broken[1] > 1
    assert columns([], np.random.default_rng(1).normal(size=(500, 1))).bounds.isinf().all()


def test_fakes_and_background_are_taken_from_the_data_where_they_are():
    rng = np.random.default_rng(1)
    signal, background, fakes = (rng.normal(mean, 0.5, (n, 1)) for mean, n in ((0, 2000), (4, 1000), (-4, 1000)))
    # The simulation has half of the data's events; its fakes are a third of all that it sees.
    reco = np.concatenate([rng.normal(0, 0.5, (1000, 1)), rng.normal(-4, 0.5, (500, 1))])
    true = np.arange(1500) < 1000
    simulation = Pairs(np.where(true[:, None], reco, np.nan), reco, np.ones(1500), true, np.ones(1500, bool))
    values = np.concatenate([signal, background, fakes])
    weights = np.where(np.arange(4000) < 10, 0.0, 1.0)
    problem = Problem(simulation, Level(values, weights), Level(rng.normal(4, 0.5, (500, 1)), np.full(500, 2.0)))
    data, clipped = genuine_data(problem, seed=1)
    assert data.weights.min() > 0
    assert 0 < clipped < 2000
    inside = np.abs(data.values[:, 0]) < 2
    # A classifier of 4000 events is sure of separate peaks; 3 % is what is left of its uncertainty.
    assert abs(data.weights[inside].sum() / 1990 - 1) < 0.03
    assert data.weights[~inside].sum() < 0.1 * 2000


def test_without_fakes_and_background_only_events_of_no_weight_go():
    x = np.zeros((4, 1))
    everything = np.ones(4, bool)
    problem = Problem(
        Pairs(x, x, np.ones(4), everything, everything), Level(x, np.array([1.0, 0, 2, 3])), Level(x[:0], np.ones(0))
    )
    data, clipped = genuine_data(problem, seed=1)
    assert data.weights.tolist() == [1, 2, 3]
    assert clipped == 0
