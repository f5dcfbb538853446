"""How far unfolded spectra are from the truth of simulated data: for scoring only, nothing else depends on it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from hepgen.metrics.divergences import effective_events, triangular, triangular_floor
from hepgen.metrics.intervals import Interval, binned_sums, draw_counts, interval
from hepgen.metrics.record import Metric
from hepgen.provenance import seed_for
from hepgen.unfolding.comparison import Spectra
from hepgen.unfolding.dataset import Pairs, Problem
from hepgen.unfolding.ibu import ibu, response_matrix
from hepgen.unfolding.spectra import At

__all__ = ["NONE", "PRIOR", "Score", "Scores", "discriminator", "score"]

PRIOR, NONE = "prior", "no_unfolding"
LEVELS: tuple[At, ...] = ("truth", "reco")
# What is scored: spectra of single trainings at either level, and the mean of all trainings.
Scored = At | Literal["ensemble"]
METRICS: dict[Scored, str] = {
    "truth": "triangular",
    "reco": "triangular_reco",
    "ensemble": "triangular_ensemble",
}
REPLICAS = 100
# Replicas that are drawn at once: 40 bytes an event.
BLOCK = 10


class Score(NamedTuple):
    """The discriminator of one estimate of one spectrum, or its mean over spectra.

    Attributes:
        nominal: Of each of S trainings on the events as they are, shape (S,).
        replicas: The same on B bootstrap replicas of the events, shape (B, S).
        floor: That of two independent samples; None for estimates that share events with their target.
    """

    nominal: np.ndarray
    replicas: np.ndarray
    floor: float | None


@dataclass(frozen=True)
class Scores:
    """Triangular discriminators ×10³ of all estimates.

    Attributes:
        found: Those of every spectrum, by what is scored and estimate.
        events: Events of the data that pass, likewise.
        seed: Fixes the random numbers of the intervals.
    """

    found: dict[tuple[Scored, str], dict[str, Score]]
    events: dict[Scored, int]
    seed: int

    def at(self, level: At) -> dict[str, dict[str, Score]]:
        """The scores at one level, by estimate and spectrum."""
        return {estimate: scores for (where, estimate), scores in self.found.items() if where == level}

    def interval(self, score: Score) -> Interval:
        """The mean over trainings with its 68 % interval, none of it negative."""
        return interval(score.nominal, score.replicas, seed=self.seed, support=(0.0, np.inf))

    def metrics(self, sample: str) -> list[Metric]:
        """Every discriminator as a record.

        ``triangular_reco`` is the detector-level one, ``triangular_ensemble`` that of the mean over the trainings,
        whose interval knows the fluctuation of the events only.
        """
        records = []
        trainings = {name: len(next(iter(scores.values())).nominal) for name, scores in self.at("truth").items()}
        spectra = max(map(len, self.found.values()))
        for (level, estimate), scores in self.found.items():
            # A mean over fewer spectra than the others' is not to be compared with them.
            named = {f"{METRICS[level]}_mean": _mean(list(scores.values()))} if len(scores) == spectra else {}
            named |= {f"{METRICS[level]}/{name}": score for name, score in scores.items()}
            for metric, score in named.items():
                value, low, high = self.interval(score)
                numbers = {"value": value, "low": low, "high": high, "floor": score.floor, "n": self.events[level]}
                about = {"analysis": "unfolding", "sample": sample, "model": estimate, "seeds": trainings[estimate]}
                records.append(Metric(metric=metric, **numbers, **about))
        return records


def _mean(scores: Sequence[Score]) -> Score:
    floors = [score.floor for score in scores]
    floor = None if None in floors else float(np.mean(floors))
    return Score(np.mean([s.nominal for s in scores], 0), np.mean([s.replicas for s in scores], 0), floor)


def score(
    problem: Problem, truth: Pairs, spectra: Sequence[Spectra], weights: dict[str, np.ndarray], seed: int
) -> Scores:
    """Hold every estimate against the truth, and what it predicts at detector level against the data.

    Estimates are the methods, the simulation as it is (prior) and the data as they are (no unfolding), which have no
    score where the levels' bins differ. Events of all samples are drawn with replacement; networks are kept, IBU is
    run again.

    Args:
        problem: The samples.
        truth: The data with their truth.
        spectra: Those of one observable.
        weights: Event weights of the unbinned methods at the chosen iteration, shape (S, n).
        seed: Fixes all random numbers.
    """
    parts = (problem.simulation.weights, truth.weights, problem.background.weights)
    strata = np.repeat([0, 1, 2], [len(part) for part in parts])
    ends = np.cumsum([len(part) for part in parts])[:-1]
    blocks = []
    for block in range(REPLICAS // BLOCK):
        drawn = np.split(draw_counts(strata, replicas=BLOCK, seed=seed_for(seed, block)), ends)
        blocks.append([_resample(one, problem, truth, weights, drawn) for one in spectra])
    bases = {("truth", PRIOR): problem.simulation.weights}
    bases |= {("truth", method): np.median(rows, axis=0) for method, rows in weights.items()}
    bases |= {("ensemble", method): rows.mean(0) for method, rows in weights.items()}
    effective = {which: effective_events(base * problem.simulation.pass_truth) for which, base in bases.items()}
    independent = effective_events(truth.true_weights)
    found: dict[tuple[Scored, str], dict[str, Score]] = {}
    for one, resampled in zip(spectra, zip(*blocks, strict=True), strict=True):
        populated = int(((one.first.prior.values + one.truth.values) > 0).sum())
        for which, nominal in _nominal(one).items():
            floor = 1e3 * triangular_floor(populated, effective[which], independent) if which in effective else None
            replicas = np.concatenate([part[which] for part in resampled])
            found.setdefault(which, {})[one.spectrum.name] = Score(nominal, replicas, floor)
    true, seen = int(truth.pass_truth.sum()), int(truth.pass_reco.sum())
    return Scores(found, {"truth": true, "reco": seen, "ensemble": true}, seed)


def discriminator(estimate: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The triangular discriminator ×10³; contents that a subtraction made negative count as empty."""
    return 1e3 * triangular(np.maximum(estimate, 0), np.maximum(target, 0))


def _nominal(spectra: Spectra) -> dict[tuple[Scored, str], np.ndarray]:
    """Discriminators of every estimate, shape (S,)."""
    first, truth, found = spectra.first, spectra.truth.values, {}
    for method, result in spectra.results.items():
        chosen = spectra.chosen[method]
        found["truth", method] = discriminator(result.nominal[:, chosen], truth)
        if len(result.nominal) > 1:
            found["ensemble", method] = discriminator(result.nominal[:, chosen].mean(0, keepdims=True), truth)
        found["reco", method] = discriminator(result.refolded["nominal"][:, chosen], first.measured.values)
    found["truth", PRIOR] = discriminator(first.prior.values[None], truth)
    found["reco", PRIOR] = discriminator(first.folded.values[None], first.measured.values)
    if spectra.spectrum.same_bins:
        found["truth", NONE] = discriminator(first.measured.values[None], truth)
    return found


def _resample(
    spectra: Spectra, problem: Problem, data: Pairs, weights: dict[str, np.ndarray], counts: Sequence[np.ndarray]
) -> dict[tuple[Scored, str], np.ndarray]:
    """The same on the replicas, shape (B, S), from how often each simulated, data and background event is drawn."""
    spectrum, simulation = spectra.spectrum, problem.simulation
    size = {at: spectrum.size(at) for at in LEVELS}
    cells = {"truth": spectrum.cells(simulation.truth, "truth"), "reco": spectrum.cells(simulation.reco, "reco")}
    passed = {"truth": simulation.pass_truth, "reco": simulation.pass_reco}

    def reweighted(rows: np.ndarray, at: At) -> np.ndarray:
        """Contents of all cells, shape (B, S, cells)."""
        sums = [binned_sums(cells[at], row * passed[at], size[at], counts[0]) for row in rows]
        return np.stack(sums, 1)

    drawn = {
        "truth": binned_sums(spectrum.cells(data.truth, "truth"), data.true_weights, size["truth"], counts[1]),
        "reco": binned_sums(spectrum.cells(data.reco, "reco"), data.seen_weights, size["reco"], counts[1]),
    }
    background = problem.background
    expected = spectrum.cells(background.values, "reco")
    drawn["reco"] = np.maximum(drawn["reco"] - binned_sums(expected, background.weights, size["reco"], counts[2]), 0)
    estimates = {}
    for method in spectra.results:
        if method in weights:
            unfolded = {at: reweighted(weights[method], at) for at in LEVELS}
            unfolded["ensemble"] = unfolded["truth"].mean(1, keepdims=True)
        else:
            unfolded = _again(cells, size, simulation, counts[0], drawn["reco"], spectra.chosen[method] + 1)
        estimates |= {(at, method): values for at, values in unfolded.items()}
    estimates |= {(at, PRIOR): reweighted(simulation.weights[None], at) for at in LEVELS}
    if spectra.spectrum.same_bins:
        estimates["truth", NONE] = drawn["reco"][:, None]
    drawn["ensemble"] = drawn["truth"]
    inner = {which: spectrum.inner("reco" if which == "reco" else "truth") for which in METRICS}
    return {
        (which, estimate): discriminator(values[..., inner[which]], drawn[which][:, None, inner[which]])
        for (which, estimate), values in estimates.items()
    }


def _again(
    cells: dict[At, np.ndarray],
    size: dict[At, int],
    simulation: Pairs,
    counts: np.ndarray,
    measured: np.ndarray,
    iterations: int,
) -> dict[At, np.ndarray]:
    """IBU of every replica: contents of all cells by level, shape (B, 1, cells)."""
    passed = {"pass_truth": simulation.pass_truth, "pass_reco": simulation.pass_reco}
    found: dict[At, list[np.ndarray]] = {"truth": [], "reco": []}
    for times, data in zip(counts.T, measured, strict=True):
        drawn = simulation.weights * times
        response = response_matrix(cells["truth"], cells["reco"], drawn, (size["reco"], size["truth"]), **passed)
        result = ibu(data, *response, iterations=iterations)
        found["truth"].append(result.unfolded[-1:])
        found["reco"].append(result.refolded[-1:])
    return {at: np.stack(rows) for at, rows in found.items()}
