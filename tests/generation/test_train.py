"""Training: reproducible, in the units of the data, symmetric where it should be."""

import math

import numpy as np
import pytest
import torch

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.generation.dataset import read_split
from hepgen.generation.train import Mirrored, make_scaler, mirror_eta, support, train
from hepgen.models.files import load_model

FEATURES = ["pt_j1", "eta_j1", "dphi_jj"]
X = np.stack([1200 + np.linspace(0, 900, 50) ** 1.1, np.linspace(-2, 2, 50), np.linspace(2.5, 4, 50)], axis=1)


@pytest.mark.parametrize("model", ["flow", "gan"])
def test_trained_model_file(config, paths, made, model):
    file, _ = made(config, paths, model, 1)
    parts, card = load_model(file)
    assert set(parts) == {"network", "scaler"}
    assert (card["model"], card["seed"], card["features"]) == (model, 1, config.generation.features)
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
    from hepgen.table import Table, read_tables, write_table

    test = {tuple(row) for row in read_split(config.generation, config.seed, paths).test}
    table = read_tables(paths)
    poisoned = np.array([tuple(row) in test for row in table.matrix(config.generation.features)])
    assert poisoned.sum() == 2000
    columns = {name: np.where(poisoned, values * np.float32(1.5), values) for name, values in table.columns.items()}
    write_table(tmp_path / "poisoned.h5", [Table(columns)])
    train(config, "flow", 1, [tmp_path / "poisoned.h5"], tmp_path / "model.safetensors", "cpu")
    expected, _ = load_model(made(config, paths, "flow", 1)[0])
    found, _ = load_model(tmp_path / "model.safetensors")
    assert_equal_parts(expected, found)


def test_pt_starts_at_the_cut():
    (low, high), eta, dphi = support(FEATURES, X)
    assert 1200 - 0.01 * X[:, 0].std() < low < 1200
    assert high == math.inf
    assert eta == (-math.inf, math.inf)
    assert dphi == (0, 2 * math.pi)


def test_values_outside_the_physical_range_are_an_error():
    wrapped = X.copy()
    wrapped[:, 2] -= math.pi
    with pytest.raises(HepgenError, match=r"42.0% of dphi_jj lie outside its physical range 0 to 6.28"):
        support(FEATURES, wrapped)


@pytest.mark.parametrize("kind", ["support", "minmax"])
def test_scaler_round_trip_and_reload(kind):
    scaler = make_scaler(kind, FEATURES).fit(torch.from_numpy(X))
    again = make_scaler(kind, FEATURES)
    again.load_state_dict(scaler.state_dict())
    # float32 network inputs: relative rounding of 6e-8 times up to 8 in the logarithm of pT − cut
    np.testing.assert_allclose(again.inverse(scaler(torch.from_numpy(X))).numpy(), X, rtol=2e-6, atol=1e-6)


def test_unknown_scaler():
    with pytest.raises(HepgenError, match="unknown scaler of a generator 'robust'"):
        make_scaler("robust", FEATURES)


def test_mirroring_in_network_units_is_mirroring_in_eta():
    """Half of the events are reflected; whichever they are, they are events of the mirrored sample."""
    x = X + np.array([0, 0.3, 0])
    scaler = make_scaler("minmax", FEATURES).fit(torch.from_numpy(mirror_eta(x, FEATURES)))
    data = Mirrored(scaler(torch.from_numpy(x)), FEATURES)
    torch.manual_seed(1)
    index = torch.arange(50).repeat(40)
    seen = scaler.inverse(data[index]).numpy()
    sign = seen[:, 1] / x[index, 1]
    np.testing.assert_allclose(np.abs(sign), 1, rtol=1e-4)
    np.testing.assert_allclose(seen[:, [0, 2]], x[index][:, [0, 2]], rtol=1e-6)
    # 2000 tosses of a coin: 3 standard deviations
    assert np.mean(sign > 0) == pytest.approx(0.5, abs=3 * 0.5 / math.sqrt(2000))


def test_diverged_training_says_so(settings, paths, tmp_path):
    settings["generation"]["models"]["flow"]["training"] |= {"learning_rate": 1e12, "optimizer": "sgd"}
    with pytest.raises(HepgenError, match="diverged"):
        train(parse(settings), "flow", 1, paths, tmp_path / "model.safetensors", "cpu")
