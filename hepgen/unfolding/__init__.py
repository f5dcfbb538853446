"""Unfolding: correct a measured sample for the detector with simulated truth-reco pairs.

An unbinned method is a function ``method(problem, settings, observables, *, seed, device)`` of a
`hepgen.unfolding.dataset.Problem`, its entry of the configuration and the observables' names; it returns a
`hepgen.unfolding.reweighting.Outcome`.
"""

from hepgen.registry import Registry

__all__ = ["METHODS", "RATIO"]

METHODS = Registry(
    "unfolding method",
    {
        "omnifold": "hepgen.unfolding.omnifold:configured",
        "conditional_flow": "hepgen.unfolding.conditional_flow:conditional_flow",
        "neural_bayes": "hepgen.unfolding.neural_bayes:neural_bayes",
    },
)

# The classifier that the methods made of flows learn ratios with.
RATIO = "gradient_boosting"
