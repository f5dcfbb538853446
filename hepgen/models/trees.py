"""Decision trees: the isolation forest, and gradient-boosted trees as a supervised reference."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

# isort: split
# LightGBM needs an OpenMP runtime that a bare system lacks: the one that came with torch will do, once it is loaded.
import lightgbm
import numpy as np
from sklearn.ensemble import IsolationForest as SklearnForest
from torch import Tensor, nn

from hepgen.errors import HepgenError
from hepgen.models.layers import at_least

if TYPE_CHECKING:
    from hepgen.training import Indexable

__all__ = ["BoostedClassifier", "Forest", "GradientBoosting", "IsolationForest"]

# After so many rounds without a better loss of the events held out, no further tree is grown.
PATIENCE = 20


class Forest(nn.Module):
    """The sum over decision trees of the value of the leaf that an event ends in, by tensor operations alone.

    The nodes of all trees are numbered through. An event goes to a node's `left` if its `feature` is at most the
    `threshold`, else to `right`; a leaf leads to itself.

    Args:
        trees: Number of trees.
        nodes: Number of nodes of all trees together.
        depth: Steps from the root to the deepest leaf.
    """

    def __init__(self, trees: int, nodes: int, depth: int) -> None:
        super().__init__()
        self.depth = depth
        self.register_buffer("root", torch.zeros(trees, dtype=torch.int64))
        for name in ("feature", "left", "right"):
            self.register_buffer(name, torch.zeros(nodes, dtype=torch.int64))
        for name in ("threshold", "value"):
            self.register_buffer(name, torch.zeros(nodes, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Sums of the leaves' values, float64 of shape (n,), for finite inputs of shape (n, features)."""
        node = self.root.expand(x.shape[0], -1)
        for _ in range(self.depth):
            below = x.gather(1, self.feature[node]) <= self.threshold[node]
            node = torch.where(below, self.left[node], self.right[node])
        return self.value[node].sum(1)


class IsolationForest(nn.Module):
    """Events that few random cuts set apart from the others are anomalous.

    The score is 2 to the power −E[h]/c, where h is the number of cuts that it takes, and c what it takes on average.

    Args:
        shape: Shape of one event's input, flattened inside.
        trees: Number of trees.
        events: Events that each tree is grown from.

    References:
        Liu, Ting, Zhou 2008, "Isolation forest", ICDM 2008, p. 413.
    """

    def __init__(self, shape: tuple[int, ...], *, trees: int = 100, events: int = 256) -> None:
        super().__init__()
        at_least(1, trees=trees)
        at_least(2, events=events)
        self.shape = shape
        self.trees = trees
        self.events = events
        self.forest = Forest(trees, trees * (2 * events - 1), (events - 1).bit_length())
        self.register_buffer("cuts", torch.ones((), dtype=torch.float64))

    def fit(self, x: "Indexable", weight: Tensor | None = None, *, seed: int = 1) -> "IsolationForest":
        """Grow the trees from data of shape (n, *shape), of which each draws events by their weights (n,).

        Raises:
            HepgenError: if there are fewer than two events of positive weight.
        """
        events = min(self.events, len(x) if weight is None else int(weight.count_nonzero()))
        if events < 2:
            msg = f"isolation_forest: {events} training events cannot be set apart from others"
            raise HepgenError(msg)
        model = SklearnForest(n_estimators=self.trees, max_samples=events, random_state=seed)
        model.fit(_rows(x), sample_weight=None if weight is None else weight.double().numpy())
        for number, tree in enumerate(estimator.tree_ for estimator in model.estimators_):
            root = number * (2 * self.events - 1)
            leaf, here = tree.children_left < 0, np.arange(tree.node_count)
            nodes = {
                "feature": np.where(leaf, 0, tree.feature),
                "threshold": tree.threshold,
                "left": root + np.where(leaf, here, tree.children_left),
                "right": root + np.where(leaf, here, tree.children_right),
                "value": tree.compute_node_depths() - 1 + _mean_cuts(tree.n_node_samples),
            }
            for name, values in nodes.items():
                getattr(self.forest, name)[root : root + tree.node_count] = torch.from_numpy(values)
            self.forest.root[number] = root
        self.cuts.fill_(float(_mean_cuts(np.array(events))))
        return self

    def score(self, x: Tensor) -> Tensor:
        """Between 0 and 1, near 1 for an anomaly; float64 of shape (n,)."""
        return 2.0 ** (-self.forest(x.flatten(1).float()) / (self.trees * self.cuts))


def _rows(x: "Indexable") -> np.ndarray:
    """All events at once, flattened, shape (n, features)."""
    return x[torch.arange(len(x))].flatten(1).numpy()


def _mean_cuts(events: np.ndarray) -> np.ndarray:
    """How many cuts set one event apart in a random tree of so many events, on average (Liu et al., equation 1)."""
    others = np.maximum(events - 1, 1)
    return np.select([events > 2, events == 2], [2 * (np.log(others) + np.euler_gamma - others / events), 1.0], 0.0)


class GradientBoosting:
    """A supervised classifier: it sees the labels of its training events, which no anomaly tagger may.

    Args:
        shape: Shape of one event's input, flattened inside.
        rounds: Number of trees of each booster.
        learning_rate: Shrinkage of each tree.
        leaves: Largest number of leaves of a tree.
        min_events: Fewest training events in a leaf.
        ensemble: Number of boosters that differ in their seed, of which the mean is taken.

    References:
        Ke et al. 2017, "LightGBM", NeurIPS 30; Finke et al. 2023, arXiv:2309.13111 (ensembles on weak signals).
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
        ensemble: int = 1,
    ) -> None:
        at_least(1, rounds=rounds, ensemble=ensemble)
        at_least(2, leaves=leaves)
        at_least(0, min_events=min_events)
        if not learning_rate > 0:
            msg = f"gradient_boosting: learning_rate is {learning_rate}; it must be above 0"
            raise HepgenError(msg)
        self.shape = shape
        self.rounds = rounds
        self.ensemble = ensemble
        self.settings = {"learning_rate": learning_rate, "num_leaves": leaves, "min_data_in_leaf": min_events}
        self.boosters: list[lightgbm.Booster] = []

    def fit(
        self,
        x: "Indexable",
        y: Tensor,
        weight: Tensor | None = None,
        *,
        validation: Sequence[Tensor] = (),
        seed: int = 1,
    ) -> "GradientBoosting":
        """Learn to tell y = 1 from y = 0.

        Args:
            x: Inputs of shape (n, *shape).
            y: Labels or probabilities of the label 1, shape (n,).
            weight: Event weights, shape (n,).
            validation: The same for events held out; the rounds with the smallest loss on them are kept.
            seed: Fixes the subsets of events that the trees see.
        """
        parameters = {
            **self.settings,
            "objective": "cross_entropy",
            "bagging_fraction": 0.8,
            "bagging_freq": 1,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }
        data = _dataset(x, y, weight)
        held_out = [_dataset(*validation, reference=data)] if validation else []
        stop = [lightgbm.early_stopping(PATIENCE, verbose=False)] if validation else []
        seeds = np.random.default_rng(seed).integers(1 << 31, size=self.ensemble)
        self.boosters = [
            lightgbm.train({**parameters, "seed": int(value)}, data, self.rounds, held_out, callbacks=stop)
            for value in seeds
        ]
        return self

    def score(self, x: Tensor) -> Tensor:
        """Logarithm of the odds for signal, float64 of shape (n,).

        Raises:
            HepgenError: if the model was neither fitted nor loaded.
        """
        values = x.flatten(1).cpu().numpy()
        scores = [booster.predict(values, raw_score=True, num_threads=1) for booster in self._fitted()]
        return torch.from_numpy(np.mean(scores, axis=0))

    def forest(self) -> Forest:
        """The same trees as tensors: what the forest makes of flattened inputs is the score.

        Raises:
            HepgenError: if the model was neither fitted nor loaded.
        """
        nodes: list[tuple[int, float, int, int, float]] = []
        roots, deepest = [], 0
        for tree in (tree for booster in self._fitted() for tree in booster.dump_model()["tree_info"]):
            root = len(nodes)
            roots.append(root)
            queue = [(tree["tree_structure"], 0)]
            for node, depth in queue:  # which grows while it is gone through, level by level
                if "leaf_value" in node:
                    nodes.append((0, 0.0, len(nodes), len(nodes), node["leaf_value"] / self.ensemble))
                else:
                    left = root + len(queue)
                    nodes.append((node["split_feature"], node["threshold"], left, left + 1, 0.0))
                    queue += [(node["left_child"], depth + 1), (node["right_child"], depth + 1)]
            deepest = max(deepest, depth)
        forest = Forest(len(roots), len(nodes), deepest)
        columns = dict(zip(("feature", "threshold", "left", "right", "value"), zip(*nodes, strict=True), strict=True))
        for name, values in {"root": roots, **columns}.items():
            getattr(forest, name).copy_(torch.from_numpy(np.array(values)))
        return forest

    def _fitted(self) -> list[lightgbm.Booster]:
        if not self.boosters:
            msg = "gradient_boosting: no trees yet; fit the model or load its state first"
            raise HepgenError(msg)
        return self.boosters

    def state_dict(self) -> dict[str, Tensor]:
        """The trees of each booster as LightGBM's text, in bytes."""
        texts = (booster.model_to_string().encode() for booster in self.boosters)
        return {
            f"booster{number}": torch.from_numpy(np.frombuffer(text, dtype=np.uint8).copy())
            for number, text in enumerate(texts)
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over trees saved by `state_dict`."""
        texts = (state[f"booster{number}"].numpy().tobytes().decode() for number in range(len(state)))
        self.boosters = [lightgbm.Booster(model_str=text) for text in texts]


class BoostedClassifier(GradientBoosting):
    """Gradient-boosted trees as a classifier of two weighted samples.

    Args:
        features: Inputs per event, of any scale.
        rounds: Largest number of trees of each booster, as many as help.
        learning_rate: See `GradientBoosting`, as for the settings that follow.
        leaves: Largest number of leaves of a tree.
        min_events: Fewest training events in a leaf.
        ensemble: Number of boosters.
    """

    sees_observables = True

    def __init__(
        self,
        features: int,
        *,
        rounds: int = 500,
        learning_rate: float = 0.1,
        leaves: int = 31,
        min_events: int = 100,
        ensemble: int = 1,
    ) -> None:
        super().__init__(
            (features,), rounds=rounds, learning_rate=learning_rate, leaves=leaves, min_events=min_events,
            ensemble=ensemble,
        )  # fmt: skip

    def predict(self, x: Tensor) -> Tensor:
        """Logits of shape (n,), float64."""
        return self.score(x)


def _dataset(
    x: "Indexable", y: Tensor, weight: Tensor | None = None, reference: lightgbm.Dataset | None = None
) -> lightgbm.Dataset:
    columns = [None if values is None else values.contiguous().numpy() for values in (y, weight)]
    return lightgbm.Dataset(_rows(x), columns[0], weight=columns[1], reference=reference)
