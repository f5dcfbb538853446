import json

import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.unfolding.ibu import ibu, response_matrix, simulation_covariance
from hepgen.unfolding.spectra import Spectrum

JEFFREYS = [0.75, 0.25]  # 1/x at 0.5 and 1.5, of unit sum


@pytest.fixture(params=["example1", "example2", "example3"])
def golden(request, reference):
    example = json.loads((reference / "unfolding/ibu_golden.json").read_text())[request.param]
    inputs = {key: np.array(v, dtype=float) for key, v in example["inputs"].items() if not isinstance(v, str)}
    arguments = {
        "data": inputs["data"],
        "response": inputs["response"],
        "prior": inputs.get("prior", np.array(JEFFREYS)),
        "efficiency": inputs["efficiencies"],
        "data_variance": inputs["data_err"] ** 2,
        "iterations": len(example["iterations"]),
    }
    return arguments, example["iterations"]


def test_every_iteration_equals_pyunfold(golden):
    arguments, iterations = golden
    result = ibu(**arguments)
    np.testing.assert_allclose(result.unfolded, [step["unfolded"] for step in iterations], rtol=0, atol=1e-6)


def test_first_statistical_errors_equal_pyunfold(golden):
    # Only the first: PyUnfold 0.5 multiplies Adye's later terms in the wrong order, so that its derivatives
    # differ from the numerical ones; see test_covariance_follows_numerical_derivatives.
    arguments, iterations = golden
    errors = np.sqrt(np.diag(ibu(**arguments).covariance[0]))
    np.testing.assert_allclose(errors, iterations[0]["stat_err"], rtol=1e-10)


def test_covariance_follows_numerical_derivatives(golden):
    arguments, _ = golden
    data, step = arguments["data"], 1e-3
    prior = data.sum() * arguments["prior"]

    def shifted(shift):
        # The prior's scale cancels; it is fixed here all the same.
        return ibu(**{**arguments, "data": data + shift, "prior": prior}).unfolded

    jacobian = np.array([(shifted(h) - shifted(-h)) / (2 * step) for h in step * np.eye(len(data))])
    expected = np.einsum("ekc,e,ekd->kcd", jacobian, arguments["data_variance"], jacobian)
    # Central differences of step 1e-3 on contents of 100 are good to 1e-9.
    np.testing.assert_allclose(ibu(**arguments).covariance, expected, rtol=1e-6, atol=1e-6)


def pairs(n, rng, mean=0.0, width=1.0):
    truth = rng.normal(mean, width, n)
    return truth, truth + rng.normal(0, 0.5, n)


EDGES = np.linspace(-2, 2, 9)
BINS = len(EDGES) + 1


def bins_of(*levels):
    return [np.searchsorted(EDGES, x, "right") for x in levels]


def test_response_columns_add_up_to_the_efficiency():
    rng = np.random.default_rng(1)
    causes, effects = bins_of(*pairs(20_000, rng))
    weights, seen = rng.random(20_000), rng.random(20_000) < 0.7
    response, prior, _ = response_matrix(causes, effects, weights, BINS, pass_reco=seen)
    np.testing.assert_allclose(response.sum(0) * prior, np.bincount(causes, weights * seen, BINS), rtol=1e-12)
    full = response_matrix(causes, effects, weights, BINS)
    np.testing.assert_allclose(full.matrix.sum(0), 1, rtol=1e-12)


def test_folded_prior_unfolds_to_the_prior():
    causes, effects = bins_of(*pairs(20_000, np.random.default_rng(2)))
    response, prior, _ = response_matrix(causes, effects, np.ones(20_000), BINS)
    result = ibu(response @ prior, response, prior, iterations=4)
    np.testing.assert_allclose(result.unfolded, np.tile(prior, (4, 1)), rtol=1e-12)
    np.testing.assert_allclose(result.refolded, np.tile(response @ prior, (4, 1)), rtol=1e-12)


def test_efficiency_is_corrected_for():
    rng = np.random.default_rng(3)
    causes, effects = bins_of(*pairs(50_000, rng))
    seen = rng.random(50_000) < np.where(causes < BINS / 2, 0.4, 0.9)
    response, prior, _ = response_matrix(causes, effects, np.ones(50_000), BINS, pass_reco=seen)
    data = np.bincount(effects[seen], minlength=BINS).astype(float)
    np.testing.assert_allclose(ibu(data, response, prior, iterations=3).unfolded[-1], prior, rtol=1e-12)


def test_fakes_are_taken_from_the_data():
    """Data that are the simulation itself unfold to its truth, whatever is missed and faked."""
    rng = np.random.default_rng(7)
    causes, effects = bins_of(*pairs(50_000, rng))
    true, seen = rng.random(50_000) < np.where(effects < BINS / 2, 0.6, 0.95), rng.random(50_000) < 0.8
    response = response_matrix(causes, effects, np.ones(50_000), BINS, pass_truth=true, pass_reco=seen)
    np.testing.assert_allclose(
        response.purity * np.bincount(effects[seen], minlength=BINS), np.bincount(effects[seen & true], minlength=BINS)
    )
    data = np.bincount(effects[seen], minlength=BINS).astype(float)
    result = ibu(data, *response, iterations=3)
    np.testing.assert_allclose(result.unfolded[-1], np.bincount(causes[true], minlength=BINS), rtol=1e-12)
    # The prediction at detector level includes the fakes, as the data do.
    np.testing.assert_allclose(result.refolded[-1], data, rtol=1e-12)
    doubled = ibu(data, response.matrix, response.prior, 2 * response.purity, iterations=3)
    np.testing.assert_allclose(doubled.covariance, 4 * result.covariance, rtol=1e-9)


@pytest.mark.parametrize("dimensions", [1, 2])
def test_any_bins_at_either_level(dimensions):
    """The simulation itself unfolds to its truth in one or two dimensions, with misses, fakes and weights.

    Detector-level bins are finer, as many, and fewer.
    """
    rng = np.random.default_rng(8)
    truth = rng.normal(size=(60_000, 2))
    reco, weights = truth + rng.normal(0, 0.4, truth.shape), rng.uniform(0.5, 1.5, len(truth))
    passed = {"pass_truth": rng.random(len(truth)) < 0.9, "pass_reco": rng.random(len(truth)) < 0.8}
    names, columns = ("x", "y")[:dimensions], (0, 1)[:dimensions]
    edges = (np.linspace(-2, 2, 7), np.array([-2.0, -0.5, 0.5, 2]))[:dimensions]
    for bins in (13, 7, 5):
        seen = (np.linspace(-2.2, 2.2, bins), np.linspace(-2, 2, bins))[:dimensions]
        spectrum = Spectrum("s", names, columns, edges, seen)
        size = spectrum.size("reco"), spectrum.size("truth")
        causes, effects = spectrum.cells(truth, "truth"), spectrum.cells(reco, "reco")
        response = response_matrix(causes, effects, weights, size, **passed)
        assert response.matrix.shape == size
        data = np.bincount(effects, weights * passed["pass_reco"], size[0])
        expected = np.bincount(causes, weights * passed["pass_truth"], size[1])
        np.testing.assert_allclose(ibu(data, *response, iterations=4).unfolded, np.tile(expected, (4, 1)), rtol=1e-9)
        tilted = np.where(truth[:, 0] > 0, 1.2, 0.8)
        data = np.bincount(effects, weights * tilted * passed["pass_reco"], size[0])
        goal = np.bincount(causes, weights * tilted * passed["pass_truth"], size[1])
        found = ibu(data, *response, iterations=8).unfolded[-1]
        # The fakes are tilted too, by nothing that the purity knows of bin by bin.
        assert np.abs(found - goal).sum() < 0.35 * np.abs(expected - goal).sum()


def test_bins_without_simulation_are_pure():
    both = np.array([True, True])
    response = response_matrix(np.array([1, 1]), np.array([1, 2]), np.ones(2), 4, pass_truth=both, pass_reco=both)
    assert response.purity.tolist() == [1, 1, 1, 1]


def test_unfolding_approaches_the_truth():
    rng = np.random.default_rng(4)
    causes, effects = bins_of(*pairs(50_000, rng))
    truth, data = (np.bincount(b, minlength=BINS).astype(float) for b in bins_of(*pairs(50_000, rng, 0.2, 0.9)))
    response, prior, _ = response_matrix(causes, effects, np.ones(50_000), BINS)
    result = ibu(data, response, prior, iterations=4)
    error = np.abs(result.unfolded[-1] - truth).sum()
    assert error < 0.3 * np.abs(prior - truth).sum()
    assert error < 0.3 * np.abs(data - truth).sum()
    # The total is kept: with the flows every event is seen.
    assert result.unfolded[-1].sum() == pytest.approx(50_000)


def test_statistical_closure_of_toys():
    """Pulls of toys drawn from the folded spectrum have the width that the covariance claims."""
    rng = np.random.default_rng(5)
    causes, effects = bins_of(*pairs(100_000, rng))
    response, prior, _ = response_matrix(causes, effects, np.ones(100_000), BINS)
    truth = prior / 50
    toys = [ibu(rng.poisson(response @ truth).astype(float), response, prior, iterations=3) for _ in range(400)]
    pulls = np.array([(t.unfolded[-1] - truth) / np.sqrt(np.diag(t.covariance[-1])) for t in toys])
    # Of 10 bins × 400 toys, mean and width are known to 0.02 or better, bins being correlated; 1.5 % of bias is left.
    assert np.abs(pulls.mean()) < 0.1
    assert pulls.std() == pytest.approx(1, abs=0.07)
    assert np.mean(np.abs(pulls) < 1) == pytest.approx(0.683, abs=0.03)


def test_simulation_covariance_shrinks_with_the_simulation():
    rng = np.random.default_rng(6)
    data = np.bincount(bins_of(pairs(5000, rng)[1])[0], minlength=BINS).astype(float)
    sizes = {}
    for n in (2000, 32_000):
        causes, effects = bins_of(*pairs(n, rng))
        covariance = simulation_covariance(causes, effects, np.ones(n), data, BINS, iterations=2, replicas=100, seed=1)
        assert covariance.shape == (2, BINS, BINS)
        sizes[n] = np.trace(covariance[-1])
    # Variances go as 1/n: a factor of 16, known to 20 % with 100 replicas.
    assert 9 < sizes[2000] / sizes[32_000] < 27


def test_unreachable_bins_do_no_harm():
    response = np.array([[0.9, 0.0], [0.1, 0.0]])
    result = ibu(np.array([50.0, 5.0]), response, np.array([1.0, 0.0]), iterations=3)
    np.testing.assert_allclose(result.unfolded[-1], [55, 0])
    assert np.isfinite(result.covariance).all()


@pytest.mark.parametrize(("data", "prior", "what"), [([0, 0], [1, 1], "data"), ([1, 1], [0, 0], "prior")])
def test_nothing_to_unfold(data, prior, what):
    with pytest.raises(HepgenError, match=f"the {what} have no events"):
        ibu(np.array(data, float), np.eye(2), np.array(prior, float), iterations=1)
