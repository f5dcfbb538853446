"""Neural empirical Bayes: the truth's density by maximum likelihood of the data, and every event's posterior."""

import copy
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import StudentT

from hepgen.config import UnfoldingMethod
from hepgen.models.layers import dense, weighted_mean
from hepgen.preprocessing import Standard, Support
from hepgen.provenance import seed_for
from hepgen.training import pick_device, train
from hepgen.unfolding.dataset import Level, Problem
from hepgen.unfolding.flows import columns, fit, genuine_data, log_density, make_flow, nothing
from hepgen.unfolding.pseudodata import of_mean_one
from hepgen.unfolding.reweighting import LOGIT_LIMIT, Outcome, report

__all__ = ["NeuralBayes", "Posterior", "Proposal", "learn", "maximise", "neural_bayes"]

# Truths that an integral over the truth of an event is estimated from.
CANDIDATES = 8
# Learning rate of the density on its way to the data, relative to that of its training: it has an optimum to leave.
PACE = 0.15
# Events whose effective candidates are reported.
REPORTED = 2000
# Draws within the cells of whole numbers and atoms that a density there is the mean of.
WITHIN = 4


class Posterior(NamedTuple):
    """Possible truths of n measured events.

    Attributes:
        truth: k candidates of each, shape (n, k, d).
        weights: Their probabilities, which add up to one, shape (n, k).
        effective: How many independent draws they are worth, 1/Σ weights², shape (n,).
    """

    truth: np.ndarray
    weights: np.ndarray
    effective: np.ndarray


class Proposal(nn.Module):
    """A simple density of events for given conditions, to draw candidates from: Student's t, sheared and shifted.

    Args:
        features: d.
        conditions: k.
        hidden: Width of the two layers that predict location, scales and shears.
        freedom: Degrees of freedom; tails wider than the normal distribution's bound the weights of candidates.
    """

    def __init__(self, features: int, conditions: int, *, hidden: int = 64, freedom: float = 8.0) -> None:
        super().__init__()
        self.features = features
        self.unit = StudentT(freedom)
        self.network = nn.Sequential(*dense([conditions, hidden, hidden, features * (features + 3) // 2]))
        nn.init.zeros_(self.network[-1].weight)
        nn.init.zeros_(self.network[-1].bias)

    def loss(self, x: Tensor, c: Tensor, weight: Tensor | None = None) -> Tensor:
        """Weighted mean of the negative log-likelihood, a scalar."""
        location, scale, log_volume = self._map(c)
        unit = torch.linalg.solve_triangular(scale, (x - location)[..., None], upper=False).squeeze(-1)
        return weighted_mean(log_volume - self.unit.log_prob(unit).sum(-1), weight)

    @torch.no_grad()
    def draw(self, c: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Candidates for conditions of shape (n, k): shape (n, number, d), and their log-density, (n, number)."""
        location, scale, log_volume = self._map(c)
        unit = self.unit.sample((len(c), number, self.features)).to(c)
        return location[:, None] + unit @ scale.mT, self.unit.log_prob(unit).sum(-1) - log_volume[:, None]

    def _map(self, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Location (n, d), triangular matrix (n, d, d) and the log of its determinant (n,)."""
        d = self.features
        location, log_scale, shear = self.network(c).split([d, d, d * (d - 1) // 2], dim=1)
        row, column = torch.tril_indices(d, d, -1, device=c.device)
        scale = torch.diag_embed(log_scale.exp())
        scale[:, row, column] = shear
        return location, scale, log_scale.sum(1)


class NeuralBayes(nn.Module):
    """What is known of a measurement: p(reco | truth), the truth's density, and a proposal for the truth of an event.

    Densities are those of preprocessed events: truth z, of which p(reco | truth) sees the standardised observables, and
    reco y.

    Args:
        settings: The flow.
        truth: Preprocessing of the truth, fitted.
        reco: Preprocessing of the detector level, fitted.
        told: Standardisation of the truth, fitted.
        device: Where the flows are.
        seed: Fixes the weights that they start from.
    """

    def __init__(
        self,
        settings: UnfoldingMethod,
        truth: Support,
        reco: Support,
        told: Standard,
        device: torch.device,
        seed: int,
    ) -> None:
        super().__init__()
        self.truth, self.reco, self.told = truth, reco, told
        features = len(truth.shift)
        self.response = make_flow(settings, features, features, device, seed_for(seed, "response"))
        self.density = make_flow(settings, features, 0, device, seed_for(seed, "density"))
        self.proposal = Proposal(features, features).to(device)

    def candidates(self, y: Tensor, number: int) -> tuple[Tensor, Tensor]:
        """Candidates for the truth of n events and all of their weights that does not depend on the truth's density.

        Args:
            y: Preprocessed events, shape (n, d).
            number: k, how many of each event.

        Returns:
            z, shape (n, k, d), and log p(y | z) − log r(z | y) with the proposal r, shape (n, k).
        """
        device = next(self.response.parameters()).device
        z, log_proposed = (part.cpu() for part in self.proposal.draw(y.to(device), number))
        log_response = self.log_response(y.repeat_interleave(number, 0), z.flatten(0, 1))
        return z, log_response.unflatten(0, (-1, number)) - log_proposed

    def log_response(self, y: Tensor, z: Tensor) -> Tensor:
        """log p(y | z), shape (n,)."""
        return log_density(self.response, y, self.told(self.truth.inverse(z)))

    def log_density(self, z: Tensor) -> Tensor:
        """log q(z), shape (n,)."""
        return log_density(self.density, z, nothing(self.density, len(z)))

    def posterior(self, reco: np.ndarray, *, candidates: int = CANDIDATES, seed: int = 0) -> Posterior:
        """Possible truths of events, sampled by importance.

        Args:
            reco: Observables of measured events, shape (n, d).
            candidates: k, how many truths of each.
            seed: Fixes them.
        """
        torch.manual_seed(seed)
        z, known = self.candidates(self.reco(torch.from_numpy(reco)), candidates)
        log_weights = known + self.log_density(z.flatten(0, 1)).view_as(known)
        weights = log_weights.double().softmax(1)
        truth = self.truth.inverse(z.flatten(0, 1)).view_as(z)
        return Posterior(truth.numpy(), weights.numpy(), (1 / weights.square().sum(1)).numpy())


class _Evidence(nn.Module):
    """The log-likelihood of data as a loss of the truth's density, by the same candidates throughout."""

    def __init__(self, density: nn.Module) -> None:
        super().__init__()
        self.density = density

    def loss(self, z: Tensor, known: Tensor, weight: Tensor) -> Tensor:
        """Weighted mean of −log Σ exp(known + log q(z)), a scalar.

        Args:
            z: Candidates, shape (n, k, d).
            known: See `NeuralBayes.candidates`, shape (n, k).
            weight: Event weights with a mean of one, shape (n,).
        """
        flat = z.flatten(0, 1)
        log_density = self.density.log_prob(flat, nothing(self.density, len(flat)).to(z)).view_as(known)
        return weighted_mean(-(known + log_density).logsumexp(1), weight)


def neural_bayes(
    problem: Problem, settings: UnfoldingMethod, observables: Sequence[str] = (), *, seed: int, device: str = "auto"
) -> Outcome:
    """Unfold data to particle level.

    One flow learns p(reco | truth) and another the truth's density q₀, both from the pairs that pass at both levels.
    Then the second one, from q₀ on, maximises the likelihood of the data, Σ log ∫ p(y | x) q(x) dx, and an iteration is
    one pass over the data: to end early is to regularise. A copy of q₀ does the same for the simulation's own reco, and
    ν(t) is the ratio of the two: what the flows cannot describe cancels where data and simulation agree and is reduced
    elsewhere, how they drift cancels for samples of equal size. As the efficiency depends on the truth only, misses
    have the same ν(t). Fakes and background are taken from the data, see `genuine_data`.

    Other than the authors, who draw a thousand truths from q for an event and step, this estimates an event's integral
    by importance sampling with few candidates, drawn once from a proposal that has learnt where the truth of such an
    event is: p(y | x) is evaluated once, and no more than q depends on what is learnt.

    References:
        Vandegar, Kagan, Wehenkel, Louppe, "Neural empirical Bayes: source distribution estimation and its applications
        to simulation-based inference", 2020, arXiv:2011.05836.

    Args:
        problem: The samples.
        settings: The flows, their training and the number of iterations.
        observables: Names of the d observables, whose bounds the flows keep.
        seed: Fixes every random number.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        The weights, with ``clamped``, densities' ratios of each iteration that were cut off, ``clipped``, data events
        that no genuine share was left of, and ``effective``, how many independent draws the candidates of an event are
        worth on average.
    """
    simulation, true = problem.simulation, problem.simulation.pass_truth
    data, clipped = genuine_data(problem, seed=seed_for(seed, "genuine"))
    known = learn(problem, data, settings, observables, seed=seed, device=device)
    simulated = simulation.rows(true).seen
    own, within = copy.deepcopy(known), _Within(known.truth, simulation.truth[true])
    steps = maximise(known, data, settings, seed=seed), maximise(own, simulated, settings, seed=seed)
    weights, about = [], []
    for iteration, (effective, _) in enumerate(zip(*steps, strict=True), 1):
        change = within.log_density(known) - within.log_density(own)
        nu = of_mean_one(change.clip(-LOGIT_LIMIT, LOGIT_LIMIT).exp().numpy(), simulation)
        weights.append(nu)
        about.append((int((change.abs() > LOGIT_LIMIT).sum()), clipped, effective))
        more = f"{about[-1][0]} clamped  effective candidates {effective:.1f} of {CANDIDATES}"
        report(f"neural Bayes: iteration {iteration}/{settings.iterations}", nu[true], more)
    columns = (np.array(column) for column in zip(*about, strict=True))
    return Outcome(np.stack(weights), dict(zip(("clamped", "clipped", "effective"), columns, strict=True)))


def learn(
    problem: Problem, data: Level, settings: UnfoldingMethod, observables: Sequence[str], *, seed: int, device: str
) -> NeuralBayes:
    """What the simulation knows: the flows trained, the truth's density still its own."""
    simulation = problem.simulation
    pairs = simulation.rows(simulation.pass_truth & simulation.pass_reco & (simulation.weights > 0))
    told = Standard(pairs.truth.shape[1]).fit(torch.from_numpy(pairs.truth))
    truth = columns(observables, pairs.truth)
    reco = columns(observables, np.concatenate([pairs.reco, data.values]))
    known = NeuralBayes(settings, truth, reco, told, pick_device(device), seed)
    z, y = truth(torch.from_numpy(pairs.truth)), reco(torch.from_numpy(pairs.reco))
    for name, x, c in (
        ("response", y, told(torch.from_numpy(pairs.truth))),
        ("density", z, nothing(known.density, len(z))),
        ("proposal", z, y),
    ):
        about = {"seed": seed_for(seed, name, "training"), "name": f"neural Bayes, {name}"}
        fit(getattr(known, name), x, c, pairs.weights, settings.training, **about)
    return known


def maximise(known: NeuralBayes, data: Level, settings: UnfoldingMethod, *, seed: int) -> Iterator[float]:
    """Move the truth's density to the data, one pass over them in each step.

    Every pass has the learning rate's whole schedule, so that it does not depend on how many follow.

    Args:
        known: What the simulation knows; its density is changed.
        data: Genuine events.
        settings: The training and the number of iterations.
        seed: Fixes the candidates and the order of the batches.

    Yields:
        How many independent draws the candidates of an event are worth on average.
    """
    torch.manual_seed(seed_for(seed, "candidates"))
    z, weights = known.candidates(known.reco(torch.from_numpy(data.values)), CANDIDATES)
    arrays = (z, weights, torch.from_numpy(data.weights / data.weights.mean()).float())
    pace = PACE * settings.training.learning_rate
    training = settings.training.model_copy(update={"epochs": 1, "patience": None, "learning_rate": pace})
    for iteration in range(settings.iterations):
        seed_now = seed_for(seed, "evidence", iteration)
        train(_Evidence(known.density), arrays, settings=training, seed=seed_now, name="neural Bayes", verbose=False)
        log_weights = weights[:REPORTED] + known.log_density(z[:REPORTED].flatten(0, 1)).view(-1, CANDIDATES)
        yield float((1 / log_weights.softmax(1).square().sum(1)).mean())


class _Within:
    """Densities of the truth of n events, shape (n, d), as means over the cells of whole numbers and atoms."""

    def __init__(self, scaler: Support, truth: np.ndarray) -> None:
        cells = bool(scaler.whole.any() or scaler.atom[0].isfinite().any())
        self.draws = WITHIN if cells else 1
        # Equal truths have the same draws, so that they have the same weight.
        different, where = np.unique(truth, axis=0, return_inverse=True)
        self.where = torch.from_numpy(where.ravel())
        values = torch.from_numpy(different).repeat(self.draws, 1)
        self.z = scaler(values)
        # From z to where the draws within a cell are uniform.
        self.log_jacobian = scaler.log_jacobian(values)

    def log_density(self, known: NeuralBayes) -> Tensor:
        """Logarithms, up to what does not depend on the density, shape (n,)."""
        log_density = known.log_density(self.z) + self.log_jacobian
        return log_density.view(self.draws, -1).logsumexp(0)[self.where]
