"""The deliverable of an unbinned method: simulated particle-level events, weighted so that they are the data's."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import awkward as ak
import h5py
import numpy as np
from pydantic import BaseModel, ConfigDict

from hepgen.config import Config, rising
from hepgen.errors import HepgenError
from hepgen.expressions import Expression
from hepgen.metrics.histograms import Counts
from hepgen.observables import describe
from hepgen.plan import provenance
from hepgen.registry import look_up, unknown_name
from hepgen.storage import Columns, create_h5, open_h5
from hepgen.table import Table, read_tables
from hepgen.unfolding.dataset import Tables
from hepgen.unfolding.iterations import choose
from hepgen.unfolding.results import Binned, measured_by, read_weights, results_of
from hepgen.unfolding.spectra import Spectrum
from hepgen.unfolding.uncertainties import Budget, budget
from hepgen.unfolding.variations import MEASURED, Variation, seeds_of, variations

__all__ = ["KIND", "About", "Axis", "Bundle", "Quantity", "chosen_by", "read_bundle", "write_bundle"]

KIND = "bundle"
NORMALISATION = (
    "the weights of a simulation add up to the number of particle-level events that the data stand for, measured or "
    "missed, without background; the luminosity is not known"
)
# Real numbers pack badly, whatever the effort; zeros of the replicas do at once.
PACKED = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True, "track_times": False}
CHUNK = 1 << 16

Axis = str | np.ndarray | Mapping[str, np.ndarray]


class Quantity(BaseModel):
    """A column of the events."""

    label: str
    unit: str
    unfolded: bool


class About(BaseModel):
    """What a bundle says of itself, under ``bundle`` in the JSON of its attribute ``provenance``.

    Attributes:
        version: Of the layout.
        method: The entry of ``unfolding.methods``.
        type: Its type.
        data: The sample that was unfolded.
        simulation: The sample that the events are of.
        systematics: Other simulations, each with events of its own.
        background: Samples that were subtracted.
        iteration: The one that the weights are of, from 1.
        iterations: How many were made.
        chosen_by: What told which to take.
        seeds: Those of the trainings.
        replicas: Bootstrap replicas of the data, and as many of the simulation.
        columns: The events' columns.
        phase_space: Jets and selection at particle level; all events pass.
        normalisation: What the sum of the weights means.
        spread: Where there are no replicas, what the data add to the variance of every weight of one: Σw² / Σw.
    """

    model_config = ConfigDict(extra="forbid")

    version: Literal[1] = 1
    method: str
    type: str
    data: str
    simulation: str
    systematics: list[str]
    background: list[str]
    iteration: int
    iterations: int
    chosen_by: str
    seeds: list[int]
    replicas: int
    columns: dict[str, Quantity] = {}
    phase_space: dict[str, Any]
    normalisation: str = NORMALISATION
    spread: float

    @property
    def samples(self) -> list[str]:
        """The simulation, then the others."""
        return [self.simulation, *self.systematics]

    def group(self, sample: str) -> str:
        """The group of the file that holds the events of a simulation."""
        return f"systematics/{sample}" if sample in self.systematics else "events"

    def weights(self, sample: str) -> list[str]:
        """The sets of weights of a simulation: the variations that were unfolded with it, the data themselves first."""
        numbers = range(1, self.replicas + 1)
        if sample in self.systematics:
            return [Variation("systematic", number, sample).name for number in (0, *numbers)]
        return ["nominal", *(Variation(kind, number).name for kind in ("data", "simulation") for number in numbers)]


def write_bundle(
    config: Config, method: str, tables: Tables, measured: Sequence[Path], files: Sequence[Path], output: Path
) -> int:
    """Write the simulated events that pass at particle level, with their columns there and weights of one iteration.

    Every simulation has a group: ``events``, and ``systematics/NAME``. It holds ``columns``, those that all simulations
    have, ``weight``, the mean over the seeds, and ``weights``, of shape (seeds, n) for the data and each replica.
    Replicas and seeds stay crossed, for only together they tell their covariances apart
    (`hepgen.unfolding.uncertainties.two_way`).

    Args:
        config: The run.
        method: An entry of ``unfolding.methods`` that gives weights.
        tables: Observables of all chunks of each sample, in order; the truth of the data, if any, is not read.
        measured: Products of `hepgen.unfolding.results.combine`, that of the method among them.
        files: Products of `hepgen.unfolding.unfold.unfold`: measurement, replicas and systematics of the method.
        output: HDF5 file to write, read by `read_bundle`.

    Returns:
        How many events of the simulation it holds.

    Raises:
        HepgenError: if the method gives no weights, or a result is missing or was made from other samples.
    """
    block = config.unfolding
    if look_up("unfolding method", method, block.methods).type == "ibu":
        msg = f"unfolding.methods.{method}: binned unfolding gives no event a weight; its spectra are for HEPData"
        raise HepgenError(f"{msg}: run `hepgen unfolding hepdata`")
    found = results_of(block, method, files, MEASURED)
    about = _about(config, measured_by(method, measured), tables)
    simulated = {sample: read_tables(tables[sample], unseen=True) for sample in about.samples}
    about.columns = _quantities(list(simulated.values()), block.observables)
    stamp = json.loads(provenance(config, "unfolding_bundle", method)) | {"bundle": about.model_dump(mode="json")}
    with create_h5(output, KIND, json.dumps(stamp, sort_keys=True)) as file:
        for sample, table in simulated.items():
            group, passed = file.create_group(about.group(sample)), table.passed("truth")
            Columns(group.create_group("columns")).append({name: table.truth[name][passed] for name in about.columns})
            weights = group.create_group("weights", track_order=True)
            for name in about.weights(sample):
                given = [read_weights(found[name, seed], len(table), about.iteration - 1) for seed in about.seeds]
                rows = np.stack(given)[:, passed]
                if "weight" not in group:
                    _store(group, "weight", rows.mean(0))
                _store(weights, name, rows)
        return len(file["events/weight"])


def _about(config: Config, spectra: Sequence[Binned], tables: Tables) -> About:
    block, method = config.unfolding, spectra[0].method
    sample = config.samples[block.simulation]
    data = read_tables(tables[block.data]).weights(f"unfolding.data {block.data!r}")
    made = [variation for variation in variations(block, method) if variation.kind in MEASURED]
    return About(
        method=method,
        type=block.methods[method].type,
        data=block.data,
        simulation=block.simulation,
        systematics=list(dict.fromkeys(variation.sample for variation in made if variation.sample)),
        background=block.background,
        iteration=choose(spectra) + 1,
        iterations=spectra[0].nominal.shape[1],
        chosen_by=chosen_by(spectra),
        seeds=seeds_of(block, method, made[0]),
        replicas=sum(variation.kind == "data" for variation in made),
        phase_space={
            "jets": config.jets_of(block.simulation).model_dump(mode="json") if sample.jets else None,
            "sample": sample.model_dump(mode="json", exclude={"path", "chunks", "jets"}, exclude_none=True),
        },
        spread=float(np.square(data).sum() / data.sum()),
    )


def chosen_by(spectra: Sequence[Binned]) -> str:
    """What told which iteration of a method to take, in words."""
    toys = len(spectra[0].stack("toy"))
    return f"{toys} pseudo-experiments" if toys else "the configuration, for want of pseudo-experiments"


def _quantities(tables: Sequence[Table], unfolded: Sequence[str]) -> dict[str, Quantity]:
    """The particle-level columns that all tables have."""
    shared = [name for name in tables[0].truth if all(name in table.truth for table in tables)]
    known = {name: describe(name) for name in shared}
    return {name: Quantity(label=x.label, unit=x.unit, unfolded=name in unfolded) for name, x in known.items()}


def _store(group: h5py.Group, name: str, values: np.ndarray) -> None:
    """Weights of n events in single precision, in chunks of one seed each."""
    chunks = (*(1,) * (values.ndim - 1), min(values.shape[-1], CHUNK))
    group.create_dataset(name, data=values.astype(np.float32), chunks=chunks, **PACKED)


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk; one set of weights at a time is in memory.

    Attributes:
        path: The file.
        about: What it says of itself.
    """

    path: Path
    about: About

    def columns(self, sample: str | None = None) -> dict[str, np.ndarray]:
        """The particle-level columns of the events of the simulation, or of another one, each of shape (n,)."""
        with open_h5(self.path, KIND) as file:
            return Columns(file[self.about.group(sample or self.about.simulation)]["columns"]).read()

    def histogram(
        self,
        observables: Axis | list[Axis],
        edges: Sequence[float] | list[Sequence[float]],
        *,
        normalised: bool = False,
    ) -> Budget:
        """The unfolded spectrum of an observable, or of several together, with its covariance by source.

        Bins hold their lower edge; events outside, or where an observable is not a number, are in none.

        Args:
            observables: An expression of the columns (`hepgen.expressions`), or values for all events, shape (n,);
                where there are systematics, such values by name of the simulation. Of a list of these, the cells are
                those of all together, in the order of a C array.
            edges: Rising bin edges; a list of these for a list.
            normalised: Whether to divide by the contents of all bins, whose errors are propagated to first order, and
                by the bins' sizes; the shifts by source are then left out.

        Raises:
            HepgenError: if an observable is unknown or does not fit the events, no event is in the bins, or the file
                is damaged.
        """
        if not isinstance(observables, list):
            observables, edges = [observables], [edges]
        spectrum = _spectrum(observables, edges)
        values: dict[str, np.ndarray] = {}
        with open_h5(self.path, KIND) as file:
            for sample in self.about.samples:
                group, columns = file[self.about.group(sample)], self.columns(sample)
                points = np.stack([self._values(x, sample, columns) for x in observables], axis=1)
                cells = spectrum.cells(points, "truth")
                for name in self.about.weights(sample):
                    weights = group["weights"][name][:].astype(np.float64)
                    values[name] = _counts(spectrum, cells, weights)
                    if name == "nominal":
                        squares = _counts(spectrum, cells, weights**2)
        if not values["nominal"].any():
            msg = f"{self.path}: no event lies in these bins of {spectrum.name}"
            raise HepgenError(msg)
        found = budget(_binned(self.about, spectrum, values, squares), 0)
        return _of_unit_area(found, spectrum) if normalised else found

    def _values(self, observable: Axis, sample: str, columns: dict[str, np.ndarray]) -> np.ndarray:
        """An observable of the events of a simulation, shape (n,)."""
        if isinstance(observable, str):
            expression = Expression(observable)
            for name in sorted(expression.names - columns.keys()):
                raise unknown_name("column of the bundle", name, columns)
            found = expression(columns)
        else:
            given = observable if isinstance(observable, Mapping) else {self.about.simulation: observable}
            if sample not in given:
                msg = f"histogram: no values of the observable for the events of {sample!r} were given"
                raise HepgenError(f"{msg}; give them by simulation: {', '.join(self.about.samples)}")
            found = given[sample]
        values, events = np.asarray(ak.to_numpy(found), np.float64), len(next(iter(columns.values())))
        if values.shape != (events,):
            msg = f"histogram: an observable has the shape {values.shape}; {sample!r} has {events} events"
            raise HepgenError(msg)
        return values


def _spectrum(observables: Sequence[Axis], edges: Sequence[Sequence[float]]) -> Spectrum:
    names = tuple(x if isinstance(x, str) else "the given values" for x in observables)
    cuts = tuple(np.asarray(x, np.float64) for x in edges)
    if len(cuts) != len(names) or not all(x.ndim == 1 and rising(x) for x in cuts):
        msg = f"histogram: {len(names)} observables need as many lists of bin edges, of two or more rising numbers each"
        raise HepgenError(msg)
    return Spectrum(" and ".join(names), names, tuple(range(len(names))), cuts, cuts)


def _counts(spectrum: Spectrum, cells: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Contents of the C inner cells for weights of shape (S, n), shape (S, 1, C)."""
    counts = [np.bincount(cells, row, spectrum.size("truth")) for row in weights]
    return np.array(counts)[:, None, spectrum.inner("truth")]


def _binned(about: About, spectrum: Spectrum, values: dict[str, np.ndarray], squares: np.ndarray) -> Binned:
    """One iteration, as `hepgen.unfolding.results.combine` bins all; nothing of it is at detector level."""
    nothing = Counts(np.empty(0), np.empty(0))
    return Binned(
        about.method, spectrum, values, {}, {}, squares + about.spread * values["nominal"], nothing, nothing, nothing
    )


def _of_unit_area(found: Budget, spectrum: Spectrum) -> Budget:
    sizes = np.prod(np.meshgrid(*map(np.diff, spectrum.truth), indexing="ij"), axis=0).ravel()
    total = found.central.sum()
    shares = found.central / total
    slopes = (np.eye(len(shares)) - shares[:, None]) / (total * sizes)[:, None]
    components = {source: slopes @ matrix @ slopes.T for source, matrix in found.components.items()}
    return Budget(shares / sizes, components, {})


def read_bundle(path: str | Path) -> Bundle:
    """Open a bundle and check its layout.

    Raises:
        HepgenError: if the file is missing, damaged, of another kind or of a layout that this version does not know.
    """
    with open_h5(path, KIND) as file:
        try:
            about = About.model_validate(json.loads(file.attrs["provenance"])["bundle"])
        except ValueError as error:
            msg = f"{path}: damaged, or a bundle of another version of hepgen ({' '.join(str(error).split())})"
            raise HepgenError(msg) from error
        for sample in about.samples:
            _check(path, about, sample, file[about.group(sample)])
    return Bundle(Path(path), about)


def _check(path: str | Path, about: About, sample: str, group: h5py.Group) -> None:
    """Raise `HepgenError` unless all columns and weights are there, of the same events."""
    events = group["weight"].shape
    shapes = {name: (group["columns"][name].shape, events) for name in about.columns}
    shapes |= {name: (group["weights"][name].shape, (len(about.seeds), *events)) for name in about.weights(sample)}
    wrong = [name for name, (found, expected) in shapes.items() if found != expected]
    if wrong:
        msg = f"{path}: damaged: {', '.join(wrong)} of {sample!r} have not one number for each event and seed"
        raise HepgenError(msg)
