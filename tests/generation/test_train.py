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


def trained_with(config, table, weight, folder):
    """The file of a flow of events with these weights."""
    write_table(folder / "weighted.h5", [Table(table.columns | {"weight": weight})])
    train(config, "flow", 1, {"qcd": [folder / "weighted.h5"]}, folder / "m.safetensors", "cpu")
    return folder / "m.safetensors"


def test_equal_weights_of_any_size_change_nothing(config, paths, made, tmp_path):
    file = trained_with(config, read_tables(paths["qcd"]), np.full(4000, 7.0), tmp_path)
    assert_equal_parts(load_model(made(config, paths, "flow", 1)[0])[0], load_model(file)[0])


def test_the_weighted_density_is_learnt(settings, paths, tmp_path):
    """Events with η > 0 count three times as much as the others, which shifts the means of both jets' η."""
    settings["generation"]["features"] = ["eta_j1", "eta_j2"]
    settings["generation"]["models"]["flow"]["training"] |= {"learning_rate": 0.01, "epochs": 5}
    config, table = parse(settings), read_tables(paths["qcd"])
    file = trained_with(config, table, np.where(table.columns["eta_j1"] > 0, 3.0, 1.0), tmp_path)
    learnt = read_split(config, {"qcd": [tmp_path / "weighted.h5"]}, ["flow"])["train"]
    expected = np.average(learnt.matrix(config.generation.features), axis=0, weights=learnt.columns["weight"])
    assert (expected > 0.15).all(), "without weights the means are 0"
    drawn = next(load_generator(file, torch.device("cpu")).blocks(10_000))
    # The deviation of η, 0.94, over the root of the effective number of training events, 1440: four times that.
    np.testing.assert_allclose(drawn.x.mean(0), expected, atol=0.1)


def test_diverged_training_says_so(settings, paths, tmp_path):
    settings["generation"]["models"]["flow"]["training"] |= {"learning_rate": 1e12, "optimizer": "sgd"}
    with pytest.raises(HepgenError, match="diverged"):
        train(parse(settings), "flow", 1, paths, tmp_path / "model.safetensors", "cpu")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"pretraining": 2}}, r"models.gan: .*lower settings.pretraining or raise training.epochs"),
        ({"type": "gan", "settings": {"hidden": 16}}, r"models.gan.settings: .*; check the types and values of .*16"),
    ],
)
def test_a_generator_that_cannot_learn_is_not_saved(settings, paths, tmp_path, change, message):
    settings["generation"]["models"]["gan"] |= change
    settings["generation"]["models"]["gan"]["training"]["batch_size"] = 1000
    with pytest.raises(HepgenError, match=message):
        train(parse(settings), "gan", 1, paths, tmp_path / "model.safetensors", "cpu")
    assert not [*tmp_path.iterdir()]
