"""Mode collapse ends a training, and nothing else does."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from hepgen.config import parse
from hepgen.errors import HepgenError
from hepgen.generation import watch
from hepgen.generation.dataset import read_split
from hepgen.generation.generators import Drawn, Trained
from hepgen.generation.train import train
from hepgen.generation.watch import EPOCHS, Watch
from hepgen.models.gans import TableGAN


class Puppet(Trained):
    """Makes the events that the test put into its pool."""

    def blocks(self, events, conditions=None, start=0, seed=0):
        yield Drawn(self.pool[:events], np.empty((events, 0)))


def puppet(config, network=None, pool=None):
    block = config.generation
    return Puppet(block.models["gan"], block, network, None, None, pool, None, {"name": "gan", "seed": 1})


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """The least number of epochs is enough, however few updates they are."""
    monkeypatch.setattr(watch, "UPDATES", 1)


@pytest.fixture
def parts(config, paths):
    return read_split(config, paths, ["gan"])


@pytest.fixture
def after(config, parts):
    """Shows the watch an epoch after which the generator makes these events."""
    seen = Watch(puppet(config), parts["train"])

    def show(x, epoch=1):
        seen.trained = puppet(config, pool=x)
        seen(epoch)

    return show


@pytest.fixture
def true(config, parts):
    return parts["test"].matrix(config.generation.features)


def copies(true, kinds):
    """Events of so many kinds only, with a spread of a thousandth."""
    rows = true[np.arange(len(true)) % kinds]
    return rows * np.random.default_rng(1).normal(1, 1e-3, rows.shape)


@pytest.mark.parametrize("bad", [lambda x: copies(x, 1), lambda x: copies(x, 5), lambda x: np.full_like(x, np.nan)])
def test_a_collapse_ends_the_training(true, after, bad, capsys):
    after(true)
    for epoch in range(1, EPOCHS):
        after(bad(true), epoch)
    assert f"gan, seed 1: the events generated after epoch {EPOCHS - 1} cover" in capsys.readouterr().err
    with pytest.raises(HepgenError, match=rf"after epoch {EPOCHS} cover \d\.\d% .*mode collapse.*wgan_gp"):
        after(bad(true), EPOCHS)


def test_a_healthy_or_a_crude_generator_goes_on(true, after, capsys):
    """Shuffled columns are wrong in all but their spectra, 50 kinds of events a poor but not a collapsed sample."""
    shuffled = np.random.default_rng(1).permuted(true, axis=0)
    for x in (true, shuffled, copies(true, 50)):
        for epoch in range(EPOCHS):
            after(x, epoch)
    assert not capsys.readouterr().err


def test_a_generator_may_recover(true, after, capsys):
    for _ in range(2):
        for _ in range(EPOCHS - 1):
            after(copies(true, 1))
        after(true)
    assert capsys.readouterr().err.count("cover") == 2 * 2 * (EPOCHS - 1)


def test_the_count_goes_on_with_the_training(config, parts, true):
    collapsed = puppet(config, pool=copies(true, 1))
    seen, next_attempt = (Watch(collapsed, parts["train"]) for _ in range(2))
    for epoch in range(EPOCHS - 1):
        seen(epoch)
    next_attempt.load_state_dict(seen.state_dict())
    with pytest.raises(HepgenError, match=f"for {EPOCHS} epochs: mode collapse"):
        next_attempt(EPOCHS)


@pytest.mark.parametrize("collapsing", [True, False])
def test_training(settings, paths, tmp_path, monkeypatch, collapsing):
    """A GAN whose generator is rewarded for making one event only leaves no product, an unspoilt one does."""
    if collapsing:
        monkeypatch.setattr(TableGAN, "generator_loss", lambda self, x, c, weight=None: self.fake(c).square().sum())
    settings["generation"]["models"]["gan"] = {
        "type": "gan",
        "settings": {"hidden": [16], "noise": 8},
        "training": {"epochs": EPOCHS + 1, "batch_size": 100, "learning_rate": 0.01, "betas": [0.5, 0.9]},
    }
    output = tmp_path / "model.safetensors"
    if collapsing:
        with pytest.raises(HepgenError, match=r"gan, seed 1: .* mode collapse or divergence"):
            train(parse(settings), "gan", 1, paths, output, "cpu")
        assert not list(tmp_path.iterdir())
    else:
        train(parse(settings), "gan", 1, paths, output, "cpu")
        assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_too_few_events_say_nothing(config, parts, capsys):
    silent = Watch(puppet(config), parts["train"][: 2 * watch.FEWEST - 2])
    for epoch in range(2 * EPOCHS):
        silent(epoch)
    assert not capsys.readouterr().err


def test_patience_is_counted_in_updates(config, parts, true, monkeypatch):
    """Epochs of few batches say less: two more of them than the fewest make up the updates here."""
    steps = math.ceil(len(parts["train"]) / config.generation.models["gan"].training.batch_size)
    monkeypatch.setattr(watch, "UPDATES", (EPOCHS + 1) * steps + 1)
    seen = Watch(puppet(config, pool=copies(true, 1)), parts["train"])
    for epoch in range(EPOCHS + 1):
        seen(epoch)
    with pytest.raises(HepgenError, match=f"for {EPOCHS + 2} epochs: mode collapse"):
        seen(EPOCHS + 2)


def test_a_generator_that_waits_is_left_alone(config, parts, true):
    waiting = SimpleNamespace(pretrains=True)
    seen = Watch(puppet(config, waiting, copies(true, 1)), parts["train"])
    for epoch in range(2 * EPOCHS):
        seen(epoch)
    waiting.pretrains = False
    for epoch in range(EPOCHS - 1):
        seen(epoch)
    with pytest.raises(HepgenError, match=f"for {EPOCHS} epochs: mode collapse"):
        seen(EPOCHS)
