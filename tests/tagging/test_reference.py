"""Figures of merit on the real LHC Olympics signal region, held against what is known of it."""

import numpy as np
import pytest

from hepgen.config import parse
from hepgen.metrics.roc import Ranking
from hepgen.table import Table, write_table
from hepgen.tagging.evaluate import evaluate
from hepgen.tagging.score import score
from hepgen.tagging.train import train

COLUMNS = ["mjj", "mass_light", "delta_mass", "tau21_light", "tau21_heavy"]
INPUTS = COLUMNS[1:]


@pytest.fixture(scope="module")
def arrays(reference):
    """Training events, further signal for the supervised reference, and test events."""
    folder = reference / "lhco" / "cathode"
    names = ("train", "extrasig_train", "val")
    return [np.load(folder / f"innerdata_{name}.npy", allow_pickle=False) for name in names]


@pytest.fixture(scope="module")
def analysis(arrays, tmp_path_factory):
    """The configuration, its observable files and the metrics of the whole chain by model and metric."""
    folder = tmp_path_factory.mktemp("lhco")
    names = ["training", "signal", "validation"]
    paths = {name: [folder / f"{name}.h5"] for name in names}
    for name, array in zip(names, arrays, strict=True):
        columns = dict(zip(COLUMNS, 1000 * array[:, :5].T, strict=True))
        columns |= {name: values / 1000 for name, values in columns.items() if name.startswith("tau21")}
        write_table(paths[name][0], [Table({**columns, "label": array[:, 5].astype(np.int8)})])
    models = {
        "pca": {"type": "pca", "inputs": INPUTS},
        "dense": {
            "type": "dense_autoencoder",
            "inputs": INPUTS,
            "training": {"epochs": 4, "batch_size": 1024, "learning_rate": 0.003},
        },
        "supervised": {"type": "gradient_boosting", "inputs": INPUTS, "settings": {"rounds": 100}},
    }
    sample = {"source": "arrays", "path": "unused.npy", "columns": {name: i for i, name in enumerate(COLUMNS)}}
    tagging = {
        "samples": ["training", "signal"],
        "test": ["validation"],
        "seeds": [1, 2],
        "cuts": {"tau21_cut": {"observable": "tau21_heavy", "signal": "low"}},
        "models": models,
    }
    config = parse({"samples": dict.fromkeys(names, sample), "tagging": tagging})
    files = []
    for model in models:
        for seed in config.tagging.seeds:
            trained = folder / model / f"{seed}.safetensors"
            files.append(trained.with_suffix(".h5"))
            train(config, model, seed, paths, trained, "cpu")
            score(config, trained, paths, files[-1], "cpu")
    return {(m.model, m.metric): m for m in evaluate(config, paths, files, folder)}


def test_training_and_test_events_are_different_ones(arrays):
    rows = [{row.tobytes() for row in np.ascontiguousarray(array[:, :5])} for array in arrays]
    assert len(set.union(*rows)) == sum(len(array) for array in arrays)


def test_the_supervised_reference_is_reached(analysis):
    """Gradient-boosted trees reach an AUC of 0.970 to 0.971 on these events."""
    auc = analysis["supervised", "auc"]
    assert auc.value >= 0.965
    assert auc.n == 60_000
    assert auc.seeds == 2


def test_the_single_cut(arrays, analysis):
    """The test events hold 369 signal events only; more of them pin the cut's AUC down to 0.002."""
    assert analysis["tau21_cut", "auc"].value == pytest.approx(0.847, abs=0.03)
    background, signal = arrays[2][arrays[2][:, 5] == 0], arrays[1]
    events = np.concatenate([background, signal])
    assert Ranking(-events[:, 4], events[:, 5]).roc().auc == pytest.approx(0.847, abs=0.01)


def test_autoencoders_of_four_observables_lose_to_the_single_cut(analysis):
    for model in ("pca", "dense"):
        assert analysis[model, "auc"].high < analysis["tau21_cut", "auc"].low


def test_random_scores_are_told_from_real_ones(analysis):
    """The floors of this sample: an AUC of half a percent per σ, and no SIC far above 1 with 25 events left."""
    assert 0.5 < analysis["supervised", "auc"].floor < 0.53
    assert 1 <= analysis["supervised", "max_sic/25_events"].floor < 3
    assert analysis["supervised", "max_sic/25_events"].low > analysis["supervised", "max_sic/25_events"].floor
