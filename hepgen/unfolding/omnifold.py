"""OmniFold: unbinned unfolding of all observables at once by iterated reweighting."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hepgen.config import UnfoldingMethod
from hepgen.metrics.divergences import effective_events
from hepgen.preprocessing import Scale
from hepgen.provenance import seed_for
from hepgen.unfolding.dataset import Level, Problem
from hepgen.unfolding.pseudodata import of_mean_one
from hepgen.unfolding.reweighting import Outcome, Ratio, Reweighter, normal_scores, report

__all__ = ["configured", "omnifold"]


def omnifold(problem: Problem, *, iterations: int = 5, reweighter: Reweighter | None = None, seed: int) -> Outcome:
    """Unfold data to particle level.

    Every iteration first learns detector-level weights ω that turn the simulation into the data, then
    truth-level weights ν(t) = E[ω | t], which are a function of the truth. Both ratios are learnt afresh;
    ν is always relative to the original simulation, so that the networks' noise does not pile up.
    ν is learnt from the events that are seen at both levels, and those that are not seen at detector level (misses)
    take it at their truth. Those that are seen but have no truth (fakes) keep their weight and take part in the first
    step only: the share of fakes in the data is that of the simulation, their distribution too. The background takes
    part likewise, with a yield of its own.

    References:
        Andreassen, Komiske, Metodiev, Nachman, Thaler, "OmniFold: a method to simultaneously unfold all
        observables", 2019, arXiv:1911.09107; misses: Andreassen, Komiske, Metodiev, Nachman, Suresh,
        Thaler, "Scaffolding simulations with deep learning for high-dimensional deconvolution", 2021, arXiv:2105.04448.

    Args:
        problem: The samples.
        iterations: How often to iterate.
        reweighter: The classifier and its training.
        seed: Fixes every random number.

    Returns:
        The weights, with ``clamped``, logits that were cut off, shape (K, 2), and ``calibration``, shape
        (K, 2, bins, 3), see `hepgen.unfolding.reweighting.Ratio`: at detector level first, at truth level second.

    Raises:
        HepgenError: see `Reweighter`.
    """
    reweight = reweighter or Reweighter()
    simulation = problem.simulation
    true, seen = simulation.pass_truth, simulation.pass_reco
    both, base = true & seen, simulation.weights
    background = problem.background.weights / problem.signal * simulation.seen_weights.sum()
    truth = _inputs(reweight, Level(simulation.truth, base, simulation.true_particles).rows(true))
    reco = _inputs(reweight, problem.data, simulation.seen, problem.background)
    learnt = [column[torch.from_numpy(both[true])] for column in truth]
    weights, steps, nu = [], [], np.ones(len(seen))
    for iteration in range(iterations):
        seeds = [seed_for(seed, iteration, step) for step in ("reco", "truth")]
        current = np.concatenate([(base * nu)[seen], background])
        omega = _detector_step(reweight, reco, problem.data.weights, current, seeds[0])
        pull = nu[both] * omega.values[: seen.sum()][both[seen]]
        # Each event stands for both classes at once, with its share of the weights as its label: the same loss as with
        # the sample entered twice, at half the cost, and no event is on both sides of the validation split.
        ratio = reweight(learnt, pull / (1 + pull), base[both] * (1 + pull), truth, seed=seeds[1])
        nu = of_mean_one(ratio.values, simulation)
        weights.append(nu)
        steps.append((omega, ratio))
        _report(f"omnifold: iteration {iteration + 1}/{iterations}", (base * nu)[true], nu[true], steps[-1])
    clamped, calibration = ([[getattr(step, name) for step in pair] for pair in steps] for name in Ratio._fields[1:])
    return Outcome(np.stack(weights), {"clamped": np.array(clamped), "calibration": np.array(calibration)})


def configured(
    problem: Problem, settings: UnfoldingMethod, _observables: Sequence[str] = (), *, seed: int, device: str = "auto"
) -> Outcome:
    """`omnifold` as an entry of the configuration asks for it; the observables' names mean nothing to it."""
    seen = settings.inputs == "constituents"
    reweighter = Reweighter(settings.model or "mlp", settings.settings, settings.training, device, seen)
    return omnifold(problem, iterations=settings.iterations, reweighter=reweighter, seed=seed)


def _detector_step(
    reweight: Reweighter, reco: list[Tensor], target: np.ndarray, current: np.ndarray, seed: int
) -> Ratio:
    """ω of the simulated events, the density ratio of the data to the simulation as it is weighted now."""
    y = np.concatenate([np.ones(len(target)), np.zeros(len(current))])
    w = np.concatenate([target / target.sum(), current / current.sum()])
    ratio = reweight(reco, y, w, [column[len(target) :] for column in reco], seed=seed)
    return ratio._replace(values=ratio.values * current.sum() / (ratio.values * current).sum())


def _inputs(reweight: Reweighter, *levels: Level) -> list[Tensor]:
    """What the classifier sees of the events, one level after the other."""
    joined = Level.join(levels)
    if not reweight.constituents:
        return [normal_scores(joined.values)]
    particles = torch.from_numpy(joined.particles)
    return [normal_scores(joined.values), Scale(particles.shape[2]).fit(particles)(particles)]


def _report(what: str, total: np.ndarray, nu: np.ndarray, steps: tuple[Ratio, Ratio]) -> None:
    more = f"effective events {effective_events(total):.0f} of {len(nu)}"
    cut = [step.clamped for step in steps]
    if any(cut):
        more += f"  warning: classifier saturated, {cut[0]} logits clamped at detector level, {cut[1]} at truth"
    report(what, nu, more)
