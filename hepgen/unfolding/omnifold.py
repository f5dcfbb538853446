"""OmniFold: unbinned unfolding of all observables at once by iterated reweighting."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from hepgen.config import Training
from hepgen.models import CLASSIFIERS
from hepgen.preprocessing import Standard
from hepgen.progress import Log
from hepgen.provenance import seed_for
from hepgen.training import pick_device, train

__all__ = ["LOGIT_LIMIT", "OmniFoldResult", "Reweighter", "omnifold"]

# exp(10) = 22,026: a ratio that no sample of this size can establish.
LOGIT_LIMIT = 10.0
VALIDATION_FRACTION = 0.2


class OmniFoldResult(NamedTuple):
    """Outcome of K iterations on n simulated events.

    Attributes:
        weights: Factors that multiply the simulation's own weights, shape (K, n), one for fakes. Their mean over the
            events seen at detector level is one, so that the shape is unfolded and the yield is left to the caller.
        clamped: Logits that were cut off at ±`LOGIT_LIMIT` in the detector-level and the truth-level step, (K, 2).
    """

    weights: np.ndarray
    clamped: np.ndarray


@dataclass(frozen=True)
class Reweighter:
    """Learns the ratio of two weighted samples of shape (n, d), with a fresh network each time.

    Attributes:
        classifier: A name of `hepgen.models.CLASSIFIERS`.
        settings: Keyword arguments of its constructor.
        training: How it is trained.
        device: Where.
    """

    classifier: str = "mlp"
    settings: dict[str, Any] = field(default_factory=dict)
    training: Training = field(default_factory=Training)
    device: str = "auto"

    def __call__(
        self, x: torch.Tensor, y: np.ndarray, w: np.ndarray, points: torch.Tensor, *, seed: int
    ) -> tuple[np.ndarray, int]:
        """Train on labelled events, then evaluate.

        Args:
            x: Standardised inputs, float32, shape (n, d).
            y: Probability of class 1, shape (n,).
            w: Event weights, shape (n,); their scale does not matter.
            points: Where to evaluate, shape (m, d).
            seed: Fixes the network, the split and the order of the batches.

        Returns:
            p(x | 1) / p(x | 0) at the points times the ratio of the classes' weights, float64 of shape (m,),
            and how many logits were clamped.
        """
        device = pick_device(self.device)
        torch.manual_seed(seed)
        model = CLASSIFIERS.load(self.classifier)(x.shape[1], **self.settings).to(device)
        order = torch.randperm(len(x))
        columns = (x, torch.from_numpy(y).float(), torch.from_numpy(w / w.mean()).float())
        held_out = int(VALIDATION_FRACTION * len(x))
        validation, learnt = ([column[part] for column in columns] for part in (order[:held_out], order[held_out:]))
        train(model, learnt, validation, settings=self.training, seed=seed, name=self.classifier, verbose=False)
        logits = model.predict(points).numpy()
        clamped = int(np.sum(np.abs(logits) > LOGIT_LIMIT))
        return np.exp(np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)), clamped


def omnifold(
    simulation_truth: np.ndarray,
    simulation_reco: np.ndarray,
    data_reco: np.ndarray,
    *,
    iterations: int = 5,
    simulation_weights: np.ndarray | None = None,
    data_weights: np.ndarray | None = None,
    pass_truth: np.ndarray | None = None,
    pass_reco: np.ndarray | None = None,
    reweighter: Reweighter | None = None,
    seed: int,
) -> OmniFoldResult:
    """Unfold data to particle level.

    Every iteration first learns detector-level weights ω that turn the simulation into the data, then
    truth-level weights ν(t) = E[ω | t], which are a function of the truth. Both ratios are learnt afresh;
    ν is always relative to the original simulation, so that the networks' noise does not pile up.
    Simulated events that are not seen at detector level (misses) take E[ω | t] of those that are. Those that
    are seen but have no truth (fakes) keep their weight and take part in the first step only: the share of fakes
    in the data is that of the simulation, their distribution too.

    References:
        Andreassen, Komiske, Metodiev, Nachman, Thaler, "OmniFold: a method to simultaneously unfold all
        observables", 2019, arXiv:1911.09107; misses and fakes: Andreassen, Komiske, Metodiev, Nachman, Suresh,
        Thaler, "Scaffolding simulations with deep learning for high-dimensional deconvolution", 2021, arXiv:2105.04448.

    Args:
        simulation_truth: Truth-level observables of the simulated events, shape (n, d).
        simulation_reco: Detector-level observables of the same events, shape (n, e).
        data_reco: Detector-level observables of the data, shape (m, e).
        iterations: How often to iterate.
        simulation_weights: Shape (n,), not negative; one by default.
        data_weights: Shape (m,), not negative; one by default.
        pass_truth: Which simulated events pass at particle level, shape (n,); all by default. The particle-level
            observables of the others are not used.
        pass_reco: Which simulated events are seen at detector level, shape (n,); all by default. The detector-level
            observables of the others are not used.
        reweighter: The classifier and its training.
        seed: Fixes every random number.
    """
    reweight = reweighter or Reweighter()
    everything = np.ones(len(simulation_truth), dtype=bool)
    true, seen = (everything if p is None else p for p in (pass_truth, pass_reco))
    both, missed = true & seen, true & ~seen
    base = np.ones(len(seen)) if simulation_weights is None else simulation_weights
    target = np.ones(len(data_reco)) if data_weights is None else data_weights
    truth = _standardised(simulation_truth[true])
    reco = _standardised(data_reco, simulation_reco[seen])
    weights, clamped, nu = [], [], np.ones(len(seen))
    for iteration in range(iterations):
        seeds = [seed_for(seed, iteration, step) for step in ("reco", "unseen", "truth")]
        omega, cut_reco = _detector_step(reweight, reco, target, (base * nu)[seen], seeds[0])
        pull = np.empty(len(seen))
        pull[seen] = nu[seen] * omega
        if missed.any():
            known, unknown = truth[both[true]], truth[missed[true]]
            pull[missed] = _expectation(reweight, known, pull[both], base[both], unknown, seeds[1])[0]
        nu = np.ones(len(seen))
        nu[true], cut_truth = _expectation(reweight, truth, pull[true], base[true], truth, seeds[2])
        nu[true] *= base[both].sum() / (base * nu)[both].sum()
        weights.append(nu)
        clamped.append((cut_reco, cut_truth))
        _report(iteration, iterations, (base * nu)[true], nu[true], clamped[-1])
    return OmniFoldResult(np.stack(weights), np.array(clamped))


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
