"""Variations of the events: replicas of what was measured, and pseudo-data whose truth is known."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hepgen.config import Config
from hepgen.provenance import seed_for
from hepgen.unfolding.dataset import Level, Pairs, Problem
from hepgen.unfolding.ibu import ibu, response_matrix
from hepgen.unfolding.spectra import Spectrum
from hepgen.unfolding.variations import Variation

__all__ = ["Varied", "like_data", "of_mean_one", "stress", "vary"]

# How much the stress tests change the truth: from half to one and a half, and half as much again in a peak.
SLOPE, PEAK = 0.5, 0.5
# What toys are drawn from: the simulation, reweighted in bins of equal content to be more like the data, in moderation.
QUANTILES = np.linspace(0, 1, 21)[1:-1]
# Iterations: more would carry the data's noise into the truth of the toys, finer than any method could resolve.
LIKENESS = 1
MODERATE = (0.1, 10.0)


class Varied(NamedTuple):
    """A problem, and what its solution should be, where that is known.

    Attributes:
        problem: What a method may know.
        target: Weights of the simulated events, shape (n,), which make their truth that of the pseudo-data.
    """

    problem: Problem
    target: np.ndarray | None = None


def vary(config: Config, problem: Problem, variation: Variation, alternative: Pairs | None = None) -> Varied:
    """The events of a variation; the same for all methods and seeds.

    Args:
        config: The run, whose seed fixes the random numbers.
        problem: The events as they are; for ``systematic`` with the other simulation.
        variation: What to make of them.
        alternative: The simulation that ``alternative`` takes for data.
    """
    kind, number = variation.kind, variation.number
    # Another simulation unfolds the same replicas of the data.
    stream = "data" if kind == "systematic" else kind
    rng = np.random.default_rng(seed_for(config.seed, "unfolding", stream, number))
    if kind == "data" or (kind == "systematic" and number):
        return Varied(replace(problem, data=_drawn(problem.data, rng)))
    if kind == "simulation":
        return Varied(_redrawn(problem, rng))
    if kind == "alternative":
        return Varied(_measuring(problem, alternative, rng))
    if kind in ("closure", "linear", "bump"):
        return _halved(problem, kind, rng)
    return _toy(problem, rng) if kind == "toy" else Varied(problem)


def stress(simulation: Pairs, kind: str) -> np.ndarray:
    """Factors that change the truth of the simulation in its first observable, shape (n,).

    As many events pass at both levels as before, so that the share of fakes, which no method can tell, stays.

    Args:
        simulation: The pairs.
        kind: ``linear``, rising through the central 95 % of the events and constant beyond, or ``bump``, a Gaussian
            peak at the median.
    """
    x = simulation.truth[:, 0]
    known = simulation.true_weights > 0
    low, middle, high = np.quantile(x[known], [0.025, 0.5, 0.975])
    width = (high - low) or 1.0
    if kind == "linear":
        change = 1 + SLOPE * np.clip((2 * x - low - high) / width, -1, 1)
    else:
        change = 1 + PEAK * np.exp(-0.5 * ((x - middle) / (width / 16)) ** 2)
    return of_mean_one(change[simulation.pass_truth], simulation)


def of_mean_one(factors: np.ndarray, simulation: Pairs) -> np.ndarray:
    """Factors of the events that pass at particle level, scaled, and 1 for fakes, shape (n,).

    Their weighted mean over the events that pass at both levels is one.
    """
    both, scaled = simulation.true_weights * simulation.pass_reco, np.ones(len(simulation.weights))
    scaled[simulation.pass_truth] = factors
    scaled[simulation.pass_truth] *= both.sum() / (both * scaled).sum()
    return scaled


def _halved(problem: Problem, kind: str, rng: np.random.Generator) -> Varied:
    """One half of the simulation as data, its truth changed or not, and the other half to learn from."""
    simulation = problem.simulation
    half = rng.random(len(simulation.weights)) < 0.5
    change = 1.0 if kind == "closure" else stress(simulation, kind)
    target = simulation.weights * half * change
    target *= problem.signal / (target * simulation.pass_reco).sum()
    learnt = replace(problem, simulation=simulation._replace(weights=simulation.weights * ~half))
    pseudo = _measuring(learnt, simulation._replace(weights=target), rng)
    return Varied(pseudo, target * simulation.pass_truth)


def _measuring(problem: Problem, pairs: Pairs, rng: np.random.Generator) -> Problem:
    """The problem with simulated events as data, in the data's yield and on top of the background.

    What the data hold of the background and what is known of it are drawn independently.
    """
    seen = pairs.seen.rows(pairs.seen.weights > 0)
    seen = seen._replace(weights=seen.weights * (problem.signal / seen.weights.sum()))
    there, known = _poisson(problem.background, problem.data, rng), _drawn(problem.background, rng)
    return Problem(problem.simulation, Level.join([seen, there]), known)


def _toy(problem: Problem, rng: np.random.Generator) -> Varied:
    """A pseudo-experiment: data drawn from a population that is like the data, and a simulation drawn anew.

    Both are drawn from the same events, independently: the response fluctuates in either, as if they were two samples.
    """
    simulation = problem.simulation
    population = simulation.weights * like_data(problem)
    population *= problem.signal / (population * simulation.pass_reco).sum()
    expected = Level.join([simulation._replace(weights=population).seen, problem.background])
    data = _poisson(expected, problem.data, rng)
    return Varied(_redrawn(Problem(simulation, data, problem.background), rng), population * simulation.pass_truth)


def like_data(problem: Problem) -> np.ndarray:
    """Factors, a function of the truth, that bring the simulation nearer to the data at detector level, shape (n,).

    Every observable is unfolded in bins, on top of those before it. How close they come changes no truth of
    the toys, which is known, but the bias that they show: it grows with the distance from the prior.
    """
    simulation, factors = problem.simulation, np.ones(len(problem.simulation.weights))
    passed = {"pass_truth": simulation.pass_truth, "pass_reco": simulation.pass_reco}
    for column in range(simulation.truth.shape[1]):
        true, seen = (
            np.unique(np.quantile(values[mask, column], QUANTILES))
            for values, mask in zip((simulation.truth, simulation.reco), passed.values(), strict=True)
        )
        spectrum = Spectrum("quantiles", ("",), (column,), (true,), (seen,))
        size = spectrum.size("reco"), spectrum.size("truth")
        causes, effects = spectrum.cells(simulation.truth, "truth"), spectrum.cells(simulation.reco, "reco")
        response = response_matrix(causes, effects, simulation.weights * factors, size, **passed)
        measured = np.maximum(problem.measured(spectrum).values, 0)
        unfolded = ibu(measured, *response, iterations=LIKENESS).unfolded[-1]
        ratio = np.divide(unfolded, response.prior, out=np.ones_like(unfolded), where=response.prior > 0)
        factors = of_mean_one((factors * ratio[causes])[simulation.pass_truth], simulation)
    return of_mean_one(np.clip(factors, *MODERATE)[simulation.pass_truth], simulation)


def _redrawn(problem: Problem, rng: np.random.Generator) -> Problem:
    """The problem with a Poisson bootstrap of all that is simulated."""
    weights = problem.simulation.weights
    simulation = problem.simulation._replace(weights=weights * rng.poisson(1, len(weights)))
    return Problem(simulation, problem.data, _drawn(problem.background, rng))


def _poisson(expected: Level, data: Level, rng: np.random.Generator) -> Level:
    """Poisson numbers of expected events, all of the weight at which the data are worth as many events as they are."""
    unit = np.square(data.weights).sum() / data.weights.sum()
    counts = rng.poisson(expected.weights / unit)
    return expected._replace(weights=counts * unit).rows(counts > 0)


def _drawn(level: Level, rng: np.random.Generator) -> Level:
    """A Poisson bootstrap of events."""
    counts = rng.poisson(1, len(level.weights))
    return level._replace(weights=level.weights * counts).rows(counts > 0)
