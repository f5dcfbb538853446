"""Jets from a table through training and drawing to the verdict, as images and as constituents."""

import awkward as ak
import numpy as np
import pytest

from hepgen.config import parse
from hepgen.generation.evaluate import evaluate
from hepgen.generation.figures import figure_names
from hepgen.generation.jets import jet_names
from hepgen.generation.sample import read_generated, sample
from hepgen.generation.train import train
from hepgen.metrics.record import read_metrics
from hepgen.table import Table, write_table

EVENTS, DRAWN = 400, 100
MODELS = {
    "pictures": {"type": "dcgan", "inputs": "images", "settings": {"channels": 4, "noise": 8}},
    "sets": {"type": "flow_matching", "inputs": "constituents", "settings": {"hidden": 8, "blocks": 1, "steps": 2}},
}


def draw_jets(dijets):
    """Dijets whose leading jets have three to eight particles in a cone of about 0.15 [GeV]."""
    rng = np.random.default_rng(1)
    counts = rng.integers(3, 9, EVENTS)
    eta, phi = 0.15 * rng.normal(size=(2, counts.sum()))
    particles = ak.zip({"pt": 1 + rng.exponential(100, counts.sum()), "eta": eta, "phi": phi})
    return Table(dijets(EVENTS, 1).columns, {}, (ak.unflatten(particles, counts),))


@pytest.fixture(scope="module")
def run(tmp_path_factory, dijets):
    """Configuration, generated events by model and the folder of the verdict on them."""
    folder = tmp_path_factory.mktemp("jets")
    training = {"training": {"epochs": 2, "batch_size": 64}}
    generation = {
        "samples": ["qcd"], "features": ["pt_j1"], "seeds": [1], "events": DRAWN,
        "images": {"pixels": 8, "width": 1.2}, "constituents": {"number": 6},
        "models": {name: entry | training for name, entry in MODELS.items()},
    }  # fmt: skip
    qcd = {"source": "pythia", "process": "qcd", "events": EVENTS, "jets": "fat"}
    config = parse({"jets": {"fat": {}}, "samples": {"qcd": qcd}, "generation": generation})
    paths = {"qcd": [folder / "table.h5"]}
    write_table(paths["qcd"][0], [draw_jets(dijets)])
    files = [folder / f"{name}.h5" for name in MODELS]
    for name, file in zip(MODELS, files, strict=True):
        train(config, name, 1, paths, folder / f"{name}.safetensors", "cpu")
        sample(config, folder / f"{name}.safetensors", paths, file, "cpu")
    evaluate(config, paths, files, folder / "out", [])
    return config, {generated.model: generated for generated in read_generated(files)}, folder / "out"


@pytest.mark.parametrize(("model", "most"), [("pictures", 64), ("sets", 6)])
def test_drawn_jets_are_particles_with_their_observables(run, model, most):
    table = run[1][model].table
    assert len(table) == DRAWN
    assert set(table.columns) == set(jet_names())
    (jets,) = table.constituents
    assert 1 <= ak.num(jets).to_numpy().max() <= most
    np.testing.assert_array_equal(table.columns["multiplicity_j1"], ak.num(jets))
    assert ak.max(ak.sum(jets.pt, axis=1)) <= 1 + 1e-5
    assert (table.columns["leading_fraction_j1"] <= 1 + 1e-5).all()


def test_both_kinds_of_jets_get_a_verdict_beside_its_null(run):
    config, _, output = run
    assert {path.stem for path in (output / "figures").iterdir()} == set(figure_names(config))
    found = {(metric.model, metric.metric): metric for metric in read_metrics(output / "metrics.json")}
    for model in MODELS:
        for name in ("c2st_auc", "fpd", *(f"w1/{observable}" for observable in jet_names())):
            assert np.isfinite([found[model, name].value, found[model, name].null]).all(), name
        # Two epochs of a tiny network make no jets that look like the truth's.
        assert found[model, "c2st_auc"].value > found[model, "c2st_auc"].null
