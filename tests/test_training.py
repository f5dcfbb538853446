import copy
import itertools
import os
import signal

import pytest
import torch
from torch import nn

from hepgen import checkpoints
from hepgen.checkpoints import STOPPED, resumable
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


@pytest.fixture(scope="module")
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


class Killed(Exception):
    """Stands for SIGKILL: nothing is written on the way out."""


def kill():
    raise Killed


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


class Rows:
    """Data that are a little different at every look, of which all are counted, and at one of which something happens.

    It takes an epoch 11 looks at 700 events in batches of 64, and 3 at them as validation data.
    """

    def __init__(self, array, at=0, happens=None):
        self.array = array
        self.looks = itertools.count(1)
        self.at = at
        self.happens = happens

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        if next(self.looks) == self.at:
            self.happens()
        return self.array[index] + 0.01 * torch.randn(len(index), self.array.shape[1])


EPOCHS = 3
LOOKS = EPOCHS * (11 + 3)


def learn(output, data, at=0, happens=None, model=Regression, method=Descent, **changes):
    """Two trainings in turn, and what there is to compare: weights, histories, a random number; how often it looked."""
    model, rows = model(), Rows(data[0], at, happens)
    arrays = rows, *data[1:]
    told = {"settings": settings(epochs=EPOCHS, **changes), "method": method, "verbose": False}
    with resumable(output, changes):
        histories = [train(model, arrays, arrays, seed=seed, **told) for seed in (1, 2)]
        return {**model.state_dict(), "random": torch.rand(1)}, histories, next(rows.looks) - 1


def equal(first, second):
    return first[1] == second[1] and all(torch.equal(value, second[0][name]) for name, value in first[0].items())


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """What an undisturbed job ends with."""
    return learn(tmp_path_factory.mktemp("whole") / "product", data)


# In the first batch, an epoch, its first and last look at the validation data, the next epoch, the second training.
@pytest.mark.parametrize("at", [1, 7, 12, 14, 15, LOOKS, LOOKS + 1, LOOKS + 20, 2 * LOOKS])
@pytest.mark.parametrize(("happens", "ends"), [(kill, Killed), (stop, SystemExit)])
def test_a_training_that_goes_on_equals_an_undisturbed_one(tmp_path, monkeypatch, data, whole, at, happens, ends):
    # The checkpoint is never due where it is written on SIGTERM, and always due where the job is killed.
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0 if happens is kill else torch.inf)
    with pytest.raises(ends) as ended:
        learn(tmp_path / "product", data, at, happens)
    if ends is SystemExit:
        assert ended.value.code == STOPPED
    resumed = learn(tmp_path / "product", data)
    assert equal(whole, resumed)
    # Only the batch that was cut short is learnt from twice; a pass over the validation data begins anew.
    assert at + resumed[2] - 2 * LOOKS <= 4
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("changes", [{"ema": 0.9}, {"optimizer": "sgd", "schedule": "constant"}, {"patience": 1}])
def test_everything_that_a_training_depends_on_is_kept(tmp_path, data, changes):
    whole = learn(tmp_path / "whole", data, **changes)
    with pytest.raises(SystemExit):
        learn(tmp_path / "product", data, 33, stop, **changes)
    assert equal(whole, learn(tmp_path / "product", data, **changes))


def test_adversaries_go_on_too(tmp_path, data):
    arguments = {"data": [data[0][:, :1]], "model": Normalised, "method": Adversarial}
    whole = learn(tmp_path / "whole", **arguments)
    with pytest.raises(SystemExit):
        learn(tmp_path / "product", at=20, happens=stop, **arguments)
    assert equal(whole, learn(tmp_path / "product", **arguments))


def test_other_settings_begin_anew(tmp_path, data, capsys):
    with pytest.raises(SystemExit):
        learn(tmp_path / "product", data, 20, stop)
    whole = learn(tmp_path / "whole", data, clip_norm=1.0)
    assert equal(whole, learn(tmp_path / "product", data, clip_norm=1.0))
    assert "so the training starts anew" in capsys.readouterr().err


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
    x = Rows(torch.zeros(10, 1), 1, kill)  # before anything is learnt
    with pytest.raises(HepgenError, match="leave it out"):
        train(Pair(), [x], [x], settings=settings(**key), seed=1, method=Adversarial, verbose=False)


def test_a_diverged_training_leaves_no_checkpoint(tmp_path, monkeypatch, data):
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    with pytest.raises(HepgenError, match="diverged"):
        learn(tmp_path / "product", [torch.full_like(part, torch.nan) for part in data])
    assert not list(tmp_path.iterdir())


class Counting:
    """A watch that ends the training after so many epochs."""

    def __init__(self, at):
        self.at = at
        self.seen = []

    def __call__(self, epoch):
        self.seen.append(epoch)
        if len(self.seen) == self.at:
            raise HepgenError("collapsed")

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


def test_the_watch_sees_every_epoch_and_may_end_the_training(tmp_path, monkeypatch, data):
    monkeypatch.setattr(checkpoints, "SECONDS", 0.0)
    with pytest.raises(SystemExit), resumable(tmp_path / "product"):
        fit((Rows(data[0], 25, stop), data[1]), watch=Counting(4))
    watch = Counting(4)
    with pytest.raises(HepgenError, match="collapsed"), resumable(tmp_path / "product"):
        fit((Rows(data[0]), data[1]), watch=watch)
    assert watch.seen == [1, 2, 3, 4]
    assert not list(tmp_path.iterdir())


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

    class Clear(Counting):
        def __call__(self, epoch):
            for array in arrays:
                array.zero_()

    expected, found = (
        train(Regression().cuda(), given, settings=settings(), seed=1, verbose=False, watch=watch)
        for given, watch in ((data, None), (arrays, Clear(0)))
    )
    assert found.train == pytest.approx(expected.train, rel=1e-4)
