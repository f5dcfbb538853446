"""Unfolding by a conditional flow that draws the truth of every measured event, iterated by reweighting."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hepgen.config import UnfoldingMethod
from hepgen.preprocessing import Standard, Support
from hepgen.provenance import seed_for
from hepgen.training import pick_device
from hepgen.unfolding.dataset import Problem
from hepgen.unfolding.flows import RATIO, columns, fit, genuine_data, make_flow
from hepgen.unfolding.pseudodata import of_mean_one
from hepgen.unfolding.reweighting import Outcome, normal_scores, report

__all__ = ["conditional_flow"]

# Truths drawn for a measured event: their spread adds little to that of the data.
DRAWS = 4


def conditional_flow(
    problem: Problem, settings: UnfoldingMethod, observables: Sequence[str] = (), *, seed: int, device: str = "auto"
) -> Outcome:
    """Unfold data to particle level.

    A flow learns p(truth | reco) from the pairs that pass at both levels, and draws truths for the data and for the
    simulation. A classifier learns the ratio of these, so that what the flow cannot describe cancels where both agree
    and is reduced elsewhere, and multiplies the weights ν(t) by it. The simulation with these weights is what the flow,
    trained on from where it is, learns from in the next iteration: its answer depends less and less on the simulation's
    truth. As the efficiency depends on the truth only, misses have the same ν(t). Fakes and background are taken from
    the data, see `genuine_data`.

    The authors compare the data's draws with the simulation's truth itself.

    References:
        Backes, Butter, Dunford, Malaescu, "An unfolding method based on conditional invertible neural networks (cINN)
        using iterative training", 2022, arXiv:2212.08674.

    Args:
        problem: The samples.
        settings: The flow, its training and the number of iterations.
        observables: Names of the d observables, whose bounds the flow keeps.
        seed: Fixes every random number.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        The weights, with ``clamped``, logits of each iteration that were cut off, and ``clipped``, data events that
        no genuine share was left of.
    """
    simulation, base = problem.simulation, problem.simulation.weights
    true, both = simulation.pass_truth, simulation.pass_truth & simulation.pass_reco
    data, clipped = genuine_data(problem, seed=seed_for(seed, "genuine"))
    scaler = columns(observables, simulation.truth[both])
    reco = torch.from_numpy(simulation.reco[both])
    told = Standard(reco.shape[1]).fit(reco)
    z, c = scaler(torch.from_numpy(simulation.truth[both])), told(reco)
    told_of = torch.cat([told(torch.from_numpy(data.values)), c]).repeat_interleave(DRAWS, 0)
    flow = make_flow(settings, z.shape[1], c.shape[1], pick_device(device), seed)
    weights, clamped, nu = [], [], np.ones(len(base))
    for iteration in range(settings.iterations):
        seeds = [seed_for(seed, iteration, step) for step in ("flow", "draw", "ratio")]
        fit(flow, z, c, (base * nu)[both], settings.training, seed=seeds[0], name="conditional flow")
        unfolded = _drawn(flow, scaler, told_of, seeds[1])
        x = normal_scores(np.concatenate([unfolded, simulation.truth[true]]))
        current = (base * nu)[both]
        w = np.concatenate([data.weights / data.weights.sum(), current / current.sum()]).repeat(DRAWS)
        y = np.repeat([1.0, 0.0], [DRAWS * len(data.weights), DRAWS * len(current)])
        ratio = RATIO([x[: len(unfolded)]], y, w, [x[len(unfolded) :]], seed=seeds[2], copies=DRAWS)
        nu = of_mean_one(nu[true] * ratio.values, simulation)
        weights.append(nu)
        clamped.append(ratio.clamped)
        step = f"conditional flow: iteration {iteration + 1}/{settings.iterations}"
        report(step, nu[true], f"{ratio.clamped} logits clamped")
    return Outcome(np.stack(weights), {"clamped": np.array(clamped), "clipped": np.full(len(weights), clipped)})


def _drawn(flow: nn.Module, scaler: Support, c: Tensor, seed: int) -> np.ndarray:
    """A truth for each row of conditions, shape (n, d)."""
    device = next(flow.parameters()).device
    noise = flow.noise(len(c), torch.Generator().manual_seed(seed))
    size = flow.batch if device.type == "cpu" else len(c)
    pairs = zip(noise.split(size), c.split(size), strict=True)
    return scaler.inverse(torch.cat([flow.draw(n.to(device), told.to(device)).cpu() for n, told in pairs])).numpy()
