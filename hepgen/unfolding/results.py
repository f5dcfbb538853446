"""All unfoldings of one method, binned: what uncertainties, tests and figures are made of."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from hepgen.config import Config, Unfolding
from hepgen.errors import HepgenError
from hepgen.metrics.histograms import Counts
from hepgen.plan import provenance
from hepgen.registry import look_up
from hepgen.storage import create_h5, open_h5
from hepgen.unfolding.dataset import Pairs, Problem, Tables, read_pairs, read_problem
from hepgen.unfolding.spectra import Spectrum, make_spectra
from hepgen.unfolding.unfold import KIND as UNFOLDED
from hepgen.unfolding.variations import Kind, Variation, runs, seeds_of, variations

__all__ = ["KIND", "Binned", "combine", "measured_by", "read_binned", "read_weights", "results_of"]

KIND = "measured"

# Of a spectrum, the arrays that there is one of for each variation.
MAPS = ("values", "refolded", "targets", "target_variances", "seen")


@dataclass(frozen=True)
class Binned:
    """What one method makes of one spectrum, in C inner cells at particle and E at detector level.

    Attributes:
        method: The method.
        spectrum: The bins.
        values: Unfolded contents by variation, for S seeds and K iterations of shape (S, K, C), in the data's yield.
        refolded: Detector-level contents that they predict, shape (S, K, E), without the background.
        targets: What variations of known truth should give, shape (C,).
        variances: Of the measurement, from events alone, shape (S, K, C): for unbinned methods those of the weighted
            simulation and of the data as if the detector were perfect, a lower bound; networks are not retrained.
        measured: The data without the background, in the E cells.
        prior: The simulation's truth as it is, in the data's yield.
        folded: The simulation's detector level as it is, in the data's yield.
        target_variances: Variances of the targets, shape (C,).
        seen: The detector level of the same pseudo-data, without fakes: contents and variances, shape (2, E).
    """

    method: str
    spectrum: Spectrum
    values: dict[str, np.ndarray]
    refolded: dict[str, np.ndarray]
    targets: dict[str, np.ndarray]
    variances: np.ndarray
    measured: Counts
    prior: Counts
    folded: Counts
    target_variances: dict[str, np.ndarray] = field(default_factory=dict)
    seen: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def nominal(self) -> np.ndarray:
        """The measurement, shape (S, K, C)."""
        return self.values["nominal"]

    def stack(self, kind: Kind, sample: str = "") -> np.ndarray:
        """All replicas or toys of a kind, shape (R, S, K, C); R is 0 where there are none."""
        found = []
        while (name := Variation(kind, len(found) + 1, sample).name) in self.values:
            found.append(self.values[name])
        return np.stack(found) if found else np.empty((0, *self.nominal.shape))


def combine(config: Config, method: str, tables: Tables, files: Sequence[Path], output: Path) -> None:
    """Bin all unfoldings of a method.

    Args:
        config: The run.
        method: An entry of ``unfolding.methods``.
        tables: Observables of all chunks of each sample, in order; the truth of the data, if any, is not read.
        files: Products of `hepgen.unfolding.unfold.unfold`, every variation and seed of the method.
        output: HDF5 file to write, read by `read_binned`.

    Raises:
        HepgenError: if a result is missing or was made from other samples or in other bins.
    """
    block = config.unfolding
    look_up("unfolding method", method, block.methods)
    found = results_of(block, method, files)
    problem = read_problem(block, tables)
    others = {name: read_pairs(block, tables, name) for name in block.systematics}
    spectra = make_spectra(block, problem.simulation.truth[problem.simulation.pass_truth])
    combiner = _Combiner(problem, others, spectra)
    for variation in variations(block, method):
        combiner.add(variation, [found[variation.name, seed] for seed in seeds_of(block, method, variation)])
    with create_h5(output, KIND, provenance(config, "unfolding_combine", method)) as file:
        file.attrs["method"] = method
        file.attrs["spectra"] = [spectrum.name for spectrum in spectra]
        for binned in combiner.finish(method):
            _write(file.create_group(binned.spectrum.name), binned)


def results_of(
    block: Unfolding, method: str, files: Sequence[Path], kinds: Collection[Kind] = ()
) -> dict[tuple[str, int], Path]:
    """The files of a method's unfoldings by variation and seed: of some kinds of variations, or of all.

    Raises:
        HepgenError: if one that the configuration asks for is missing.
    """
    given = {}
    for path in files:
        with open_h5(path, UNFOLDED) as file:
            if file.attrs["method"] == method:
                given[str(file.attrs["variation"]), int(file.attrs["seed"])] = path
    found = {}
    for _, variation, seed in runs(block, method):
        if kinds and variation.kind not in kinds:
            continue
        found[variation.name, seed] = given.get((variation.name, seed))
        if found[variation.name, seed] is None:
            msg = f"unfolding: no result of {method} ({variation.name}, seed {seed}) was given"
            raise HepgenError(f"{msg}; run `hepgen unfolding unfold` first")
    return found


def read_weights(path: Path, events: int) -> np.ndarray:
    """Event weights of an unfolding of so many simulated events, shape (K, n).

    Raises:
        HepgenError: if it was made from other samples.
    """
    with open_h5(path, UNFOLDED) as file:
        weights = file["weights"][:].astype(np.float64)
    if weights.shape[1] != events:
        msg = f"{path}: its weights do not belong to this simulation or these settings; unfold again"
        raise HepgenError(msg)
    return weights


class _Combiner:
    """Gathers the spectra of one method, variation by variation."""

    def __init__(self, problem: Problem, others: dict[str, Pairs], spectra: Sequence[Spectrum]) -> None:
        self.problem, self.others, self.spectra = problem, others, spectra
        self.values: list[dict[str, np.ndarray]] = [{} for _ in spectra]
        self.refolded: list[dict[str, np.ndarray]] = [{} for _ in spectra]
        self.targets: list[dict[str, np.ndarray]] = [{} for _ in spectra]
        self.target_variances: list[dict[str, np.ndarray]] = [{} for _ in spectra]
        self.seen: list[dict[str, np.ndarray]] = [{} for _ in spectra]
        self.variances: list[np.ndarray] = [np.empty(0)] * len(spectra)

    def add(self, variation: Variation, paths: Sequence[Path]) -> None:
        """The results of all seeds of a variation."""
        learnt = self.others[variation.sample] if variation.kind == "systematic" else self.problem.simulation
        parts = [self._of_file(variation, path, learnt) for path in paths]
        for number in range(len(self.spectra)):
            values, refolded, variances = (np.stack(part) for part in zip(*(p[number] for p in parts), strict=True))
            self.values[number][variation.name], self.refolded[number][variation.name] = values, refolded
            if variation.kind == "nominal":
                self.variances[number] = variances
        pseudo = self._pseudodata(variation, paths[0])
        for number, spectrum in enumerate(self.spectra if pseudo else []):
            target = spectrum.count(pseudo.truth, pseudo.true_weights, "truth")
            self.targets[number][variation.name], self.target_variances[number][variation.name] = target
            genuine = pseudo.seen_weights * pseudo.pass_truth
            self.seen[number][variation.name] = np.stack(spectrum.count(pseudo.reco, genuine, "reco"))

    def _of_file(self, variation: Variation, path: Path, learnt: Pairs) -> list[tuple[np.ndarray, ...]]:
        with open_h5(path, UNFOLDED) as file:
            if "weights" not in file:
                return [_read_spectrum(file, spectrum) for spectrum in self.spectra]
        weights = read_weights(path, len(learnt.weights))
        measured = self.problem.data.weights
        spread = np.square(measured).sum() / measured.sum()
        return [_weighted(spectrum, learnt, weights, spread) for spectrum in self.spectra]

    def _pseudodata(self, variation: Variation, path: Path) -> Pairs | None:
        """The events of known truth that a variation unfolds, in the data's yield."""
        if variation.kind == "alternative":
            return _in_yield(self.others[variation.sample], self.problem.signal)
        with open_h5(path, UNFOLDED) as file:
            weights = file["target"][:].astype(np.float64) if "target" in file else None
        return None if weights is None else self.problem.simulation._replace(weights=weights)

    def finish(self, method: str) -> list[Binned]:
        """Every spectrum, with the data and the simulation as they are."""
        problem = self.problem
        simulation = _in_yield(problem.simulation, problem.signal)
        found = []
        for number, spectrum in enumerate(self.spectra):
            measured = problem.measured(spectrum)
            found.append(
                Binned(
                    method,
                    spectrum,
                    self.values[number],
                    self.refolded[number],
                    self.targets[number],
                    self.variances[number],
                    Counts(*(part[spectrum.inner("reco")] for part in measured)),
                    spectrum.count(simulation.truth, simulation.true_weights, "truth"),
                    spectrum.count(simulation.reco, simulation.seen_weights, "reco"),
                    self.target_variances[number],
                    self.seen[number],
                )
            )
        return found


def _in_yield(pairs: Pairs, signal: float) -> Pairs:
    """Simulated events in the data's yield."""
    return pairs._replace(weights=pairs.weights * (signal / pairs.seen_weights.sum()))


def _read_spectrum(file: h5py.File, spectrum: Spectrum) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, refolded values and variances of binned unfolding, each (K, cells)."""
    shapes = spectrum.size("truth"), spectrum.size("reco")
    group = file.get(spectrum.name, {})
    if not group or (group["unfolded"].shape[1], group["refolded"].shape[1]) != shapes:
        msg = f"{file.filename}: {spectrum.name} was unfolded in other bins or not at all; unfold again"
        raise HepgenError(msg)
    true, seen = spectrum.inner("truth"), spectrum.inner("reco")
    values = group["unfolded"][:, true]
    variances = np.diagonal(group["covariance"][:], axis1=1, axis2=2)[:, true] if "covariance" in group else values
    return values, group["refolded"][:, seen], variances


def _weighted(
    spectrum: Spectrum, pairs: Pairs, weights: np.ndarray, spread: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of the reweighted simulation; `spread` is what the data's weights add to each event's variance."""
    true, seen = weights * pairs.pass_truth, weights * pairs.pass_reco
    causes, effects = spectrum.cells(pairs.truth, "truth"), spectrum.cells(pairs.reco, "reco")

    def bins(cells: np.ndarray, rows: np.ndarray, at: str) -> np.ndarray:
        return np.array([np.bincount(cells, w, spectrum.size(at)) for w in rows])[:, spectrum.inner(at)]

    values = bins(causes, true, "truth")
    return values, bins(effects, seen, "reco"), bins(causes, true**2, "truth") + spread * values


def _write(group: h5py.Group, binned: Binned) -> None:
    spectrum = binned.spectrum
    group.attrs["observables"] = list(spectrum.observables)
    group.attrs["columns"] = list(spectrum.columns)
    for at in ("truth", "reco"):
        for name, edges in zip(spectrum.observables, spectrum.edges(at), strict=True):
            group.create_dataset(f"edges/{at}/{name}", data=edges, track_times=False)
    for part in MAPS:
        for name, values in getattr(binned, part).items():
            group.create_dataset(f"{part}/{name}", data=values, track_times=False)
    for part in ("measured", "prior", "folded"):
        group.create_dataset(part, data=np.stack(getattr(binned, part)), track_times=False)
    group.create_dataset("variances", data=binned.variances, track_times=False)


def read_binned(path: Path) -> list[Binned]:
    """The spectra that `combine` wrote.

    Raises:
        HepgenError: if the file is damaged or of another kind.
    """
    with open_h5(path, KIND) as file:
        return [_read(str(file.attrs["method"]), file[str(name)]) for name in file.attrs["spectra"]]


def measured_by(method: str, files: Sequence[Path]) -> list[Binned]:
    """The spectra of one method among the products of `combine`.

    Raises:
        HepgenError: if it is not among them.
    """
    for path in files:
        with open_h5(path, KIND) as file:
            found = str(file.attrs["method"])
        if found == method:
            return read_binned(path)
    msg = f"unfolding: no measured spectra of {method} were given; run `hepgen unfolding combine` first"
    raise HepgenError(msg)


def _read(method: str, group: h5py.Group) -> Binned:
    observables = tuple(map(str, group.attrs["observables"]))
    edges = {at: tuple(group["edges"][at][name][:] for name in observables) for at in ("truth", "reco")}
    spectrum = Spectrum(
        group.name.strip("/"), observables, tuple(map(int, group.attrs["columns"])), edges["truth"], edges["reco"]
    )
    maps = {part: {name: item[:] for name, item in group.get(part, {}).items()} for part in MAPS}
    counts = (Counts(*group[part][:]) for part in ("measured", "prior", "folded"))
    parts = dict(zip(("measured", "prior", "folded"), counts, strict=True))
    return Binned(method, spectrum, variances=group["variances"][:], **maps, **parts)
