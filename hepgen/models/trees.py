"""Gradient-boosted trees: the supervised reference that anomaly taggers are held against."""

import torch

# isort: split
# LightGBM needs an OpenMP runtime that a bare system lacks: the one that came with torch will do, once it is loaded.
import lightgbm
import numpy as np
from torch import Tensor

from hepgen.errors import HepgenError

__all__ = ["GradientBoosting"]


class GradientBoosting:
    """A supervised classifier: it sees the labels of its training events, which no anomaly tagger may.

    Args:
        shape: Shape of one event's input, flattened inside.
        rounds: Number of trees.
        learning_rate: Shrinkage of each tree.
        leaves: Largest number of leaves of a tree.
        min_events: Fewest training events in a leaf.

    References:
        Ke et al. 2017, LightGBM, NeurIPS 30.
    """

    supervised = True

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        rounds: int = 200,
        learning_rate: float = 0.05,
        leaves: int = 31,
        min_events: int = 20,
    ) -> None:
        self.shape = shape
        self.rounds = rounds
        self.settings = {"learning_rate": learning_rate, "num_leaves": leaves, "min_data_in_leaf": min_events}
        self.booster: lightgbm.Booster | None = None

    def fit(self, x: Tensor, y: Tensor, weight: Tensor | None = None, *, seed: int = 1) -> "GradientBoosting":
        """Learn to tell y = 1 from y = 0, both classes counting the same in total.

        Args:
            x: Inputs of shape (n, *shape).
            y: Labels, shape (n,).
            weight: Event weights, shape (n,).
            seed: Fixes the subsets of events and features that the trees see.

        Raises:
            HepgenError: if one of the classes is missing.
        """
        signal = y.numpy() == 1
        if signal.all() or not signal.any():
            msg = (
                f"gradient_boosting: all {len(signal)} training events are {'signal' if signal.all() else 'background'}"
            )
            raise HepgenError(f"{msg}; it is supervised and needs samples of both")
        weight = np.ones(len(signal)) if weight is None else weight.numpy()
        balanced = np.where(signal, weight / weight[signal].sum(), weight / weight[~signal].sum()) * len(signal) / 2
        parameters = {
            **self.settings,
            "objective": "binary",
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }
        data = lightgbm.Dataset(x.flatten(1).numpy(), signal.astype(np.float32), weight=balanced)
        self.booster = lightgbm.train(parameters, data, self.rounds)
        return self

    def score(self, x: Tensor) -> Tensor:
        """Logarithm of the odds for signal, shape (n,).

        Raises:
            HepgenError: if the model was neither fitted nor loaded.
        """
        if self.booster is None:
            msg = "gradient_boosting: no trees yet; fit the model or load its state first"
            raise HepgenError(msg)
        return torch.from_numpy(self.booster.predict(x.flatten(1).cpu().numpy(), raw_score=True, num_threads=1))

    def state_dict(self) -> dict[str, Tensor]:
        """The trees as LightGBM's text, in bytes."""
        text = self.booster.model_to_string() if self.booster else ""
        return {"booster": torch.from_numpy(np.frombuffer(text.encode(), dtype=np.uint8).copy())}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over trees saved by `state_dict`."""
        text = state["booster"].numpy().tobytes().decode()
        self.booster = lightgbm.Booster(model_str=text) if text else None
