"""Mode collapse, seen while a generator learns: its events cover less and less of the truth."""

import math

import numpy as np
from scipy.spatial import KDTree

from hepgen.errors import HepgenError
from hepgen.generation.columns import as_generated, as_table
from hepgen.generation.generators import Trained
from hepgen.metrics.weighted import standardise
from hepgen.progress import Log
from hepgen.table import Table

__all__ = ["Watch"]

# Training events that are looked at, and the fewest that say anything: one point may cover some NEIGHBOURS events.
EVENTS, FEWEST = 1000, 300
NEIGHBOURS = 5
# Of the possible coverage. A DCGAN that a learning rate of 0.03 made collapse had 11 % after 50 updates of its
# generator, 3 % after 150 and 0.1 % after 400; the image GANs that learnt at a rate of 5e-4 had 57 % or more after 300.
COLLAPSED = 0.1
# How long a generator must cover less to be given up: in epochs, and in updates, of which an epoch of few events has
# few. The slowest that learnt, a DCGAN with another scaling, had less for some 300; `dijet_gan` had 8 % after its first
# epoch of 280 batches and 47 % after the second.
EPOCHS, UPDATES = 5, 2000
# Stands for values that are not finite, and may be squared.
FAR = 1e30


class Watch:
    """Ends the training of a generator whose events cover next to nothing of the truth, epoch after epoch.

    Coverage is the share of true events that have a generated event nearer than their fifth true neighbour, in the
    observables that the generator is judged by; that of other true events is what it could be. All events are one set
    here, not the verdict's five, in each of which a point would cover five times as much.

    Args:
        trained: The generator as it learns.
        truth: Its training events, in random order.

    References:
        Naeem et al., Reliable Fidelity and Diversity Metrics for Generative Models, 2020, arXiv:2002.09797.
    """

    def __init__(self, trained: Trained, truth: Table) -> None:
        self.trained = trained
        self.size = min(EVENTS, len(truth) // 2)
        steps = math.ceil(len(truth) / trained.entry.training.batch_size)
        self.low, self.patience = 0, max(EPOCHS, math.ceil(UPDATES / steps))
        if self.size < FEWEST:
            return
        true, other = (truth[start : start + self.size] for start in (0, self.size))
        self.weight = true.columns["weight"]
        observables = self._observables(as_generated(trained.entry, trained.block, true))
        self.varies = np.ptp(observables, axis=0) > 0
        self.true = observables[:, self.varies]
        _, points = standardise(self.true, self.true, self.weight)
        self.reach = KDTree(points).query(points, NEIGHBOURS + 1)[0][:, -1]
        self.possible = self._coverage(self._observables(as_generated(trained.entry, trained.block, other)))

    def __call__(self, epoch: int) -> None:
        """Look at the generator after an epoch.

        Raises:
            HepgenError: if it has been collapsed for several epochs in a row.
        """
        if self.size < FEWEST or getattr(self.trained.network, "pretrains", False):
            return
        drawn = next(self.trained.blocks(self.size, seed="watch"))
        with np.errstate(all="ignore"):
            made = as_table(self.trained.entry, self.trained.block, drawn.x, drawn.conditions)
        covered = self._coverage(np.nan_to_num(self._observables(made), nan=FAR).clip(-FAR, FAR))
        if covered >= COLLAPSED * self.possible:
            self.low = 0
            return
        self.low += 1
        card = self.trained.card
        msg = (
            f"{card['name']}, seed {card['seed']}: the events generated after epoch {epoch} cover {covered:.1%} of the "
            f"true ones' neighbourhoods; other true events cover {self.possible:.1%}"
        )
        Log()(msg)
        if self.low == self.patience:
            advice = "lower training.learning_rate or, for a GAN, set settings.objective to wgan_gp"
            raise HepgenError(f"{msg}. It has been so for {self.low} epochs: mode collapse or divergence; {advice}")

    def state_dict(self) -> dict[str, int]:
        """For how many epochs in a row the generator has been collapsed."""
        return {"low": self.low}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take over what `state_dict` gave."""
        self.low = state["low"]

    @staticmethod
    def _observables(table: Table) -> np.ndarray:
        return table.matrix(list(table.columns))

    def _coverage(self, x: np.ndarray) -> float:
        x, points = standardise(x[:, self.varies], self.true, self.weight)
        return float(np.average(KDTree(x).query(points)[0] <= self.reach, weights=self.weight))
