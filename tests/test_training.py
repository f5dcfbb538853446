import copy
import itertools

import pytest
import torch
from torch import nn

from hepgen import training
from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.training import Adversarial, Descent, pick_device, train


class Regression(nn.Module):
    """A small network with dropout, so that its own random numbers count too."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))

    def loss(self, x, y):
        return (self.layers(x).squeeze(1) - y).square().mean()


@pytest.fixture
def data():
    x = torch.randn(700, 3, generator=torch.Generator().manual_seed(1))
    return x, x[:, 0] * x[:, 1]


def settings(**changes):
    return Training(**{"epochs": 6, "batch_size": 64, "learning_rate": 0.01, **changes})


def fit(data, held_out=(), seed=1, **kwargs):
    model = Regression()
    changes = kwargs.pop("changes", {})
    history = train(model, data, held_out, settings=settings(**changes), seed=seed, verbose=False, **kwargs)
    return model, history


def same_weights(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_it_learns(data):
    _, history = fit(data, changes={"epochs": 40})
    assert history.train[-1] < 0.3 * history.train[0]


def test_a_seed_fixes_every_bit(data):
    (a, first), (b, second), (c, _) = fit(data, seed=1), fit(data, seed=1), fit(data, seed=2)
    assert same_weights(a, b)
    assert first == second
    assert not same_weights(a, c)


class Interrupted(Exception):
    """Stands for a job that is killed."""


class Failing:
    """Data that end a training at the given batch."""

    def __init__(self, array, at):
        self.array = array
        self.batches = itertools.count()
        self.at = at

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        if next(self.batches) == self.at:
            raise Interrupted
        return self.array[index]


@pytest.fixture
def checkpoint(tmp_path, data, monkeypatch):
    """Makes the checkpoint of a training that was killed in its fourth epoch."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    path = tmp_path / "checkpoint"

    def interrupted(held_out, **changes):
        batches = 3 * 11 + 5  # 700 events in batches of 64 are 11
        with pytest.raises(Interrupted):
            fit((Failing(data[0], batches), data[1]), held_out, checkpoint=path, card="a", changes=changes)
        return path

    return interrupted


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}, {"optimizer": "sgd", "schedule": "constant"}])
def test_a_resumed_training_equals_an_uninterrupted_one(data, checkpoint, changes):
    held_out = [part[:100] for part in data]
    whole, expected = fit(data, held_out, changes=changes)
    resumed, history = fit(data, held_out, checkpoint=checkpoint(held_out, **changes), card="a", changes=changes)
    assert history == expected
    assert same_weights(whole, resumed)


def test_resuming_skips_the_epochs_that_are_done(data, checkpoint):
    counted = Failing(data[0], at=-1)
    fit((counted, data[1]), checkpoint=checkpoint([]), card="a")
    assert next(counted.batches) == 3 * 11


def test_a_checkpoint_of_other_settings_is_ignored(data, checkpoint):
    fresh, _ = fit(data)
    other, _ = fit(data, checkpoint=checkpoint([]), card="b")
    assert same_weights(fresh, other)


def test_an_unreadable_checkpoint_is_reported_and_ignored(data, checkpoint, capsys):
    path = checkpoint([])
    path.write_bytes(path.read_bytes()[:100])
    anew, _ = fit(data, checkpoint=path, card="a")
    expected, _ = fit(data)
    assert same_weights(anew, expected)
    assert "unreadable, so the training starts anew" in capsys.readouterr().err


def test_patience_without_a_validation_loss_is_refused(data):
    with pytest.raises(HepgenError, match="patience needs a validation loss"):
        fit(data, changes={"patience": 2})


@pytest.mark.parametrize("name", ["gpu", "cuda:9", ""])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(HepgenError, match="is not available"):
        pick_device(name)


def test_early_stopping_keeps_the_best_weights(data):
    x, y = (part[:40] for part in data)
    held_out = [part[600:] for part in data]
    model, history = fit((x, y), held_out, changes={"epochs": 300, "patience": 10, "learning_rate": 0.03})
    assert len(history.train) < 300
    best = min(history.validation)
    assert history.validation.index(best) == len(history.validation) - 11
    with torch.no_grad():
        assert float(model.loss(*held_out)) == pytest.approx(best, rel=1e-5)  # summed in another order


def test_a_diverging_training_is_stopped(data):
    with pytest.raises(HepgenError, match=r"diverged in epoch \d+; lower training.learning_rate"):
        fit(data, changes={"learning_rate": 1e30, "optimizer": "sgd"})


def test_a_validation_loss_that_is_not_finite_stops_too(data):
    held_out = [torch.full_like(part[:10], torch.nan) for part in data]
    with pytest.raises(HepgenError, match="diverged in epoch 1"):
        fit(data, held_out)


def test_the_averaged_weights_are_the_result(data):
    """The exponential moving average of weights that were recorded after every step."""
    decay = 0.9
    model = Regression()
    expected = copy.deepcopy(model)
    step = Descent(model, settings(ema=decay), 20)
    for index in torch.arange(640).split(64):
        step.update(data[0][index], data[1][index])
        with torch.no_grad():
            for mean, value in zip(expected.parameters(), model.parameters(), strict=True):
                mean.mul_(decay).add_(value, alpha=1 - decay)
    step.finish()
    for mean, value in zip(expected.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(value, mean)


def test_validation_uses_the_averaged_weights_and_leaves_the_current_ones(data):
    model = Regression().eval()
    step = Descent(model, settings(ema=0.99), 20)
    for index in torch.arange(640).split(64):
        step.update(data[0][index], data[1][index])
    current = copy.deepcopy(model)
    held_out = [part[640:] for part in data]
    with torch.no_grad():
        loss = step.validate(*held_out)
        assert same_weights(model, current)
        step.finish()
        assert float(model.loss(*held_out)) == float(loss)


def test_no_events_are_refused(data):
    with pytest.raises(HepgenError, match="no events to train on"):
        fit([part[:0] for part in data])


def test_gradients_are_clipped(data):
    model = Regression()
    before = copy.deepcopy(model)
    step = Descent(model, settings(clip_norm=1e-3, optimizer="sgd", learning_rate=1.0, schedule="constant"), 1)
    step.update(*(part[:64] for part in data))
    moved = torch.cat(
        [(a - b).detach().flatten() for a, b in zip(model.parameters(), before.parameters(), strict=True)]
    )
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-3)


class Pair(nn.Module):
    """A generator that learns the mean of the data from a discriminator."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.generator = nn.Sequential(nn.Linear(1, 1))
        self.discriminator = nn.Sequential(nn.Linear(1, 16), nn.ReLU(), nn.Linear(16, 1))

    def fake(self, n):
        return self.generator(torch.randn(n, 1))

    def discriminator_loss(self, x):
        score = nn.functional.softplus
        return score(-self.discriminator(x)).mean() + score(self.discriminator(self.fake(len(x)).detach())).mean()

    def generator_loss(self, x):
        return nn.functional.softplus(-self.discriminator(self.fake(len(x)))).mean()


def test_adversarial_training_moves_the_generator_to_the_data():
    x = 2 + torch.randn(1000, 1, generator=torch.Generator().manual_seed(1))
    model = Pair()
    before = distance(model)
    train(model, [x], settings=settings(epochs=20), seed=1, method=Adversarial, verbose=False)
    assert distance(model) < 0.3 * before


@torch.no_grad()
def distance(model):
    return abs(float(model.fake(2000).mean()) - 2)


class Normalised(Pair):
    """Batch normalisation needs the spread of a batch."""

    def __init__(self):
        super().__init__()
        self.generator.append(nn.BatchNorm1d(1))


def test_a_last_batch_of_one_event_joins_the_one_before():
    """Nine events in batches of four are two updates, which the schedule is told of."""
    planned, sizes = [], []

    class Watched(Adversarial):
        def __init__(self, model, settings, steps):
            planned.append(steps)
            super().__init__(model, settings, steps)

        def update(self, *batch):
            sizes.append(len(batch[0]))
            return super().update(*batch)

    x = torch.ones(9, 1)
    train(Normalised(), [x], settings=settings(batch_size=4, epochs=1), seed=1, method=Watched, verbose=False)
    assert (planned, sizes) == ([2], [4, 5])


def test_adversaries_need_batches_of_events():
    with pytest.raises(HepgenError, match=r"give training\.batch_size at least 2 events"):
        train(Pair(), [torch.ones(9, 1)], settings=settings(batch_size=1), seed=1, method=Adversarial, verbose=False)


def test_a_discriminator_may_learn_more_often():
    x = 2 + torch.randn(100, 1, generator=torch.Generator().manual_seed(1))
    model = Pair()
    calls = []
    model.discriminator_steps = 3
    for name in ("discriminator_loss", "generator_loss"):
        objective = getattr(model, name)
        setattr(model, name, lambda x, name=name, objective=objective: (calls.append(name), objective(x))[1])
    train(model, [x], settings=settings(epochs=1), seed=1, method=Adversarial, verbose=False)
    assert calls == 2 * [*3 * ["discriminator_loss"], "generator_loss"]


def test_the_gradients_of_adversaries_are_clipped():
    model = Pair()
    before = copy.deepcopy(model)
    step = Adversarial(model, settings(clip_norm=1e-3, optimizer="sgd", learning_rate=1.0, schedule="constant"), 1)
    step.update(2 + torch.randn(64, 1))
    for part in ("generator", "discriminator"):
        pairs = zip(getattr(model, part).parameters(), getattr(before, part).parameters(), strict=True)
        moved = torch.cat([(a - b).detach().flatten() for a, b in pairs])
        assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("key", [{"patience": 2}, {"ema": 0.9}])
def test_adversaries_have_no_validation_and_no_average(key):
    x = Failing(torch.zeros(10, 1), at=0)  # before anything is learnt
    with pytest.raises(HepgenError, match="leave it out"):
        train(Pair(), [x], [x], settings=settings(**key), seed=1, method=Adversarial, verbose=False)


def test_a_diverged_training_leaves_no_checkpoint(data, checkpoint):
    path = checkpoint([])
    broken = [torch.full_like(part, torch.nan) for part in data]
    with pytest.raises(HepgenError, match="diverged"):
        fit(broken, checkpoint=path, card="a")
    assert not path.exists()


def test_the_watch_sees_every_epoch_and_may_end_the_training(data, checkpoint):
    epochs = []

    def watch(epoch):
        epochs.append(epoch)
        if epoch == 3:
            raise HepgenError("collapsed")

    path = checkpoint([])
    with pytest.raises(HepgenError, match="collapsed"):
        fit(data, checkpoint=path, card="b", watch=watch)
    assert epochs == [1, 2, 3]
    assert not path.exists()


def test_betas_are_those_of_the_optimiser():
    """The first gradient enters the two moving averages with 1 − β of its value and of its square."""
    model = Regression()
    step = Descent(model, settings(betas=(0.25, 0.5)), 1)
    step.update(torch.ones(4, 3), torch.ones(4))
    for parameter in model.parameters():
        state = step.optimizer.state[parameter]
        torch.testing.assert_close(state["exp_avg"], 0.75 * parameter.grad)
        torch.testing.assert_close(state["exp_avg_sq"], 0.5 * parameter.grad**2)
    with pytest.raises(ValueError, match="sgd has no betas"):
        settings(optimizer="sgd", betas=(0.25, 0.5))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU: on a CPU the data are where the network is")
def test_data_are_moved_to_the_gpu_only_once(data):
    """What becomes of the arrays that were given does not matter once an epoch is over."""
    arrays = [array.clone() for array in data]

    def clear(epoch):
        for array in arrays:
            array.zero_()

    expected, found = (
        train(Regression().cuda(), given, settings=settings(), seed=1, verbose=False, watch=watch)
        for given, watch in ((data, None), (arrays, clear))
    )
    assert found.train == pytest.approx(expected.train, rel=1e-4)
