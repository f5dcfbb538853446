"""A small dijet analysis whose samples are drawn from known distributions."""

import awkward as ak
import numpy as np
import pytest

from hepgen.config import parse
from hepgen.table import Table, write_table

INPUTS = ["mass_light", "delta_mass", "tau21_light", "tau21_heavy"]


def draw_events(events, label, seed):
    """Events of one class: the signal is heavier, more two-pronged and has no mass continuum."""
    rng = np.random.default_rng(seed)
    heavy, tau21 = (400.0, 0.25) if label else (200.0, 0.6)
    columns = {
        "mass_light": rng.gamma(4, heavy / 8, events),
        "delta_mass": rng.gamma(4, heavy / 4, events),
        "tau21_light": np.clip(rng.normal(tau21, 0.15, events), 0, 1),
        "tau21_heavy": np.clip(rng.normal(tau21, 0.15, events), 0, 1),
        "mjj": rng.normal(3500, 150, events) if label else 2400 + rng.exponential(600, events),
        "label": np.full(events, label, np.int8),
    }
    return Table(columns, constituents=tuple(draw_jets(events, label, rng) for _ in range(2)))


def draw_jets(events, label, rng):
    """Jets of 20 constituents about one axis, or about two for signal."""
    shape = (events, 20)
    offset = 0.4 * rng.integers(0, 2, shape) if label else np.zeros(shape)
    fields = {
        "pt": rng.exponential(20, shape) + 0.1,
        "eta": rng.normal(0, 0.1, shape) + offset,
        "phi": rng.normal(0, 0.1, shape),
    }
    return ak.zip({name: ak.from_regular(ak.Array(values)) for name, values in fields.items()})


@pytest.fixture(scope="session")
def paths(tmp_path_factory):
    """Observable files by sample; the background comes in two chunks."""
    folder = tmp_path_factory.mktemp("observables")
    made = {"qcd": [(600, 0, 1), (600, 0, 2)], "signal": [(300, 1, 3)]}
    files = {sample: [folder / sample / f"{i}.h5" for i in range(len(chunks))] for sample, chunks in made.items()}
    for sample, chunks in made.items():
        for file, chunk in zip(files[sample], chunks, strict=True):
            write_table(file, [draw_events(*chunk)])
    return files


@pytest.fixture(scope="session")
def settings():
    """The content of the analysis's configuration file."""
    training = {"epochs": 3, "batch_size": 128}
    arrays = {"source": "arrays", "path": "unused.npy", "columns": {name: i for i, name in enumerate(["mjj", *INPUTS])}}
    return {
        "samples": {"qcd": arrays, "signal": arrays},
        "tagging": {
            "samples": ["qcd", "signal"],
            "seeds": [1, 2],
            "images": {"pixels": 16},
            "cuts": {"tau21_cut": {"observable": "tau21_heavy", "signal": "low"}},
            "models": {
                "pca": {"type": "pca", "inputs": INPUTS},
                "dense": {"type": "dense_autoencoder", "inputs": INPUTS, "training": training},
                "conv": {
                    "type": "conv_autoencoder",
                    "inputs": "images",
                    "settings": {"channels": [4, 8], "hidden": 16, "latent_dim": 4},
                    "training": training,
                },
                "trees": {"type": "gradient_boosting", "inputs": INPUTS, "settings": {"rounds": 20}},
            },
        },
    }


@pytest.fixture
def change(settings):
    """A configuration with some keys of its tagging block replaced."""

    def changed(**tagging):
        return parse({**settings, "tagging": {**settings["tagging"], **tagging}})

    return changed


@pytest.fixture(scope="session")
def config(settings):
    return parse(settings)
