"""Compare all unfolding methods with the truth, the prior and no unfolding at all."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hepgen.config import Config
from hepgen.metrics.divergences import effective_events, triangular, triangular_floor
from hepgen.metrics.intervals import Interval, bootstrap, interval
from hepgen.metrics.record import Metric, write_metrics
from hepgen.plots.figures import Curves, Points, write_figure
from hepgen.provenance import seed_for
from hepgen.unfolding.dataset import read_data_pairs, read_simulation
from hepgen.unfolding.figures import (
    Spectra,
    iterations_figure,
    spectra_figure,
    triangular_figure,
    weights_figure,
)
from hepgen.unfolding.ibu import ibu, response_matrix
from hepgen.unfolding.results import Samples, read_results

__all__ = ["evaluate"]

REPLICAS = 100
PRIOR, NONE = "prior", "no_unfolding"


def evaluate(
    config: Config,
    simulation_paths: Sequence[Path],
    data_paths: Sequence[Path],
    unfolded_files: Sequence[Path],
    output_folder: Path,
) -> None:
    """Write ``metrics.json`` and the figures' numbers.

    The figure of merit is the triangular discriminator ×10³ between the unfolded and the true spectrum of the
    data, both of unit area within the bins (`hepgen.unfolding.dataset.bin_edges`), beside that of the prior and
    of the data as measured, and the floor of two independent samples where the estimate and the truth are such.
    The truth is that of all data events that pass at particle level, seen or not.

    Args:
        config: The run.
        simulation_paths: Observables of all chunks of the simulation, in order.
        data_paths: The same of the data, with their truth level.
        unfolded_files: Products of `hepgen.unfolding.unfold.unfold`, every method and seed.
        output_folder: Where to write.

    Raises:
        HepgenError: if the samples are unfit or do not belong to the results.
    """
    block = config.unfolding
    samples = Samples(block, read_simulation(block, simulation_paths), read_data_pairs(block, data_paths))
    weights, spectra = read_results(samples, unfolded_files)
    scores = _Scores(samples, weights, spectra, seed_for(config.seed, "unfolding_evaluate"))
    write_metrics(output_folder / "metrics.json", scores.metrics())
    figures = {f"unfolded_{s.name}": spectra_figure(s, block) for s in spectra}
    figures["triangular"] = scores.figure()
    figures["iterations"] = _iterations(spectra, scores)
    if weights:
        base = samples.simulation.true_weights
        figures["weights"] = weights_figure({m: _mean_one(w[:, -1][:, base > 0]) for m, w in weights.items()})
    for name, figure in figures.items():
        write_figure(output_folder / "figures" / f"{name}.json", figure)


def _mean_one(weights: np.ndarray) -> np.ndarray:
    return weights / weights.mean(1, keepdims=True)


class _Scores:
    """Discriminators ×10³ of every estimate, at truth and at detector level, with intervals.

    Events of both samples are drawn with replacement; OmniFold's networks are kept, IBU is run again.
    """

    def __init__(self, samples: Samples, weights: dict[str, np.ndarray], spectra: list[Spectra], seed: int) -> None:
        self.samples, self.weights, self.spectra, self.seed = samples, weights, spectra, seed
        self.seeds = {m: len(result.values) for m, result in spectra[0].methods.items()}
        estimates = {m: [[*self._nominal(s, m)] for s in spectra] for m in self.seeds}
        estimates[PRIOR] = [
            [_thousand(s.prior.values, s.truth.values), _thousand(s.folded.values, s.measured.values)] for s in spectra
        ]
        estimates[NONE] = [[_thousand(s.measured.values, s.truth.values), 0.0] for s in spectra]
        # By estimate: (observables, levels, S).
        self.nominal = {m: np.reshape(v, (len(spectra), 2, -1)) for m, v in estimates.items()}
        split = np.cumsum([v.shape[-1] for v in self.nominal.values()])[:-1]
        strata = np.repeat([0, 1], [len(samples.simulation.weights), len(samples.data.weights)])
        replicas = bootstrap(self._resampled, strata, replicas=REPLICAS, seed=seed)
        self.replicas = dict(zip(self.nominal, np.split(replicas, split, axis=-1), strict=True))

    @staticmethod
    def _nominal(spectra: Spectra, method: str) -> tuple[np.ndarray, np.ndarray]:
        result = spectra.methods[method]
        return (
            _thousand(result.values[:, -1], spectra.truth.values),
            _thousand(result.refolded[:, -1], spectra.measured.values),
        )

    def _resampled(self, counts: np.ndarray) -> np.ndarray:
        """Discriminators of one bootstrap replica, shape (observables, levels, all trainings of all estimates)."""
        simulated = len(self.samples.simulation.weights)
        base = self.samples.simulation.weights * counts[:simulated]
        drawn = self.samples.data.weights * counts[simulated:]
        final = {m: w[:, -1] * counts[:simulated] for m, w in self.weights.items()}
        return np.array([self._replica(index, base, drawn, final) for index in range(len(self.spectra))])

    def _replica(
        self, index: int, base: np.ndarray, drawn: np.ndarray, final: dict[str, np.ndarray]
    ) -> list[np.ndarray]:
        causes, effects, data_truth, data_reco = self.samples.bins[index]
        bins, data = len(self.samples.edges[index]) + 1, self.samples.data
        true, seen = self.samples.simulation.pass_truth, self.samples.simulation.pass_reco
        truth = np.bincount(data_truth, drawn * data.pass_truth, bins)
        measured = np.bincount(data_reco, drawn * data.pass_reco, bins)
        levels: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for method, trainings in self.seeds.items():
            if method in final:
                levels[0].extend(np.bincount(causes, w * true, bins) for w in final[method])
                levels[1].extend(np.bincount(effects, w * seen, bins) for w in final[method])
            else:
                response = response_matrix(causes, effects, base, bins, pass_truth=true, pass_reco=seen)
                result = ibu(measured, *response, iterations=self.samples.block.methods[method].iterations)
                levels[0].extend([result.unfolded[-1]] * trainings)
                levels[1].extend([result.refolded[-1]] * trainings)
        levels[0].extend([np.bincount(causes, base * true, bins), measured])
        levels[1].extend([np.bincount(effects, base * seen, bins), measured])
        return [
            _thousand(np.array(estimates)[:, 1:-1], target[1:-1])
            for estimates, target in zip(levels, (truth, measured), strict=True)
        ]

    def floor(self, index: int, estimate: str) -> float:
        """Floor ×10³ of an estimate made of simulated events, in the bins that the data or the prior populate."""
        simulation, data = self.samples.simulation, self.samples.data
        used = simulation.weights if estimate == PRIOR else np.median(self.weights[estimate][:, -1], axis=0)
        events = [effective_events(w) for w in (used * simulation.pass_truth, data.true_weights)]
        populated = (self.spectra[index].prior.values + self.spectra[index].truth.values) > 0
        return 1e3 * triangular_floor(int(populated.sum()), *events)

    def interval(self, estimate: str, level: int, index: int | slice) -> Interval:
        """One observable's value and interval, or those of the mean over a slice of observables."""
        nominal, replicas = self.nominal[estimate][index], self.replicas[estimate][:, index]
        if isinstance(index, slice):
            nominal, replicas = nominal.mean(0), replicas.mean(1)
        return interval(nominal[level], replicas[:, level], seed=self.seed)

    def metrics(self) -> list[Metric]:
        """Every discriminator as a record; ``triangular_reco`` is the detector-level one."""
        data = self.samples.data
        events = [int(passed.sum()) for passed in (data.pass_truth, data.pass_reco)]
        records = []
        for estimate in self.nominal:
            seeds = self.seeds.get(estimate, 1)
            common = {"analysis": "unfolding", "sample": self.samples.block.data, "model": estimate, "seeds": seeds}
            for level, metric in enumerate(("triangular", "triangular_reco")[: 1 if estimate == NONE else 2]):
                names = [f"{metric}_mean", *(f"{metric}/{s.name}" for s in self.spectra)]
                indices = [slice(None), *range(len(self.spectra))]
                for name, index, floor in zip(names, indices, self._floors(estimate, level), strict=True):
                    value, low, high = self.interval(estimate, level, index)
                    numbers = {"value": value, "low": max(low, 0.0), "high": high, "floor": floor, "n": events[level]}
                    records.append(Metric(metric=name, **numbers, **common))
        return records

    def _floors(self, estimate: str, level: int) -> list[float | None]:
        """The mean floor and that of every observable; None for estimates that share events with their target."""
        if level == 1 or not (estimate == PRIOR or estimate in self.weights):
            return [None] * (len(self.spectra) + 1)
        floors = [self.floor(index, estimate) for index in range(len(self.spectra))]
        return [float(np.mean(floors)), *floors]

    def figure(self) -> Points:
        """The truth-level discriminators side by side."""
        indices = range(len(self.spectra))
        return triangular_figure(
            self.samples.block,
            {estimate: [self.interval(estimate, 0, index) for index in indices] for estimate in self.nominal},
            [self.floor(index, PRIOR) for index in indices],
        )


def _thousand(estimate: np.ndarray, target: np.ndarray) -> np.ndarray:
    return 1e3 * triangular(np.maximum(estimate, 0), target)


def _iterations(spectra: list[Spectra], scores: _Scores) -> Curves:
    """Discriminators of every iteration, averaged over observables."""
    methods = spectra[0].methods
    detector = {m: np.mean([_thousand(s.methods[m].refolded, s.measured.values) for s in spectra], 0) for m in methods}
    truth = {m: np.mean([_thousand(s.methods[m].values, s.truth.values) for s in spectra], 0) for m in methods}
    start = [scores.nominal[PRIOR][:, level].mean() for level in (1, 0)]
    floor = float(np.mean([scores.floor(index, PRIOR) for index in range(len(spectra))]))
    return iterations_figure(detector, truth, (float(start[0]), float(start[1])), floor)
