"""A small generation whose dijets are drawn from known distributions."""

import copy
import math

import numpy as np
import pytest

from hepgen.config import parse
from hepgen.generation.sample import sample
from hepgen.generation.train import train
from hepgen.table import Table, write_table

FEATURES = ["pt_j1", "eta_j1", "mass_j1", "pt_j2", "eta_j2", "dphi_jj", "mass_j2"]


def draw_dijets(events, seed):
    """Back-to-back jets above 1.2 TeV with a falling spectrum and masses that grow with pT [GeV]."""
    rng = np.random.default_rng(seed)
    pt = 1200 + rng.exponential(200, events)
    pt2 = pt * (1 - rng.beta(1, 8, events))
    boost = rng.normal(0, 0.8, events)
    half = rng.normal(0, 0.5, events)
    columns = {
        "pt_j1": pt,
        "eta_j1": boost + half,
        "mass_j1": pt * rng.gamma(4, 0.03, events),
        "pt_j2": pt2,
        "eta_j2": boost - half,
        "dphi_jj": np.mod(math.pi + rng.laplace(0, 0.1, events), 2 * math.pi),
        "mass_j2": pt2 * rng.gamma(4, 0.03, events),
    }
    return Table({name: values.astype(np.float32) for name, values in columns.items()})


@pytest.fixture(scope="session")
def dijets():
    """Draws a table of dijets: (events, seed)."""
    return draw_dijets


@pytest.fixture(scope="session")
def paths(tmp_path_factory):
    """Observables of the sample in two chunks."""
    folder = tmp_path_factory.mktemp("observables")
    files = [folder / f"{chunk}.h5" for chunk in range(2)]
    for chunk, file in enumerate(files):
        write_table(file, [draw_dijets(2000, chunk)])
    return {"qcd": files}


@pytest.fixture
def settings():
    """The content of the run's configuration file, free to be changed."""
    small = {"layers": 2, "hidden": 16, "blocks": 1}
    sgd = {"optimizer": "sgd", "learning_rate": 0.01, "schedule": "constant", "batch_size": 128, "epochs": 1}
    return copy.deepcopy(
        {
            "jets": {"fat": {}},
            "samples": {"qcd": {"source": "pythia", "process": "qcd", "events": 4000, "chunks": 2, "jets": "fat"}},
            "generation": {
                "samples": ["qcd"],
                "features": FEATURES,
                "seeds": [1, 2],
                "events": 1500,
                "models": {
                    "flow": {"type": "rqs_flow", "settings": small, "training": {"epochs": 3, "batch_size": 128}},
                    "gan": {"type": "dijet_gan", "settings": {"pretraining": 5}, "training": sgd},
                },
            },
        }
    )


@pytest.fixture
def config(settings):
    return parse(settings)


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Trains and samples each model once for all tests that ask for it: (config, paths, model, seed) → two files."""
    folder = tmp_path_factory.mktemp("made")

    def make(config, paths, model, seed):
        files = folder / f"{model}_{seed}.safetensors", folder / f"{model}_{seed}.h5"
        if not files[1].exists():
            train(config, model, seed, paths, files[0], "cpu")
            sample(config, files[0], paths, files[1], "cpu")
        return files

    return make
