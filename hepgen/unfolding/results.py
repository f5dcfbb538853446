"""All unfoldings of one method, binned: what uncertainties, tests and figures are made of."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
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
from hepgen.unfolding.spectra import At, Spectrum, make_spectra, read_bins, write_bins
from hepgen.unfolding.variations import UNFOLDED, Kind, Variation, runs, seeds_of, variations

__all__ = ["KIND", "Binned", "combine", "measured_by", "read_binned", "read_weights", "results_of"]

KIND = "measured"

# Of a spectrum, the arrays that there is one of for each variation, or each other simulation.
MAPS = ("values", "refolded", "targets", "target_variances", "seen", "others")


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
        others: The truth of other simulations as it is, in the data's yield: contents and variances, shape (2, C).
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
    others: dict[str, np.ndarray] = field(default_factory=dict)

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
        HepgenError: if a result is missing or was made from other samples or in other bins, or if a spectrum's bins
            hold no events of the data or the simulation.
    """
    block = config.unfolding
    look_up("unfolding method", method, block.methods)
    found = results_of(block, method, files)
    problem = read_problem(block, tables)
    made = variations(block, method)
    used = dict.fromkeys(variation.sample for variation in made if variation.sample)
    others = {name: read_pairs(block, tables, name) for name in used}
    spectra = make_spectra(block, problem.simulation.truth[problem.simulation.pass_truth])
    combiner = _Combiner(method, problem, others, spectra)
    for variation in made:
        combiner.add(variation, [found[variation.name, seed] for seed in seeds_of(block, method, variation)])
    with create_h5(output, KIND, provenance(config, "unfolding_combine", method)) as file:
        file.attrs["method"] = method
        file.attrs["spectra"] = [spectrum.name for spectrum in spectra]
        for binned in combiner.found:
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


def read_weights(path: Path, events: int, iteration: int | slice = slice(None)) -> np.ndarray:
    """Event weights of an unfolding of so many simulated events, shape (K, n), or of one iteration, shape (n,).

    Raises:
        HepgenError: if it was made from other samples.
    """
    with open_h5(path, UNFOLDED) as file:
        weights = file["weights"][iteration].astype(np.float64)
    if weights.shape[-1] != events:
        msg = f"{path}: its weights do not belong to this simulation or these settings; unfold again"
        raise HepgenError(msg)
    return weights


class _Combiner:
    """Gathers the spectra of one method, variation by variation, the measurement first."""

    def __init__(self, method: str, problem: Problem, others: dict[str, Pairs], spectra: Sequence[Spectrum]) -> None:
        self.problem, self.others, self.spectra = problem, others, spectra
        simulation = _in_yield(problem.simulation, problem.signal)
        self.found = [_empty(method, spectrum, problem, simulation) for spectrum in spectra]
        for name, pairs in others.items():
            other = _in_yield(pairs, problem.signal)
            for binned in self.found:
                binned.others[name] = np.stack(binned.spectrum.count(other.truth, other.true_weights, "truth"))
        self.cells: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def add(self, variation: Variation, paths: Sequence[Path]) -> None:
        """The results of all seeds of a variation."""
        parts = [self._of_file(variation, path) for path in paths]
        for number, of_seeds in enumerate(zip(*parts, strict=True)):
            values, refolded, variances = zip(*of_seeds, strict=True)
            binned = self.found[number]
            binned.values[variation.name], binned.refolded[variation.name] = np.stack(values), np.stack(refolded)
            if variation.kind == "nominal":
                self.found[number] = replace(binned, variances=np.stack(variances))
        pseudo = self._pseudodata(variation, paths[0])
        for binned in self.found if pseudo else []:
            target = binned.spectrum.count(pseudo.truth, pseudo.true_weights, "truth")
            binned.targets[variation.name], binned.target_variances[variation.name] = target
            genuine = pseudo.seen_weights * pseudo.pass_truth
            binned.seen[variation.name] = np.stack(binned.spectrum.count(pseudo.reco, genuine, "reco"))

    def _of_file(self, variation: Variation, path: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray | None]]:
        """Values, refolded values and, of the measurement, variances of every spectrum, each (K, cells)."""
        with open_h5(path, UNFOLDED) as file:
            if "weights" not in file:
                return [_read_spectrum(file, spectrum) for spectrum in self.spectra]
        sample = variation.sample if variation.kind == "systematic" else ""
        pairs = self.others[sample] if sample else self.problem.simulation
        if sample not in self.cells:
            levels = ((pairs.truth, "truth"), (pairs.reco, "reco"))
            self.cells[sample] = [tuple(s.cells(values, at) for values, at in levels) for s in self.spectra]
        weights, measured = read_weights(path, len(pairs.weights)), self.problem.data.weights
        # What the data's weights add to each event's variance.
        spread = np.square(measured).sum() / measured.sum()
        true, seen = weights * pairs.pass_truth, weights * pairs.pass_reco
        variances = true * (true + spread) if variation.kind == "nominal" else None
        return [
            (
                _bins(spectrum, "truth", causes, true),
                _bins(spectrum, "reco", effects, seen),
                None if variances is None else _bins(spectrum, "truth", causes, variances),
            )
            for spectrum, (causes, effects) in zip(self.spectra, self.cells[sample], strict=True)
        ]

    def _pseudodata(self, variation: Variation, path: Path) -> Pairs | None:
        """The events of known truth that a variation unfolds, in the data's yield."""
        if variation.kind == "alternative":
            return _in_yield(self.others[variation.sample], self.problem.signal)
        with open_h5(path, UNFOLDED) as file:
            weights = file["target"][:].astype(np.float64) if "target" in file else None
        return None if weights is None else self.problem.simulation._replace(weights=weights)


def _empty(method: str, spectrum: Spectrum, problem: Problem, simulation: Pairs) -> Binned:
    """A spectrum of the data and the simulation as they are, to be filled with what is unfolded."""
    measured = Counts(*(part[spectrum.inner("reco")] for part in problem.measured(spectrum)))
    prior = spectrum.count(simulation.truth, simulation.true_weights, "truth")
    folded = spectrum.count(simulation.reco, simulation.seen_weights, "reco")
    for sample, counts in (("data", measured), ("simulation", prior), ("simulation", folded)):
        if not counts.values.sum() > 0:
            msg = f"unfolding.binning: the {sample} has no events within the bins of {spectrum.name}; choose others"
            raise HepgenError(msg)
    return Binned(method, spectrum, {}, {}, {}, np.empty(0), measured, prior, folded)


def _in_yield(pairs: Pairs, signal: float) -> Pairs:
    """Simulated events in the data's yield."""
    return pairs._replace(weights=pairs.weights * (signal / pairs.seen_weights.sum()))


def _read_spectrum(file: h5py.File, spectrum: Spectrum) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """What binned unfolding left, as `_Combiner` gathers it."""
    group = file.get(f"spectra/{spectrum.name}", {})
    if "edges" not in group or not _same_bins(group, spectrum):
        msg = f"{file.filename}: {spectrum.name} was unfolded in other bins or not at all; unfold again"
        raise HepgenError(msg)
    true, seen = spectrum.inner("truth"), spectrum.inner("reco")
    variances = np.diagonal(group["covariance"][:], axis1=1, axis2=2)[:, true] if "covariance" in group else None
    return group["unfolded"][:, true], group["refolded"][:, seen], variances


def _same_bins(group: h5py.Group, spectrum: Spectrum) -> bool:
    names, edges = read_bins(group)
    pairs = (pair for at in edges for pair in zip(edges[at], spectrum.edges(at), strict=False))
    return names == spectrum.observables and all(np.array_equal(*pair) for pair in pairs)


def _bins(spectrum: Spectrum, at: At, cells: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Contents of the inner cells for weights of shape (K, n), shape (K, C)."""
    return np.array([np.bincount(cells, row, spectrum.size(at)) for row in weights])[:, spectrum.inner(at)]


def _write(group: h5py.Group, binned: Binned) -> None:
    spectrum = binned.spectrum
    group.attrs["columns"] = list(spectrum.columns)
    write_bins(group, spectrum)
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
    observables, edges = read_bins(group)
    spectrum = Spectrum(
        group.name.strip("/"), observables, tuple(map(int, group.attrs["columns"])), edges["truth"], edges["reco"]
    )
    maps = {part: {name: item[:] for name, item in group.get(part, {}).items()} for part in MAPS}
    counts = (Counts(*group[part][:]) for part in ("measured", "prior", "folded"))
    parts = dict(zip(("measured", "prior", "folded"), counts, strict=True))
    return Binned(method, spectrum, variances=group["variances"][:], **maps, **parts)
