"""Training: reproducible, by the events' weights, and blind to the test part."""

import numpy as np
import pytest
import torch

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.generation.dataset import read_split
from hepgen.generation.generators import load_generator
from hepgen.generation.train import train
from hepgen.models.files import load_model
from hepgen.table import Table, read_tables, write_table


@pytest.mark.parametrize("model", ["flow", "gan"])
def test_trained_model_file(config, paths, made, model):
    file, _ = made(config, paths, model, 1)
    parts, card = load_model(file)
    assert set(parts) == {"network", "preprocessing", "conditions", "pool"}
    assert (card["name"], card["seed"]) == (model, 1)
    assert card["block"]["features"] == config.generation.features
    epochs = config.generation.models[model].training.epochs
    assert len(card["history"]["train"]) == epochs
    assert len(card["history"]["validation"]) == (epochs if model == "flow" else 0)
    assert not list(file.parent.glob("*.checkpoint"))


def assert_equal_parts(first, second):
    for part, tensors in first.items():
        for key, value in tensors.items():
            assert torch.equal(second[part][key], value), f"{part}/{key}"


@pytest.mark.parametrize("model", ["flow", "gan"])
def test_equal_seeds_give_equal_models(config, paths, made, tmp_path, model):
    train(config, model, 1, paths, tmp_path / "again.safetensors", "cpu")
    first, again, other = (
        load_model(file)
        for file in (made(config, paths, model, 1)[0], tmp_path / "again.safetensors", made(config, paths, model, 2)[0])
    )
    assert first[1] == again[1]
    assert_equal_parts(first[0], again[0])
    with pytest.raises(AssertionError, match="network/"):
        assert_equal_parts(first[0], other[0])


def test_the_test_part_is_not_looked_at(config, paths, made, tmp_path):
    """Poisoned test events leave the trained weights and the scaler bit-identical."""
    features = config.generation.features
    test = {tuple(row) for row in read_split(config, paths, ["flow"])["test"].matrix(features)}
    table = read_tables(paths["qcd"])
    poisoned = np.array([tuple(row) in test for row in table.matrix(features)])
    assert poisoned.sum() == 2000
    columns = {name: np.where(poisoned, values * np.float32(1.5), values) for name, values in table.columns.items()}
    write_table(tmp_path / "poisoned.h5", [Table(columns)])
    train(config, "flow", 1, {"qcd": [tmp_path / "poisoned.h5"]}, tmp_path / "model.safetensors", "cpu")
    expected, _ = load_model(made(config, paths, "flow", 1)[0])
    found, _ = load_model(tmp_path / "model.safetensors")
    assert_equal_parts(expected, found)


def test_weights_are_used(config, settings, paths, made, tmp_path):
    """Equal weights of any size change nothing; events with a tiny weight leave no trace in what is drawn."""
    table = read_tables(paths["qcd"])
    settings["generation"]["models"]["flow"]["training"]["learning_rate"] = 0.01
    for name, run, weight in (
        ("equal", config, np.full(4000, 7.0)),
        ("forward", parse(settings), np.where(table.columns["eta_j1"] > 0, 1, 1e-6)),
    ):
        write_table(tmp_path / f"{name}.h5", [Table(table.columns | {"weight": weight})])
        train(run, "flow", 1, {"qcd": [tmp_path / f"{name}.h5"]}, tmp_path / f"{name}.safetensors", "cpu")
    expected, found = (
        load_model(file)[0] for file in (made(config, paths, "flow", 1)[0], tmp_path / "equal.safetensors")
    )
    assert_equal_parts(expected, found)
    drawn = next(load_generator(tmp_path / "forward.safetensors", torch.device("cpu")).blocks(2000))
    # η has the mean 0 and the deviation 0.94; its upper half has the mean 0.75, which three epochs come near to.
    assert drawn.x[:, config.generation.features.index("eta_j1")].mean() > 0.4


def test_diverged_training_says_so(settings, paths, tmp_path):
    settings["generation"]["models"]["flow"]["training"] |= {"learning_rate": 1e12, "optimizer": "sgd"}
    with pytest.raises(HepgenError, match="diverged"):
        train(parse(settings), "flow", 1, paths, tmp_path / "model.safetensors", "cpu")
