from dataclasses import replace

import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.metrics.histograms import Counts
from hepgen.unfolding.uncertainties import budget, single_training, two_way

# Covariances of the data's replicas, the simulation's, and of single trainings, in four cells.
DATA, SIMULATION, TRAINING = (
    scale * np.array([[1.0, 0.6, 0.0, -0.3], [0.6, 2.0, 0.3, 0.0], [0.0, 0.3, 1.0, 0.0], [-0.3, 0.0, 0.0, 1.5]])
    for scale in (4.0, 1.0, 2.0)
)
CENTRAL = np.array([100.0, 200.0, 150.0, 50.0])


def drawn(rng, covariance, shape):
    return rng.normal(size=(*shape, len(covariance))) @ np.linalg.cholesky(covariance).T


def replicas(rng, covariance, number, seeds):
    """Unfolded contents of replicas crossed with seeds, shape (number, seeds, 1, C)."""
    values = drawn(rng, covariance, (number, 1)) + drawn(rng, TRAINING, (number, seeds))
    return (CENTRAL + values)[:, :, None]


@pytest.fixture
def measurement(make_binned):
    def make(number, seeds, **others):
        rng = np.random.default_rng(1)
        values = {"nominal": (CENTRAL + drawn(rng, TRAINING, (seeds,)))[:, None]}
        for kind, covariance in (("data", DATA), ("simulation", SIMULATION)):
            found = replicas(rng, covariance, number, seeds)
            values |= {f"{kind}-{i}": x for i, x in enumerate(found, start=1)}
        return make_binned(values | others)

    return make


def test_analysis_of_variance_by_hand():
    # Mean squares 9 of the rows, 4 of the columns and 1 of the rest.
    found = two_way(np.array([[1.0, 2.0], [3.0, 6.0]])[:, :, None])
    np.testing.assert_allclose(np.ravel(found), [(9 - 1) / 2, (4 - 1) / 2, 1])


def test_components_are_unbiased():
    rng = np.random.default_rng(2)
    seeds, residual = 0.5 * TRAINING, 2 * SIMULATION
    found = []
    for _ in range(400):
        effects = drawn(rng, DATA, (4, 1)) + drawn(rng, seeds, (3,)) + drawn(rng, residual, (4, 3))
        found.append(two_way(effects))
    found = np.array(found)
    error = found.std(0) / np.sqrt(len(found))
    # The largest of 48 deviations: 4 standard errors are exceeded by chance once in 300.
    assert np.abs((found.mean(0) - [DATA, seeds, residual]) / error).max() < 4


def test_a_single_seed_leaves_the_covariance_of_the_replicas():
    values = np.random.default_rng(3).normal(size=(6, 1, 4))
    found = two_way(values)
    np.testing.assert_allclose(found.replicas, np.cov(values[:, 0], rowvar=False))
    assert not np.any([found.seeds, found.residual])


def test_budget_recovers_the_covariances(measurement):
    number, seeds = 1000, 2
    found = budget(measurement(number, seeds), 0)
    expected = {"data": DATA, "simulation": SIMULATION, "seeds": TRAINING / seeds}
    assert list(found.components) == list(expected)
    for source, matrix in expected.items():
        # A covariance of n Gaussians is good to √2 (variance + noise)/√n, the noise that of the mean over the seeds.
        noisy = np.diag(matrix + TRAINING / seeds)
        tolerance = 4 * np.sqrt(2 / number) * np.sqrt(np.outer(noisy, noisy))
        assert np.all(np.abs(found.components[source] - matrix) < tolerance), source
    np.testing.assert_allclose(found.total, sum(found.components.values()))
    np.testing.assert_allclose(np.diag(found.correlation), 1)


def test_central_value_and_error_of_more_seeds(measurement):
    binned = measurement(20, 4)
    found = budget(binned, 0)
    np.testing.assert_allclose(found.central, binned.nominal[:, 0].mean(0))
    parts = [np.diag(found.components[source]) for source in ("data", "simulation", "seeds")]
    width = single_training(binned, 0)
    np.testing.assert_allclose(width.variance, parts[0] + parts[1] + 4 * parts[2])
    # Of the replicas' means, which hold a quarter of a training's scatter.
    means = binned.stack("data")[:, :, 0].mean(1)
    np.testing.assert_allclose(width.parts.sum(1)[0], means.var(0, ddof=1))
    assert width.parts.shape == (2, 20, 4)


def test_components_are_covariance_matrices(measurement):
    # Of three replicas that hardly scatter, some variances are estimated below zero.
    binned = measurement(3, 2)
    estimate = two_way(binned.stack("simulation")[:, :, 0]).replicas
    found = budget(binned, 0).components["simulation"]
    assert np.diag(estimate).min() < 0
    np.testing.assert_allclose(np.diag(found), np.maximum(np.diag(estimate), 0), atol=1e-9)
    assert np.linalg.eigvalsh(found).min() > -1e-9


def test_another_simulation(measurement):
    rng, shift = np.random.default_rng(5), np.array([1.0, -2.0, 0.0, 30.0])
    plain = measurement(40, 2)
    others = {"systematic-tune-2": plain.nominal + shift}
    for number, values in enumerate(plain.stack("data"), start=1):
        others[f"systematic-tune-2-{number}"] = values + shift + rng.normal(0, 0.1, (2, 1, 1))
    binned = measurement(40, 2, **others)
    # A nominal simulation as large as the data; half as many events of the other.
    sizes = {"tune-2": np.stack([CENTRAL, 2 * CENTRAL])}
    found = budget(replace(binned, prior=Counts(CENTRAL, CENTRAL), others=sizes), 0)
    assert np.isnan(budget(binned, 0).shifts["tune-2"].error).all()
    np.testing.assert_allclose(found.shifts["tune-2"].value, shift)
    np.testing.assert_allclose(found.components["tune-2"], np.outer(shift, shift))
    np.testing.assert_allclose(found.total - found.statistical, np.outer(shift, shift), atol=1e-9)
    # The replicas are paired: what they have in common does not count, the statistics of both simulations do.
    simulation = (1 + 2) * np.diag(found.components["simulation"])
    paired = found.shifts["tune-2"].error ** 2 - simulation
    # The variance 0.1²/2 of the mean of two seeds, from 40 replicas: 4 √(2/39) of it.
    np.testing.assert_allclose(paired, 0.005, rtol=0.91)
    assert np.all(paired < np.diag(found.components["data"]) / 100)


def test_without_replicas(make_binned):
    values = CENTRAL + np.array([[[1.0, 0, 0, 0]], [[-1.0, 0, 0, 0]]])
    found = budget(make_binned({"nominal": values, "systematic-tune": values + 3}), 0)
    np.testing.assert_allclose(found.components["events"], np.diag(CENTRAL))
    np.testing.assert_allclose(found.components["seeds"], np.diag([1.0, 0, 0, 0]))
    np.testing.assert_allclose(found.shifts["tune"].value, 3)
    assert np.isnan(found.shifts["tune"].error).all()


def test_one_replica_is_none(measurement):
    with pytest.raises(HepgenError, match=r"unfolding\.replicas: .* 1 replica"):
        budget(measurement(1, 2), 0)
