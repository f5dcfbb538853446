"""A toy measurement of one smeared Gaussian and one smeared exponential, as tables on disk."""

from functools import partial

import numpy as np
import pytest

from hepgen.config import parse
from hepgen.table import Table, write_table

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
        sample = {"source": "arrays", "path": "toy.npy", "columns": {"alpha": 0, "mass_j1": 1, "mass_j2": 2}}
        return parse({"samples": {"simulation": sample, "nature": sample}, "unfolding": {**block, **changes}})

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


@pytest.fixture
def selected_toy(store):
    """As `toy`, with misses and fakes."""
    simulation, data = selected(toy_table(4000, 1)), selected(toy_table(4000, 2, nature=True))
    return store("simulation", simulation, chunks=2), store("nature", data)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """Paths of the simulation and of the data, 3000 events each."""
    folder = tmp_path_factory.mktemp("toy")
    simulation, data = toy_table(3000, 1), toy_table(3000, 2, nature=True)
    return write_chunks(folder, "simulation", simulation, chunks=2), write_chunks(folder, "nature", data)
