"""Compare all unfolding methods with the truth, the prior and no unfolding at all."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hepgen.config import Config, Unfolding
from hepgen.errors import HepgenError
from hepgen.metrics.divergences import effective_events, triangular, triangular_floor
from hepgen.metrics.intervals import Interval, bootstrap, interval
from hepgen.metrics.record import Metric, write_metrics
from hepgen.plots.figures import Curves, Points, write_figure
from hepgen.provenance import seed_for
from hepgen.unfolding.dataset import Pairs, Problem, Tables, read_pairs, read_problem
from hepgen.unfolding.figures import (
    Spectra,
    Unfolded,
    has_truth,
    iterations_figure,
    spectra_figure,
    triangular_figure,
    weights_figure,
)
from hepgen.unfolding.ibu import ibu, response_matrix
from hepgen.unfolding.iterations import choose
from hepgen.unfolding.results import Binned, read_binned, read_weights, results_of
from hepgen.unfolding.spectra import Spectrum

__all__ = ["evaluate"]

REPLICAS = 100
PRIOR, NONE = "prior", "no_unfolding"


def evaluate(config: Config, tables: Tables, measured: Sequence[Path], files: Sequence[Path], output: Path) -> None:
    """Write ``metrics.json`` and the figures' numbers.

    The figure of merit is the triangular discriminator ×10³ between the unfolded and the true spectrum of the
    data, both of unit area within the bins (`hepgen.unfolding.spectra`), beside that of the prior and
    of the data as measured, and the floor of two independent samples where the estimate and the truth are such.
    The truth is that of all data events that pass at particle level, seen or not. Data without a truth are not scored.

    Args:
        config: The run.
        tables: Observables of all chunks of each sample, in order.
        measured: Products of `hepgen.unfolding.results.combine`, one for each method.
        files: Products of `hepgen.unfolding.unfold.unfold` of the measurement, every method and seed.
        output: Folder to write into.

    Raises:
        HepgenError: if the samples are unfit or do not belong to the results.
    """
    block = config.unfolding
    problem = read_problem(block, tables)
    truth = read_pairs(block, tables, block.data) if has_truth(config) else None
    binned = _by_method(block, measured)
    chosen = {method: choose(spectra) for method, spectra in binned.items()}
    weights = {
        method: _nominal_weights(block, method, files, chosen[method], len(problem.simulation.weights))
        for method in block.methods
        if block.methods[method].type != "ibu"
    }
    spectra = [_side_by_side([binned[m][i] for m in binned], truth) for i in range(len(next(iter(binned.values()))))]
    figures = {f"unfolded_{s.spectrum.name}": spectra_figure(s, chosen, block) for s in spectra if s.one_dimensional}
    metrics = []
    if truth:
        single = [s for s in spectra if s.one_dimensional]
        scores = _Scores(block, problem, truth, weights, single, chosen, seed_for(config.seed, "unfolding_evaluate"))
        metrics += scores.metrics()
        figures["triangular"] = scores.figure()
        figures["iterations"] = _iterations(single, scores)
    if weights:
        base = problem.simulation.true_weights
        figures["weights"] = weights_figure({m: _mean_one(w[:, base > 0]) for m, w in weights.items()})
    write_metrics(output / "metrics.json", metrics)
    for name, figure in figures.items():
        write_figure(output / "figures" / f"{name}.json", figure)


def _by_method(block: Unfolding, files: Sequence[Path]) -> dict[str, list[Binned]]:
    found = {spectra[0].method: spectra for spectra in map(read_binned, files)}
    missing = [name for name in block.methods if name not in found]
    if missing:
        msg = f"unfolding.methods: no result of {', '.join(missing)} was given; run `hepgen unfolding combine` first"
        raise HepgenError(msg)
    return {name: found[name] for name in block.methods}


def _nominal_weights(block: Unfolding, method: str, files: Sequence[Path], iteration: int, events: int) -> np.ndarray:
    """The measurement's event weights of all seeds, shape (S, n)."""
    found = results_of(block, method, files, nominal=True)
    return np.stack([read_weights(path, events)[iteration] for path in found.values()])


def _side_by_side(results: Sequence[Binned], truth: Pairs | None) -> Spectra:
    """One spectrum of all methods, with the truth of the data."""
    first = results[0]
    known = first.spectrum.count(truth.truth, truth.true_weights, "truth") if truth else None
    methods = {r.method: Unfolded(r.nominal, r.variances, r.refolded["nominal"]) for r in results}
    return Spectra(first.spectrum, known, first.measured, first.prior, first.folded, methods)


def _mean_one(weights: np.ndarray) -> np.ndarray:
    return weights / weights.mean(1, keepdims=True)


class _Scores:
    """Discriminators ×10³ of every estimate, at truth and at detector level, with intervals.

    Events of both samples are drawn with replacement; OmniFold's networks are kept, IBU is run again.
    """

    def __init__(
        self,
        block: Unfolding,
        problem: Problem,
        truth: Pairs,
        weights: dict[str, np.ndarray],
        spectra: list[Spectra],
        chosen: dict[str, int],
        seed: int,
    ) -> None:
        self.block, self.problem, self.truth, self.seed = block, problem, truth, seed
        self.weights, self.spectra, self.chosen = weights, spectra, chosen
        self.cells = [_cells(s.spectrum, problem, truth) for s in spectra]
        self.seeds = {m: len(result.values) for m, result in spectra[0].methods.items()}
        estimates = {m: [[*self._nominal(s, m)] for s in spectra] for m in self.seeds}
        estimates[PRIOR] = [
            [_thousand(s.prior.values, s.truth.values), _thousand(s.folded.values, s.measured.values)] for s in spectra
        ]
        estimates[NONE] = [[_not_unfolded(s.spectrum, s.measured.values, s.truth.values), 0.0] for s in spectra]
        # By estimate: (observables, levels, S).
        self.nominal = {m: np.reshape(v, (len(spectra), 2, -1)) for m, v in estimates.items()}
        split = np.cumsum([v.shape[-1] for v in self.nominal.values()])[:-1]
        parts = (problem.simulation.weights, truth.weights, problem.background.weights)
        strata = np.repeat([0, 1, 2], [len(part) for part in parts])
        replicas = bootstrap(self._resampled, strata, replicas=REPLICAS, seed=seed)
        self.replicas = dict(zip(self.nominal, np.split(replicas, split, axis=-1), strict=True))

    def _nominal(self, spectra: Spectra, method: str) -> tuple[np.ndarray, np.ndarray]:
        result, chosen = spectra.methods[method], self.chosen[method]
        return (
            _thousand(result.values[:, chosen], spectra.truth.values),
            _thousand(result.refolded[:, chosen], spectra.measured.values),
        )

    def _resampled(self, counts: np.ndarray) -> np.ndarray:
        """Discriminators of one bootstrap replica, shape (observables, levels, all trainings of all estimates)."""
        problem = self.problem
        ends = np.cumsum([len(problem.simulation.weights), len(self.truth.weights)])
        simulated, measured, expected = np.split(counts, ends)
        base = problem.simulation.weights * simulated
        drawn = self.truth.weights * measured
        background = problem.background.weights * expected
        final = {m: w * simulated for m, w in self.weights.items()}
        return np.array([self._replica(index, base, drawn, background, final) for index in range(len(self.spectra))])

    def _replica(
        self, index: int, base: np.ndarray, drawn: np.ndarray, background: np.ndarray, final: dict[str, np.ndarray]
    ) -> list[np.ndarray]:
        spectrum, cells, data = self.spectra[index].spectrum, self.cells[index], self.truth
        true, seen = self.problem.simulation.pass_truth, self.problem.simulation.pass_reco
        size = {at: spectrum.size(at) for at in ("truth", "reco")}
        inner = {at: spectrum.inner(at) for at in ("truth", "reco")}
        truth = np.bincount(cells.data_truth, drawn * data.pass_truth, size["truth"])
        measured = np.bincount(cells.data_reco, drawn * data.pass_reco, size["reco"])
        measured = np.maximum(measured - np.bincount(cells.background, background, size["reco"]), 0)
        levels: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for method, trainings in self.seeds.items():
            if method in final:
                levels[0].extend(np.bincount(cells.truth, w * true, size["truth"]) for w in final[method])
                levels[1].extend(np.bincount(cells.reco, w * seen, size["reco"]) for w in final[method])
            else:
                passed = {"pass_truth": true, "pass_reco": seen}
                response = response_matrix(cells.truth, cells.reco, base, (size["reco"], size["truth"]), **passed)
                result = ibu(measured, *response, iterations=self.chosen[method] + 1)
                levels[0].extend([result.unfolded[-1]] * trainings)
                levels[1].extend([result.refolded[-1]] * trainings)
        levels[0].append(np.bincount(cells.truth, base * true, size["truth"]))
        levels[1].append(np.bincount(cells.reco, base * seen, size["reco"]))
        found = [
            [*_thousand(np.array(estimates)[:, inner[at]], target[inner[at]])]
            for estimates, target, at in zip(levels, (truth, measured), ("truth", "reco"), strict=True)
        ]
        found[0].append(_not_unfolded(spectrum, measured[inner["reco"]], truth[inner["truth"]]))
        return [found[0], [*found[1], 0.0]]

    def floor(self, index: int, estimate: str) -> float:
        """Floor ×10³ of an estimate made of simulated events, in the bins that the data or the prior populate."""
        simulation, data = self.problem.simulation, self.truth
        used = simulation.weights if estimate == PRIOR else np.median(self.weights[estimate], axis=0)
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
        data = self.truth
        events = [int(passed.sum()) for passed in (data.pass_truth, data.pass_reco)]
        records = []
        for estimate in self.nominal:
            seeds = self.seeds.get(estimate, 1)
            common = {"analysis": "unfolding", "sample": self.block.data, "model": estimate, "seeds": seeds}
            for level, metric in enumerate(("triangular", "triangular_reco")[: 1 if estimate == NONE else 2]):
                names = [f"{metric}_mean", *(f"{metric}/{s.spectrum.name}" for s in self.spectra)]
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
            self.block,
            self.chosen,
            {estimate: [self.interval(estimate, 0, index) for index in indices] for estimate in self.nominal},
            [self.floor(index, PRIOR) for index in indices],
        )


class _Cells(NamedTuple):
    """The cell of every event of the simulation, of the data and of the background."""

    truth: np.ndarray
    reco: np.ndarray
    data_truth: np.ndarray
    data_reco: np.ndarray
    background: np.ndarray


def _cells(spectrum: Spectrum, problem: Problem, data: Pairs) -> _Cells:
    simulation = problem.simulation
    return _Cells(
        spectrum.cells(simulation.truth, "truth"),
        spectrum.cells(simulation.reco, "reco"),
        spectrum.cells(data.truth, "truth"),
        spectrum.cells(data.reco, "reco"),
        spectrum.cells(problem.background.values, "reco"),
    )


def _not_unfolded(spectrum: Spectrum, measured: np.ndarray, truth: np.ndarray) -> float:
    """The discriminator of the data as measured; NaN-free only where both levels have the same bins."""
    same = all(np.array_equal(a, b) for a, b in zip(spectrum.truth, spectrum.reco, strict=True))
    return float(_thousand(np.maximum(measured, 0), truth)) if same else 1e3


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
