"""The figures of the unfolding analysis: which there are. Nothing heavy is imported here."""

from hepgen.config import Config

__all__ = ["figure_names", "has_truth"]


def figure_names(config: Config) -> list[str]:
    """The figures that an evaluation of this configuration writes."""
    block = config.unfolding
    kinds = ["response", "detector", "unfolded", "refolded"]
    kinds += ["uncertainty", "correlation"] if block.replicas else []
    types = {method.type for method in block.methods.values()}
    return [
        *(f"{kind}_{name}" for kind in kinds for name in block.observables),
        *(f"plane_{name}" for name in block.planes),
        *(["toys"] if block.toys else []),
        *(["triangular", "iterations"] if has_truth(config) else []),
        *(["weights"] if types != {"ibu"} else []),
        *(["calibration"] if "omnifold" in types else []),
    ]


def has_truth(config: Config) -> bool:
    """Whether the data are simulated, so that a result can be held against their truth."""
    known = config.columns_of(config.unfolding.data, "truth")
    return set(config.unfolding.observables) <= set(known)
