"""OmniFold: unbinned unfolding of all observables at once by iterated reweighting."""

from collections.abc import Sequence

import numpy as np
import torch

from hepgen.preprocessing import Standard
from hepgen.progress import Log
from hepgen.provenance import seed_for
from hepgen.unfolding.dataset import Problem
from hepgen.unfolding.reweighting import Outcome, Reweighter

__all__ = ["omnifold"]


def omnifold(problem: Problem, *, iterations: int = 5, reweighter: Reweighter | None = None, seed: int) -> Outcome:
    """Unfold data to particle level.

    Every iteration first learns detector-level weights ω that turn the simulation into the data, then
    truth-level weights ν(t) = E[ω | t], which are a function of the truth. Both ratios are learnt afresh;
    ν is always relative to the original simulation, so that the networks' noise does not pile up.
    Simulated events that are not seen at detector level (misses) take E[ω | t] of those that are. Those that
    are seen but have no truth (fakes) keep their weight and take part in the first step only: the share of fakes
    in the data is that of the simulation, their distribution too. The background takes part likewise, with a yield of
    its own.

    References:
        Andreassen, Komiske, Metodiev, Nachman, Thaler, "OmniFold: a method to simultaneously unfold all
        observables", 2019, arXiv:1911.09107; misses and fakes: Andreassen, Komiske, Metodiev, Nachman, Suresh,
        Thaler, "Scaffolding simulations with deep learning for high-dimensional deconvolution", 2021, arXiv:2105.04448.

    Args:
        problem: The samples.
        iterations: How often to iterate.
        reweighter: The classifier and its training.
        seed: Fixes every random number.
    """
    reweight = reweighter or Reweighter()
    simulation = problem.simulation
    true, seen = simulation.pass_truth, simulation.pass_reco
    both, missed, base = true & seen, true & ~seen, simulation.weights
    background = problem.background.weights / problem.signal * simulation.seen_weights.sum()
    truth = _standardised(simulation.truth[true])
    reco = _standardised(problem.data.values, simulation.reco[seen], problem.background.values)
    weights, clamped, nu = [], [], np.ones(len(seen))
    for iteration in range(iterations):
        seeds = [seed_for(seed, iteration, step) for step in ("reco", "unseen", "truth")]
        current = np.concatenate([(base * nu)[seen], background])
        omega, cut_reco = _detector_step(reweight, reco, problem.data.weights, current, seeds[0])
        pull = np.empty(len(seen))
        pull[seen] = nu[seen] * omega[: seen.sum()]
        if missed.any():
            known, unknown = truth[both[true]], truth[missed[true]]
            pull[missed] = _expectation(reweight, known, pull[both], base[both], unknown, seeds[1])[0]
        nu = np.ones(len(seen))
        nu[true], cut_truth = _expectation(reweight, truth, pull[true], base[true], truth, seeds[2])
        nu[true] *= base[both].sum() / (base * nu)[both].sum()
        weights.append(nu)
        clamped.append((cut_reco, cut_truth))
        _report(iteration, iterations, (base * nu)[true], nu[true], clamped[-1])
    return Outcome(np.stack(weights), {"clamped": np.array(clamped)})


def _detector_step(
    reweight: Reweighter, reco: torch.Tensor, target: np.ndarray, current: np.ndarray, seed: int
) -> tuple[np.ndarray, int]:
    """ω of the simulated events, the density ratio of the data to the simulation as it is weighted now."""
    y = np.concatenate([np.ones(len(target)), np.zeros(len(current))])
    w = np.concatenate([target / target.sum(), current / current.sum()])
    ratio, clamped = reweight(reco, y, w, reco[len(target) :], seed=seed)
    return ratio * current.sum() / (ratio * current).sum(), clamped


def _expectation(
    reweight: Reweighter, x: torch.Tensor, pull: np.ndarray, base: np.ndarray, points: torch.Tensor, seed: int
) -> tuple[np.ndarray, int]:
    """E[pull | x] at the points.

    Each event stands for both classes at once, with its share of the weights as its label: the same loss as
    with the sample entered twice, at half the cost, and no event is on both sides of the validation split.
    """
    return reweight(x, pull / (1 + pull), base * (1 + pull), points, seed=seed)


def _standardised(*samples: np.ndarray) -> torch.Tensor:
    """Samples joined, with mean 0 and standard deviation 1 in every column, float32."""
    x = torch.from_numpy(np.concatenate(samples))
    return Standard(x.shape[1]).fit(x)(x)


def _report(iteration: int, iterations: int, total: np.ndarray, nu: np.ndarray, clamped: Sequence[int]) -> None:
    low, high = np.quantile(nu, [0.005, 0.995])
    effective = total.sum() ** 2 / np.square(total).sum()
    line = f"omnifold: iteration {iteration + 1}/{iterations}  99 % of weights in {low:.3g} to {high:.3g}"
    line += f"  effective events {effective:.0f} of {len(nu)}"
    if any(clamped):
        line += f"  warning: classifier saturated, {clamped[0]} logits clamped at detector level, {clamped[1]} at truth"
    Log()(line)
