import numpy as np
import pytest
import torch

from hepgen.config import Training, UnfoldingMethod
from hepgen.unfolding.dataset import Level, Pairs, Problem
from hepgen.unfolding.neural_bayes import Proposal, learn, neural_bayes

METHOD = UnfoldingMethod(
    type="neural_bayes",
    iterations=4,
    settings={"hidden": 16, "layers": 2, "blocks": 1, "bins": 4},
    training=Training(epochs=5, batch_size=100, learning_rate=1e-2),
)
N = 2000


def make_problem(make, *, missed=0.0):
    """Pairs of truth and reco of the simulation, and the reco of other events as data."""
    rng = np.random.default_rng(1)
    (truth, reco), (_, data) = make(rng, 0.0, 1.0), make(rng, 0.3, 0.8)
    everything = np.ones(N, bool)
    pairs = Pairs(truth, reco, np.ones(N), everything, rng.random(N) >= missed)
    return Problem(pairs, Level(data, np.ones(N)), Level(data[:0], np.ones(0)))


def gaussian(rng, mean, width):
    truth = rng.normal(mean, width, (N, 1))
    return truth, truth + rng.normal(0, 0.5, (N, 1))


def counted(rng, mean, width):
    truth, reco = gaussian(rng, mean, width)
    numbers = rng.poisson(np.exp(1 + 0.2 * truth))
    return np.hstack([truth, numbers]), np.hstack([reco, numbers + rng.integers(0, 2, (N, 1))])


def test_mean_and_width_are_unfolded():
    problem = make_problem(gaussian, missed=0.1)
    outcome = neural_bayes(problem, METHOD, seed=1, device="cpu")
    truth, nu = problem.simulation.truth[:, 0], outcome.weights[-1]
    mean = np.average(truth, weights=nu)
    # 2000 smeared events on either side fix both to 0.03; twice that, for the networks. The width comes last.
    assert mean == pytest.approx(0.3, abs=0.06)
    assert 0.74 < np.sqrt(np.average((truth - mean) ** 2, weights=nu)) < 0.9
    assert outcome.weights[:, problem.simulation.pass_reco].mean(1) == pytest.approx(np.ones(4))
    assert {name: len(values) for name, values in outcome.about.items()} == dict.fromkeys(
        ("clamped", "clipped", "effective"), 4
    )


def test_equal_truths_have_equal_weights():
    problem = make_problem(counted)
    rounded = problem.simulation._replace(truth=problem.simulation.truth.round())
    short = METHOD.training.model_copy(update={"epochs": 1, "batch_size": 500})
    method = METHOD.model_copy(update={"iterations": 1, "training": short})
    outcome = neural_bayes(Problem(rounded, problem.data, problem.background), method, seed=1, device="cpu")
    _, where, counts = np.unique(rounded.truth, axis=0, return_inverse=True, return_counts=True)
    assert counts.max() > 100
    for cell in np.flatnonzero(counts > 1)[:20]:
        assert np.ptp(outcome.weights[0, where.ravel() == cell]) == 0
    assert 2 < outcome.about["effective"][0] <= 8


def test_posterior_of_a_gaussian_is_known():
    problem = make_problem(gaussian)
    known = learn(problem, problem.data, METHOD, ["alpha"], seed=1, device="cpu")
    reco = np.linspace(-1.5, 1.5, 7)[:, None]
    posterior = known.posterior(reco, candidates=200, seed=1)
    mean = (posterior.weights * posterior.truth[..., 0]).sum(1)
    spread = np.sqrt((posterior.weights * (posterior.truth[..., 0] - mean[:, None]) ** 2).sum(1))
    assert posterior.truth.shape == (7, 200, 1)
    assert posterior.weights.sum(1) == pytest.approx(np.ones(7))
    assert ((posterior.effective > 100) & (posterior.effective <= 200)).all()
    # Prior variance 1 and noise variance 1/4; 200 candidates fix a mean to 0.04, the rest is for the flows.
    assert mean == pytest.approx(0.8 * reco[:, 0], abs=0.12)
    assert spread == pytest.approx(np.full(7, 0.2**0.5), abs=0.1)


def test_proposal_is_the_density_that_it_draws_from():
    torch.manual_seed(1)
    proposal = Proposal(2, 1)
    for parameter in proposal.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    c = torch.tensor([[0.5]])
    z, log_density = proposal.draw(c, 5)
    found = torch.stack([-proposal.loss(event[None], c) for event in z[0]])
    assert torch.allclose(found, log_density[0], atol=1e-4)
