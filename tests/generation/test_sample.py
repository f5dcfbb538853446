"""Drawing: the events asked for, the same for the same model, in physical units."""

import json
import math
import shutil

import h5py
import numpy as np
import pytest
import torch

from hepgen.errors import HepgenError
from hepgen.generation.dataset import read_split
from hepgen.generation.generators import Drawn, load_generator
from hepgen.generation.sample import likelihood, read_generated, sample, tabulate
from hepgen.models.files import load_model, save_model
from hepgen.storage import checksum, describe_h5
from hepgen.table import Table


@pytest.mark.parametrize("model", ["flow", "gan"])
def test_generated_events(config, paths, made, model):
    trained, file = made(config, paths, model, 1)
    (generated,) = read_generated([file])
    assert describe_h5(file) == ("generated", model)
    assert (generated.model, generated.seed, len(generated.table)) == (model, 1, 1500)
    assert set(generated.table.columns) == {*config.generation.features, "mjj", "deta_jj", "dr_jj"}
    assert generated.seconds > 0
    assert (generated.device, generated.held_out) == ("cpu", 2000 if model == "flow" else 0)
    assert len(generated.history["train"]) == config.generation.models[model].training.epochs
    with h5py.File(file) as content:
        card = json.loads(content.attrs["provenance"])["card"]
    assert (card["model"], card["seed"], card["device"]) == (checksum([trained]), 0, "cpu")
    assert card["trained_from"]["card"]["stage"] == "generation_train"
    columns = generated.table.columns
    assert columns["pt_j1"].min() > 1100
    assert columns["mass_j1"].min() > 0
    assert 0 < columns["dphi_jj"].min() < columns["dphi_jj"].max() < 2 * math.pi
    assert columns["mjj"].min() > columns["mass_j1"].min()


@pytest.mark.parametrize("model", ["flow", "gan"])
def test_equal_models_give_equal_events(config, paths, made, tmp_path, model):
    trained, file = made(config, paths, model, 1)
    sample(config, trained, paths, tmp_path / "again.h5", "cpu")
    first, again, other = (
        entry.table.columns for entry in read_generated([file, tmp_path / "again.h5", made(config, paths, model, 2)[1]])
    )
    for name, values in first.items():
        np.testing.assert_array_equal(values, again[name])
        assert (values != other[name]).any()


def test_values_that_are_not_finite_are_an_error(config, paths, made, tmp_path):
    trained, _ = made(config, paths, "gan", 1)
    parts, card = load_model(trained)
    parts["network"]["generator.0.bias"][:] = torch.nan
    modules = {name: _State(state) for name, state in parts.items()}
    save_model(tmp_path / "broken.safetensors", modules, card)
    with pytest.raises(HepgenError, match="1500 of 1500 generated events are not finite"):
        sample(config, tmp_path / "broken.safetensors", paths, tmp_path / "events.h5", "cpu")
    assert not (tmp_path / "events.h5").exists()


def test_features_beyond_single_precision_are_an_error(config, paths, made):
    trained = load_generator(made(config, paths, "flow", 1)[0], torch.device("cpu"))
    x = np.full((3, 7), 1.0)
    x[1, 0] = 1e39
    with pytest.raises(HepgenError, match="model: 1 of 3 generated events are not finite"):
        tabulate("model", trained, Drawn(x, np.empty((3, 0))))


class _State:
    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state


def test_files_of_another_kind_or_version_are_refused(config, paths, made, tmp_path):
    shutil.copy(made(config, paths, "gan", 1)[1], tmp_path / "old.h5")
    with h5py.File(tmp_path / "old.h5", "a") as file:
        file.attrs["generation"] = json.dumps({"model": "gan", "seed": 1, "seconds": 1.0, "outside": 0, "nll": None})
    with pytest.raises(HepgenError, match=r"old.h5: was written by another version"):
        read_generated([tmp_path / "old.h5"])
    with pytest.raises(HepgenError, match="expected generated, found observables"):
        read_generated(paths["qcd"])


def test_held_out_events_tell_how_likely_they_are(config, paths, made):
    """The mean over test events, each as often as its weight says; none where there is no density."""
    trained = load_generator(made(config, paths, "flow", 1)[0], torch.device("cpu"))
    truth = read_split(config, paths, ["flow"])["test"]
    value, error = likelihood(trained, truth)
    (generated, gan) = read_generated([made(config, paths, model, 1)[1] for model in ("flow", "gan")])
    assert generated.nll == pytest.approx((value, error))
    assert gan.nll is None
    # The entropy of the events that are learnt bounds it from below; a barely trained flow is not far above.
    assert 20 < value < 35
    assert 0 < error < 0.2
    half = Table({name: values[:1000] for name, values in truth.columns.items()})
    double = Table(half.columns | {"weight": np.r_[np.full(500, 2.0), np.zeros(500)]})
    first = Table({name: values[:500] for name, values in half.columns.items()})
    assert likelihood(trained, double) == pytest.approx(likelihood(trained, first))
