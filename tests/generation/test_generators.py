"""A model file alone draws events: the same however they are cut into blocks, under conditions given or drawn."""

import numpy as np
import pytest
import torch

from hepgen.config import Generation, Generator
from hepgen.errors import HepgenError
from hepgen.generation import generators
from hepgen.generation.generators import Pool, Trained, build, load_generator, save
from hepgen.generation.scaling import make_scaler
from hepgen.models.files import load_model, save_model
from hepgen.preprocessing import Standard

X = torch.from_numpy(np.random.default_rng(1).gamma(4, 100, (300, 3)))
CPU = torch.device("cpu")


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(generators, "BLOCK", 100)


@pytest.fixture
def file(tmp_path):
    """A model that was never trained, told mjj, in which a feature follows the condition."""
    entry = Generator(type="dijet_gan", conditions=["mjj"])
    block = Generation(samples=["qcd"], features=["pt_j1", "mass_j1"], models={"m": entry})
    torch.manual_seed(1)
    network = build("m", entry, block).eval()
    scaler, told = make_scaler(network, entry, block).fit(X[:, :2]), Standard(1).fit(X[:, 2:])
    card = {"name": "m", "seed": 1, "history": {"train": [1.0], "validation": []}}
    pool = Pool(X[:, 2:], torch.stack(X[:, 2:].aminmax(dim=0)))
    save(tmp_path / "m.safetensors", Trained(entry, block, network, scaler, told, pool, None, card), "{}")
    return tmp_path / "m.safetensors"


def joined(blocks):
    return tuple(map(np.concatenate, zip(*blocks, strict=True)))


def test_an_event_depends_on_its_number_and_the_seed_only(file, small_blocks):
    trained = load_generator(file, CPU)
    x, c = joined(trained.blocks(350))
    assert (x.shape, c.shape) == ((350, 2), (350, 1))
    assert len(np.unique(x, axis=0)) == 350
    first, last = joined(trained.blocks(200)), joined(trained.blocks(350, start=200))
    np.testing.assert_array_equal(np.concatenate([first[0], last[0]]), x)
    # A block that is cut short: sums of fewer rows are rounded in another order.
    for cut, whole in zip(joined(trained.blocks(230)), (x, c), strict=True):
        np.testing.assert_allclose(cut, whole[:230], rtol=1e-5)
    assert (joined(trained.blocks(350, seed=1))[0] != x).any()


def test_conditions_come_again_only_when_all_are_used_up(file, small_blocks):
    c = joined(load_generator(file, CPU).blocks(400, start=100))[1][:, 0]
    assert len(np.unique(c)) == 300
    c = joined(load_generator(file, CPU).blocks(400))[1][:, 0]
    np.testing.assert_array_equal(np.sort(c[:300]), np.sort(X[:, 2]))
    np.testing.assert_array_equal(c[300:], c[:100])
    assert (joined(load_generator(file, CPU).blocks(100, seed=1))[1][:, 0] != c[:100]).any()


def test_conditions_are_those_of_training_unless_given(file, small_blocks):
    trained = load_generator(file, CPU)
    given = np.linspace(X[:, 2].min() - 1, X[:, 2].max(), 250)[:, None]
    x, c = joined(trained.blocks(250, given))
    np.testing.assert_array_equal(c, given)
    assert trained.pool.outside(given) == (given < X[:, 2].min().item()).sum() > 0
    # The same noise under other conditions makes other events.
    assert (joined(trained.blocks(250, given + 100))[0] != x).any()


def test_a_file_of_another_model_is_an_error(file, tmp_path):
    parts, card = load_model(file)
    del parts["pool"]
    save_model(tmp_path / "x.safetensors", {name: _State(state) for name, state in parts.items()}, card)
    with pytest.raises(HepgenError, match="does not hold the generator that it says"):
        load_generator(tmp_path / "x.safetensors", CPU)
    save_model(tmp_path / "x.safetensors", {}, {"name": "m"})
    with pytest.raises(HepgenError, match="is no generator of this version"):
        load_generator(tmp_path / "x.safetensors", CPU)
    for change, message in (
        ({"settings": {"pretraining": "many"}}, r"x.safetensors: generation.models.m: settings.pretraining"),
        ({"another": 1}, "x.safetensors: does not hold"),
    ):
        save_model(tmp_path / "x.safetensors", {}, card | {"entry": card["entry"] | change})
        with pytest.raises(HepgenError, match=message):
            load_generator(tmp_path / "x.safetensors", CPU)
    with pytest.raises(HepgenError, match=r"absent.safetensors: not a readable model file .*was the model trained\?"):
        load_generator(tmp_path / "absent.safetensors", CPU)


class _State:
    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state
