"""Supervised taggers: both classes count the same, and both are needed."""

import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.table import Table, read_tables, write_table
from hepgen.tagging.score import score
from hepgen.tagging.train import train

from .conftest import INPUTS

MODELS = {
    "trees": {"type": "gradient_boosting", "inputs": INPUTS, "settings": {"rounds": 10}},
    "mlp": {"type": "mlp_classifier", "inputs": INPUTS, "training": {"epochs": 2, "batch_size": 128}},
    "cnn": {"type": "cnn_classifier", "inputs": "images", "training": {"epochs": 1}},
    "sets": {"type": "deep_sets", "inputs": "constituents", "training": {"epochs": 1}},
}


@pytest.mark.parametrize("model", ["trees", "mlp"])
def test_classes_count_the_same_whatever_their_weights(change, paths, tmp_path, model):
    config = change(models=MODELS)
    table = read_tables(paths["signal"])
    write_table(tmp_path / "heavy.h5", [Table({**table.columns, "weight": np.full(len(table), 7.0)})])
    scores = []
    for name, files in {"plain": paths["signal"], "heavy": [tmp_path / "heavy.h5"]}.items():
        given = {**paths, "signal": files}
        train(config, model, 1, given, tmp_path / name, "cpu")
        scores.append(score(config, tmp_path / name, given, tmp_path / f"{name}.h5", "cpu"))
    # Of the events 1 in 5 is signal: unbalanced, the logits of both would differ by log 7.
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("sample", "what"), [("qcd", "background"), ("signal", "signal")])
def test_one_class_is_not_enough(change, paths, tmp_path, model, sample, what):
    config = change(models=MODELS, samples=[sample])
    with pytest.raises(HepgenError, match=f"{model}: all .* training events are {what}; .* needs samples of both"):
        train(config, model, 1, paths, tmp_path / "model", "cpu")
    assert not list(tmp_path.iterdir())
