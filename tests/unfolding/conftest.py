"""A toy measurement of one smeared Gaussian and one smeared exponential, as tables on disk."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from hepgen.config import parse
from hepgen.metrics.histograms import Counts
from hepgen.storage import create_h5
from hepgen.table import Table, read_tables, write_table
from hepgen.unfolding.results import Binned, combine
from hepgen.unfolding.spectra import Spectrum
from hepgen.unfolding.unfold import unfold
from hepgen.unfolding.variations import runs

NAMES = ["alpha", "mass_j1"]


def toy_table(n, seed, *, nature=False):
    rng = np.random.default_rng(seed)
    alpha = rng.normal(0.25, 0.85, n) if nature else rng.normal(size=n)
    mass = rng.gamma(4.0, 4.5 if nature else 5.0, n)
    truth = {"alpha": alpha, "mass_j1": mass}
    reco = {"mass_j1": 0.85 * mass * np.exp(rng.normal(0, 0.15, n)), "alpha": alpha + rng.normal(0, 0.7, n)}
    return Table(reco, truth)


def selected(table):
    """The events with a large enough mass at either level, as a selection in pT leaves them."""
    passed = {"pass_reco": table.columns["mass_j1"] > 12.8, "pass_truth": table.truth["mass_j1"] > 15}
    columns = {name: np.where(passed["pass_reco"], values, np.nan) for name, values in table.columns.items()}
    truth = {name: np.where(passed["pass_truth"], values, np.nan) for name, values in table.truth.items()}
    return Table(columns | passed, truth)[passed["pass_reco"] | passed["pass_truth"]]


@pytest.fixture(scope="session")
def make_config():
    def make(**changes):
        training = {"epochs": 12, "batch_size": 500, "learning_rate": 5e-3, "patience": 4}
        block = {
            "simulation": "simulation",
            "data": "nature",
            "observables": NAMES,
            "bins": 20,
            "seeds": [1, 2],
            "methods": {
                "omnifold": {"type": "omnifold", "iterations": 2, "settings": {"hidden": [32]}, "training": training},
                "ibu": {"type": "ibu", "iterations": 3},
            },
        }
        columns = {"alpha": 0, "mass_j1": 1, "mass_j2": 2}
        sample = {"source": "arrays", "path": "toy.npy", "columns": columns, "truth": columns}
        samples = dict.fromkeys(("simulation", "nature", "other", "background", "data", "total"), sample)
        return parse({"samples": samples, "unfolding": {**block, **changes}})

    return make


def write_chunks(folder, name, table, chunks=1):
    bounds = np.linspace(0, len(table), chunks + 1).astype(int)
    paths = [folder / f"{name}_{i}.h5" for i in range(chunks)]
    for path, start, stop in zip(paths, bounds[:-1], bounds[1:], strict=True):
        write_table(path, [table[start:stop]])
    return paths


@pytest.fixture
def store(tmp_path):
    """Writes a table in one or more chunks and returns their paths."""
    return partial(write_chunks, tmp_path)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """Tables of the simulation, the data and another simulation, 3000 events each, none of them missed or fake."""
    folder = tmp_path_factory.mktemp("toy")
    simulation, other = (write_chunks(folder, n, toy_table(3000, s), 2) for n, s in (("simulation", 1), ("other", 3)))
    data = write_chunks(folder, "nature", toy_table(3000, 2, nature=True))
    return {"simulation": simulation, "nature": data, "other": other}


@pytest.fixture(scope="session")
def chain(make_config, tmp_path_factory):
    """All variations of two methods, unfolded and combined.

    What it made: ``config``, ``tables`` with misses and fakes, ``files`` (results), and ``measured`` by method.
    """
    folder = tmp_path_factory.mktemp("chain")
    samples = {"simulation": toy_table(1500, 1), "nature": toy_table(1200, 2, nature=True), "other": toy_table(1500, 3)}
    tables = {name: write_chunks(folder, name, selected(table)) for name, table in samples.items()}
    network = {"settings": {"hidden": [8]}, "training": {"epochs": 2, "batch_size": 250, "learning_rate": 1e-2}}
    methods = {"omnifold": {"type": "omnifold", "iterations": 2, **network}, "ibu": {"type": "ibu", "iterations": 3}}
    plane = {"alpha": {"edges": [-2, 0, 1]}, "mass_j1": {"edges": [15, 20, 60]}}
    settings = {"bins": 6, "planes": {"both": plane}, "replicas": 2, "toys": 2, "systematics": ["other"]}
    config = make_config(methods=methods, **settings)
    files = []
    for method, variation, seed in runs(config.unfolding):
        files.append(folder / f"{method}_{variation.name}_{seed}.h5")
        unfold(config, method, variation.name, seed, tables, files[-1], "cpu")
    measured = {name: folder / f"{name}.h5" for name in methods}
    for name, path in measured.items():
        combine(config, name, tables, files, path)
    return SimpleNamespace(config=config, tables=tables, files=files, measured=measured)


@pytest.fixture(scope="session")
def make_binned():
    """Unfolded contents, by variation of shape (seeds, iterations, cells), as the combination of all jobs has them."""

    def make(values, targets=None, variances=None):
        edges = (np.arange(values["nominal"].shape[-1] + 1.0),)
        counts = Counts(*np.broadcast_to(values["nominal"].mean((0, 1)), (2, len(edges[0]) - 1)))
        variances = np.broadcast_to(counts.values, values["nominal"].shape) if variances is None else variances
        spectrum = Spectrum("x", ("x",), (0,), edges, edges)
        return Binned("method", spectrum, values, {}, targets or {}, variances, counts, counts, counts)

    return make


@pytest.fixture(scope="session")
def make_measurement(make_config):
    """Runs a measurement with replicas and another simulation: IBU, and `weighted`, whose weights are drawn by chance.

    What it made: ``config``, ``tables``, ``files`` (results), and ``measured`` by method.
    """

    def make(folder, **changes):
        tables = {}
        for seed, name in enumerate(("simulation", "nature", "other"), start=1):
            table = selected(toy_table(1000, seed, nature=name == "nature"))
            further = {"beta": np.random.default_rng(seed).random(len(table)).astype(np.float32)}
            tables[name] = write_chunks(folder, name, Table(table.columns, table.truth | further))
        plane = {"alpha": {"edges": [-2, 0, 1]}, "mass_j1": {"edges": [15, 20, 60]}}
        methods = {"weighted": {"type": "omnifold", "iterations": 2}, "ibu": {"type": "ibu", "iterations": 2}}
        binning = {"alpha": {"edges": [-3, -1, -0.5, 0, 1]}, "mass_j1": {"edges": [15, 18, 22, 30, 60]}}
        settings = {"replicas": 3, "systematics": ["other"], "tests": False, "planes": {"both": plane}}
        config = make_config(methods=methods, binning=binning, **settings | changes)
        files, rng = [], np.random.default_rng(3)
        for method, variation, seed in runs(config.unfolding):
            files.append(folder / f"{method}_{variation.name}_{seed}.h5")
            if method == "ibu":
                unfold(config, method, variation.name, seed, tables, files[-1])
                continue
            learnt = variation.sample or "simulation"
            with create_h5(files[-1], "unfolded") as file:
                file.attrs.update(method=method, variation=variation.name, seed=seed)
                file["weights"] = rng.gamma(4, 0.25, (2, len(read_tables(tables[learnt], unseen=True)))).astype("f4")
        measured = {name: folder / f"{name}.h5" for name in methods}
        for name, path in measured.items():
            combine(config, name, tables, files, path)
        return SimpleNamespace(folder=folder, config=config, tables=tables, files=files, measured=measured)

    return make


@pytest.fixture(scope="session")
def measurement(make_measurement, tmp_path_factory):
    """A measurement with 3 replicas of either sample, 2 seeds, another simulation and a plane."""
    return make_measurement(tmp_path_factory.mktemp("measurement"))
