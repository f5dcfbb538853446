"""What the unfolding methods made of flows share: their columns, their training, and the genuine part of the data."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from hepgen.config import Training, UnfoldingMethod
from hepgen.models import GENERATORS
from hepgen.observables import REAL, describe
from hepgen.preprocessing import Support
from hepgen.training import train
from hepgen.unfolding import RATIO as CLASSIFIER
from hepgen.unfolding.dataset import Level, Problem
from hepgen.unfolding.reweighting import Reweighter, normal_scores

__all__ = ["RATIO", "columns", "fit", "genuine_data", "log_density", "make_flow", "nothing"]

HELD_OUT = 0.1
# Tells spectra apart in seconds; trees with more leaves end early on few events, short of the full ratio.
RATIO = Reweighter(CLASSIFIER, {"leaves": 8, "min_events": 20})


def columns(observables: Sequence[str], values: np.ndarray) -> Support:
    """Preprocessing that makes observables nearly normal, fitted.

    Args:
        observables: Their names, whose physical bounds are used if all values keep them; without names there are none.
        values: Shape (n, d).
    """
    known = [describe(name) for name in observables or [""] * values.shape[1]]
    kept = [o.support[0] <= v.min() and v.max() <= o.support[1] for o, v in zip(known, values.T, strict=True)]
    bounds = [o.support if inside else REAL for o, inside in zip(known, kept, strict=True)]
    periods = [o.period if inside else None for o, inside in zip(known, kept, strict=True)]
    return Support(bounds, periods).fit(torch.from_numpy(values))


def make_flow(settings: UnfoldingMethod, features: int, conditions: int, device: torch.device, seed: int) -> nn.Module:
    """The configured flow, untrained; one of a single feature has a condition, see `nothing`."""
    torch.manual_seed(seed)
    flow = GENERATORS.load(settings.model or "rqs_flow")
    return flow((features,), conditions or int(features == 1), **settings.settings).to(device)


def nothing(flow: nn.Module, events: int) -> Tensor:
    """The conditions of events without any, which are zeros for a single feature: a coupling looks at something."""
    return torch.zeros(events, flow.conditions)


def fit(model: nn.Module, x: Tensor, c: Tensor, w: np.ndarray, training: Training, *, seed: int, name: str) -> None:
    """Minimise a model's loss of weighted events in place; of all epochs the best for held-out events is kept.

    Args:
        model: Its ``loss(x, c, weight)`` is minimised.
        x: Events, shape (n, d).
        c: Conditions, shape (n, k).
        w: Event weights, shape (n,); their scale does not matter.
        training: How.
        seed: Fixes the split and the order of the batches.
        name: What it is called if it fails.
    """
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    arrays = (x, c, torch.from_numpy(w / w.mean()).float())
    cut = int(HELD_OUT * len(x))
    held_out, learnt = ([array[part] for array in arrays] for part in (order[:cut], order[cut:]))
    train(model, learnt, held_out, settings=training, seed=seed, name=name, verbose=False)


@torch.no_grad()
def log_density(flow: nn.Module, x: Tensor, c: Tensor) -> Tensor:
    """A flow's log-density of any number of events, shape (n,), on the CPU."""
    device = next(flow.parameters()).device
    size = flow.batch if device.type == "cpu" else max(1, len(x))
    pairs = zip(x.split(size), c.split(size), strict=True)
    return torch.cat([flow.log_prob(part.to(device), told.to(device)).cpu() for part, told in pairs])


def genuine_data(problem: Problem, *, seed: int) -> tuple[Level, int]:
    """The data with every weight times the share of genuine events among those like it.

    The rest are fakes, in the simulation's share, and background, in its yield. The ratio of both to the data is
    learnt once by a classifier.

    Returns:
        The events whose weight is not zero, and for how many of them fakes and background exceeded the data, so that
        none was left.
    """
    data, simulation, background = problem.data, problem.simulation, problem.background
    fakes = simulation.rows(simulation.pass_reco & ~simulation.pass_truth & (simulation.weights > 0))
    scale = problem.signal / simulation.seen_weights.sum()
    others = np.concatenate([fakes.weights * scale, background.weights])
    if not others.any():
        return data.rows(data.weights > 0), 0
    x = normal_scores(np.concatenate([data.values, fakes.reco, background.values]))
    y = np.concatenate([np.zeros(len(data.weights)), np.ones(len(others))])
    weights = np.concatenate([data.weights, others])
    ratio = RATIO([x], y, weights, [x[: len(data.weights)]], seed=seed).values
    genuine = data._replace(weights=data.weights * (1 - ratio).clip(min=0))
    return genuine.rows(genuine.weights > 0), int(np.sum((ratio >= 1) & (data.weights > 0)))
