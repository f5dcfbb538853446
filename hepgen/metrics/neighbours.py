"""Whether a generator repeats the events that it was trained on."""

import math
from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree
from scipy.stats import norm

from hepgen.errors import HepgenError
from hepgen.metrics.resampling import Estimate
from hepgen.metrics.weighted import standardise

__all__ = ["REFERENCES", "Memorisation", "memorisation"]

# Searches in many dimensions look at a large part of the tree.
QUERIES = 10_000
REFERENCES = 50_000


class Memorisation(NamedTuple):
    """The share of generated events whose nearest true event is a training event, and the p-value of its excess."""

    share: Estimate
    p_value: float


def memorisation(x: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> Memorisation:
    """How often a generated event is closer to a training event than to any held-out one: half without memorisation.

    The training and the held-out events, of which equally many are used, are exchangeable unless the generator knows
    the former. So the variance without memorisation is that over all ways to hand out the two labels: with h
    generated events nearest to each of N true ones, Σ(h − h̄)²·N/(4(N − 1)n²). It is the binomial one where no true
    event is the nearest of two. Only copies of the training events that are looked at are found.

    Args:
        x: Generated events of shape (n, d), of which at most 10 000 are looked at.
        train: Training events of shape (k, d).
        test: Held-out events of the same distribution, shape (m, d); of both at most 50 000 are used.
        seed: Fixes which events are used.

    Returns:
        The share, with the error that it has without memorisation, and the one-sided p-value of an excess.

    Raises:
        HepgenError: if there are no generated, or fewer than two training or held-out events.

    References:
        Xu et al., An empirical study on evaluation metrics of generative adversarial networks, 2018,
        arXiv:1806.07755 (nearest neighbours); Meehan, Chaudhuri, Dasgupta, A Non-Parametric Test to Detect
        Data-Copying in Generative Models, 2020, arXiv:2004.05675 (training against held-out events).
    """
    size = min(len(train), len(test), REFERENCES)
    if size < 2 or not len(x):
        msg = (
            f"memorisation needs generated, training and held-out events, found {len(x)}, {len(train)} and {len(test)}"
        )
        raise HepgenError(msg)
    rng = np.random.default_rng(seed)
    known = np.concatenate([rng.permutation(events)[:size] for events in (train, test)])
    drawn, known = standardise(rng.permutation(x)[:QUERIES], known, np.ones(len(known)))
    # Events that are both in training and held out are nearest as often on either side.
    order = rng.permutation(len(known))
    nearest = order[KDTree(known[order]).query(drawn)[1]]
    hits = np.bincount(nearest, minlength=len(known))
    share = hits[:size].sum() / len(drawn)
    error = math.sqrt(len(known) * hits.var() * len(known) / (len(known) - 1)) / 2 / len(drawn)
    return Memorisation(Estimate(float(share), error), float(norm.sf((share - 0.5) / error if error else 0.0)))
