"""Products of every kind, each in two files, and their numbers as flat arrays."""

import json
from types import SimpleNamespace

import awkward as ak
import h5py
import numpy as np
import pytest

from hepgen.events import Events, write_events
from hepgen.export import products
from hepgen.storage import create_h5
from hepgen.table import Table, write_table

ROWS = (31, 17)
LISTS = ("particles", "truth", "constituents_j1", "constituents_j2")


def draw_lists(rng, n, fields=("pt", "eta", "phi")):
    """Lists of 0 to 8 entries, the first of them empty."""
    counts = rng.integers(0, 9, n)
    counts[0] = 0
    values = {name: rng.uniform(0.1, 3, counts.sum()).astype(np.float32) for name in fields}
    return ak.unflatten(ak.zip(values), counts)


def write_some_events(path, n, seed, about):
    rng = np.random.default_rng(seed)
    label = {"label": rng.integers(0, 2, n).astype(np.int8)}
    write_events(path, [Events(draw_lists(rng, n), label)], about)


def write_simulated_events(path, n, seed, about):
    rng = np.random.default_rng(seed)
    particles, truth = (draw_lists(rng, n, ("pt", "eta", "phi", "mass")) for _ in range(2))
    write_events(path, [Events(particles, {"weight": rng.normal(size=n)}, truth)], about)


def write_observables(path, n, seed, about):
    rng = np.random.default_rng(seed)
    columns = {"mass_j1": rng.random(n, np.float32), "mjj": rng.random(n, np.float32), "weight": rng.random(n)}
    passed = {"pass_reco": rng.random(n) < 0.7, "pass_truth": rng.random(n) < 0.7}
    truth = {name: np.where(passed["pass_truth"], columns[name], np.nan) for name in ("mass_j1", "mjj")}
    write_table(path, [Table(columns | passed, truth)], about)


def write_jets(path, n, seed, about):
    rng = np.random.default_rng(seed)
    columns = {"mass_j1": rng.random(n, np.float32), "label": rng.integers(0, 2, n).astype(np.int8)}
    write_table(path, [Table(columns, {}, (draw_lists(rng, n), draw_lists(rng, n)))], about)


def write_generated(path, n, seed, about):
    with create_h5(path, "generated", about) as file:
        file["columns/mjj"] = np.random.default_rng(seed).random(n, np.float32)
        file.attrs["generation"] = json.dumps({"model": "flow", "seed": seed, "seconds": 1.5})
        file["history/train"] = np.ones(3)


def write_scores(path, n, seed, about, name="pca"):
    with create_h5(path, "scores", about) as file:
        file["score/default"], file["score/kl"] = np.random.default_rng(seed).random((2, n), np.float32)
        file.attrs.update(name=name, seed=seed, supervised=False, history="{}")


def write_unfolded(path, n, seed, about):
    with create_h5(path, "unfolded", about) as file:
        file["weights"] = np.random.default_rng(seed).random((3, n))
        file.attrs.update(method="omnifold", variation="nominal", seed=seed)


WRITERS = {
    "events": write_some_events,
    "simulated events": write_simulated_events,
    "observables": write_observables,
    "jets": write_jets,
    "generated": write_generated,
    "scores": write_scores,
    "unfolded": write_unfolded,
}


def numbers(path):
    """What a file holds, read without hepgen, under the names that exports give it."""
    found = {}
    with h5py.File(path) as file:
        for level, values in file.get("columns", {}).items():
            found[level] = values[:]
        if file.attrs["hepgen"] == "observables":
            found |= {f"truth_{name}": values[:] for name, values in file["truth"].items()}
        groups = dict(file) | {f"constituents_j{int(k) + 1}": g for k, g in file.get("constituents", {}).items()}
        for name in LISTS:
            if name in groups and "counts" in groups[name]:
                found[f"{name}_counts"] = groups[name]["counts"][:]
                found |= {f"{name}_{field}": values[:] for field, values in groups[name]["fields"].items()}
        if "score" in file:
            found["score"], found["score_kl"] = (file["score"][kind][:] for kind in ("default", "kl"))
        if "weights" in file:
            found |= {f"weight_{i + 1}": w for i, w in enumerate(file["weights"][:])}
        seed = json.loads(file.attrs["generation"])["seed"] if "generation" in file.attrs else file.attrs.get("seed")
    rows = len(next(iter(found.values())))
    return found if seed is None else found | {"seed": np.full(rows, seed)}


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Files that do not end where batches and pieces do."""
    for name, value in {"LISTS": 7, "ROWS": 11, "PIECE": 13}.items():
        monkeypatch.setattr(products, name, value)


@pytest.fixture
def write():
    """The functions that write a product of each kind: (path, rows, seed, provenance)."""
    return WRITERS


@pytest.fixture
def store(tmp_path):
    """Writes a product of a kind as two files: paths, and the flat arrays that the two hold together."""

    def make(kind):
        name = kind.replace(" ", "_")
        paths = [tmp_path / f"{name}_{index}.h5" for index in range(2)]
        for seed, (path, rows) in enumerate(zip(paths, ROWS, strict=True), start=5):
            WRITERS[kind](path, rows, seed, json.dumps({"card": {"name": kind}}))
        parts = [numbers(path) for path in paths]
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return SimpleNamespace(paths=paths, arrays=arrays, provenance=json.dumps({"card": {"name": kind}}))

    return make


@pytest.fixture(params=WRITERS)
def stored(request, store):
    """As `store`, for each kind in turn."""
    return store(request.param)


@pytest.fixture
def same_bits():
    """Checks that arrays have the names, types and bits of others."""

    def check(found, expected):
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            assert found[name].dtype == values.dtype, name
            assert found[name].tobytes() == values.tobytes(), name

    return check
