"""Variations of the events: replicas of what was measured, and pseudo-data whose truth is known."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from hepgen.config import Config
from hepgen.provenance import seed_for
from hepgen.unfolding.dataset import Level, Pairs, Problem
from hepgen.unfolding.variations import Variation

__all__ = ["Varied", "stress", "vary"]

# How much the stress tests change the truth: from half to one and a half, and half as much again in a peak.
SLOPE, PEAK = 0.5, 0.5
# Ratios of pseudo-data that are like the data to the simulation.
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
    rng = np.random.default_rng(seed_for(config.seed, "unfolding", kind, number))
    if kind == "data" or (kind == "systematic" and number):
        same = np.random.default_rng(seed_for(config.seed, "unfolding", "data", number))
        return Varied(replace(problem, data=_drawn(problem.data, same)))
    if kind == "simulation":
        return Varied(_redrawn(problem, rng))
    if kind == "alternative":
        return Varied(_measuring(problem, alternative, alternative.weights))
    if kind in ("closure", "linear", "bump"):
        half = rng.random(len(problem.simulation.weights)) < 0.5
        change = stress(problem.simulation, kind) if kind != "closure" else 1.0
        target = problem.simulation.weights * half * change
        pseudo = _measuring(problem, problem.simulation, target)
        learnt = problem.simulation._replace(weights=problem.simulation.weights * ~half)
        target *= problem.signal / (target * problem.simulation.pass_reco).sum()
        return Varied(Problem(learnt, pseudo.data, problem.background), target * problem.simulation.pass_truth)
    if kind == "toy":
        return _toy(config, problem, rng)
    return Varied(problem)


def stress(simulation: Pairs, kind: str) -> np.ndarray:
    """Factors that change the truth of the simulation in its first observable, shape (n,); 1 for fakes.

    Args:
        simulation: The pairs.
        kind: ``linear``, rising through the central 95 % of the events and constant beyond, or ``bump``, a Gaussian
            peak at the median.
    """
    x = simulation.truth[:, 0]
    known = simulation.true_weights > 0
    low, middle, high = np.quantile(x[known], [0.025, 0.5, 0.975])
    if kind == "linear":
        change = 1 + SLOPE * np.clip((2 * x - low - high) / (high - low), -1, 1)
    else:
        change = 1 + PEAK * np.exp(-0.5 * ((x - middle) / ((high - low) / 16)) ** 2)
    return np.where(simulation.pass_truth, change, 1.0)


def _measuring(problem: Problem, pairs: Pairs, weights: np.ndarray) -> Problem:
    """The problem with simulated events as data, in the data's yield and on top of the same background."""
    seen = pairs._replace(weights=weights).seen
    seen = seen._replace(weights=seen.weights * (problem.signal / seen.weights.sum()))
    kept = seen.rows(seen.weights > 0)
    return Problem(problem.simulation, Level.join([kept, problem.background]), problem.background)


def _toy(config: Config, problem: Problem, rng: np.random.Generator) -> Varied:
    """A pseudo-experiment: data drawn from a population that is like the data, and a simulation drawn anew.

    Both are drawn from the same events, independently: the response fluctuates in either, as if they were two samples.
    """
    simulation = problem.simulation
    population = simulation.weights * like_data(problem, seed_for(config.seed, "unfolding", "population"))
    population *= problem.signal / (population * simulation.pass_reco).sum()
    expected = Level.join([simulation._replace(weights=population).seen, problem.background])
    # As many events as the data are worth, each of the data's mean weight.
    size = problem.data.weights.sum() ** 2 / np.square(problem.data.weights).sum()
    unit = problem.data.weights.sum() / size
    counts = rng.poisson(expected.weights / unit)
    data = expected._replace(weights=counts * unit).rows(counts > 0)
    return Varied(_redrawn(Problem(simulation, data, problem.background), rng), population * simulation.pass_truth)


def like_data(problem: Problem, seed: int) -> np.ndarray:
    """Factors, a function of the truth, that bring the simulation near the data at detector level, shape (n,).

    One iteration of OmniFold; how close they come does not matter, as the truth that they make is known.
    """
    from hepgen.unfolding.omnifold import Reweighter, omnifold  # torch, which most variations do without

    return np.clip(omnifold(problem, iterations=1, reweighter=Reweighter(), seed=seed).weights[-1], *MODERATE)


def _redrawn(problem: Problem, rng: np.random.Generator) -> Problem:
    """The problem with a Poisson bootstrap of all that is simulated."""
    weights = problem.simulation.weights
    simulation = problem.simulation._replace(weights=weights * rng.poisson(1, len(weights)))
    return Problem(simulation, problem.data, _drawn(problem.background, rng))


def _drawn(level: Level, rng: np.random.Generator) -> Level:
    """A Poisson bootstrap of events."""
    counts = rng.poisson(1, len(level.weights))
    return level._replace(weights=level.weights * counts).rows(counts > 0)
