"""The one training loop: batches from memory, early stopping, averaging of weights, resume."""

import copy
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hepgen.checkpoints import STOPPED, current, hold_sigterm, random_state, set_random_state
from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.progress import Log, track

__all__ = ["Adversarial", "Descent", "History", "Indexable", "Watch", "pick_device", "train"]


class Indexable(Protocol):
    """Data of n events: a tensor, or anything that makes the rows of an index tensor on demand."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Tensor) -> Tensor: ...


class Step(Protocol):
    """One way to update a model from a batch."""

    model: nn.Module

    def update(self, *batch: Tensor) -> Tensor: ...
    def validate(self, *batch: Tensor) -> Tensor | None: ...
    def finish(self) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Watch(Protocol):
    """Looks at a model as it learns."""

    def __call__(self, epoch: int) -> None:
        """Called with the number of every epoch, from 1, when it is over; ends the training by a `HepgenError`."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class History:
    """Mean losses of every epoch; `validation` stays empty where a step has no validation loss."""

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)


class Descent:
    """Minimises ``model.loss(*batch)``, a scalar tensor, with the configured optimiser.

    The batch's arrays are passed in the order given to `train`.
    """

    def __init__(self, model: nn.Module, settings: Training, steps: int) -> None:
        self.model = model
        self.settings = settings
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer, self.scheduler = _optimizer(self.parameters, settings, steps)
        self.average = [p.detach().clone() for p in self.parameters] if settings.ema else None

    def update(self, *batch: Tensor) -> Tensor:
        loss = self.model.loss(*batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.settings.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        self.optimizer.step()
        self.scheduler.step()
        if self.average is not None:
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - self.settings.ema)
        return loss.detach()

    def validate(self, *batch: Tensor) -> Tensor:
        self._swap()
        loss = self.model.loss(*batch)
        self._swap()
        return loss

    def finish(self) -> None:
        """Leave the averaged weights in the model."""
        self._swap()

    def _swap(self) -> None:
        """Exchange the current weights and their average."""
        if self.average is None:
            return
        for parameter, average in zip(self.parameters, self.average, strict=True):
            parameter.data, average.data = average.data, parameter.data

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "average": self.average,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        for mean, saved in zip(self.average or [], state["average"] or [], strict=True):
            mean.copy_(saved)


class Adversarial:
    """Updates a discriminator, then a generator, on every batch.

    The model has ``generator`` and ``discriminator`` modules and the two losses
    ``discriminator_loss(*batch)`` and ``generator_loss(*batch)``; where it has ``discriminator_steps``, the
    discriminator learns so many times from a batch before the generator does once.
    """

    def __init__(self, model: nn.Module, settings: Training, steps: int) -> None:
        self.model = model
        self.settings = settings
        self.rounds = (getattr(model, "discriminator_steps", 1), 1)
        self.parts = [list(part.parameters()) for part in (model.discriminator, model.generator)]
        self.optimizers, self.schedulers = zip(
            *(_optimizer(part, settings, steps * rounds) for part, rounds in zip(self.parts, self.rounds, strict=True)),
            strict=True,
        )

    def update(self, *batch: Tensor) -> Tensor:
        losses = []
        for number, objective in enumerate((self.model.discriminator_loss, self.model.generator_loss)):
            for _ in range(self.rounds[number]):
                loss = objective(*batch)
                self.optimizers[number].zero_grad(set_to_none=True)
                loss.backward()
                if self.settings.clip_norm:
                    nn.utils.clip_grad_norm_(self.parts[number], self.settings.clip_norm)
                self.optimizers[number].step()
                self.schedulers[number].step()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def validate(self, *batch: Tensor) -> None:
        return None

    def finish(self) -> None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {
            "optimizers": [o.state_dict() for o in self.optimizers],
            "schedulers": [s.state_dict() for s in self.schedulers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for part, saved in zip(self.optimizers, state["optimizers"], strict=True):
            part.load_state_dict(saved)
        for part, saved in zip(self.schedulers, state["schedulers"], strict=True):
            part.load_state_dict(saved)


def pick_device(name: str = "auto") -> torch.device:
    """The named device; ``auto`` is a GPU where there is one.

    Raises:
        HepgenError: if there is no such device.
    """
    gpu = torch.cuda.is_available()
    if name not in ("auto", "cpu", "cuda") or (name == "cuda" and not gpu):
        msg = f"device {name!r} is not available; take auto, cpu{' or cuda' if gpu else ''}"
        raise HepgenError(msg)
    return torch.device("cuda" if name != "cpu" and gpu else "cpu")


def train(
    model: nn.Module,
    data: Sequence[Indexable],
    validation: Sequence[Indexable] = (),
    *,
    settings: Training,
    seed: int,
    method: type[Descent] | type[Adversarial] = Descent,
    name: str = "training",
    verbose: bool = True,
    watch: Watch | None = None,
) -> History:
    """Train a model in place, on the device that it is on.

    Every epoch visits the data once, in an order that depends on `seed` and the epoch only. Inside of
    `hepgen.checkpoints.resumable` the training is kept between any two batches, every half minute and on SIGTERM, which
    ends the process then; one that goes on ends with the same weights as an undisturbed one, to the bit on a CPU.

    Args:
        model: The network; see `Descent` and `Adversarial` for the methods it must have.
        data: Arrays of equal length, indexed together.
        validation: The same for events held out; the weights with the smallest loss on them are kept.
        settings: Epochs, batch size, optimiser.
        seed: Fixes the order of the batches and the network's own random numbers.
        method: How a batch updates the model.
        name: What the progress bar is called.
        verbose: Whether to report each epoch.
        watch: Looks at the model after every epoch; see `Watch`.

    Raises:
        HepgenError: if there are no events, the settings do not suit the method, the loss is no longer finite, or
            the watch ends the training; what was kept of the job is then removed.
    """
    events = len(data[0])
    if events == 0:
        msg = f"{name}: no events to train on"
        raise HepgenError(msg)
    for key in ("ema", "patience") if method is Adversarial else ():
        if getattr(settings, key):
            msg = f"{name}: training.{key} is for one network; this training has two that compete; leave it out"
            raise HepgenError(msg)
    if method is Adversarial and min(events, settings.batch_size) == 1:
        msg = f"{name}: networks that compete compare the events of a batch; give training.batch_size at least 2 events"
        raise HepgenError(msg)
    device = next(model.parameters()).device
    data, validation = _resident(data, device), _resident(validation, device)
    steps = len(_batches(torch.arange(events), settings.batch_size))
    with hold_sigterm() as stopping:
        run = _Run(method(model, settings, steps * settings.epochs), name, watch, stopping)
        if not run.over:
            try:
                _learn(run, data, validation, settings, seed, verbose)
            except HepgenError:
                run.checkpoint.discard()
                raise
            run.finish()
    model.eval()
    return run.history


def _learn(
    run: "_Run",
    data: Sequence[Indexable],
    validation: Sequence[Indexable],
    settings: Training,
    seed: int,
    verbose: bool,
) -> None:
    """All epochs that are left.

    Raises:
        HepgenError: see `train`.
    """
    name, epochs = run.name, range(run.epoch, settings.epochs)
    for epoch, log in track(epochs, len(epochs), name) if verbose else ((e, None) for e in epochs):
        _epoch(run, data, validation, settings, seed)
        if not math.isfinite(sum(losses[-1] for losses in (run.history.train, run.history.validation) if losses)):
            msg = f"{name}: the loss diverged in epoch {epoch + 1}"
            raise HepgenError(f"{msg}; lower training.learning_rate or set training.clip_norm")
        if run.watch:
            run.watch(epoch + 1)
        if log:
            log(_line(name, epoch, settings.epochs, run.history))
        if settings.patience and not run.history.validation:
            msg = f"{name}: training.patience needs a validation loss, which this training has not; leave it out"
            raise HepgenError(msg)
        if settings.patience and epoch - run.best_epoch >= settings.patience:
            break


def _epoch(
    run: "_Run", data: Sequence[Indexable], validation: Sequence[Indexable], settings: Training, seed: int
) -> None:
    """One pass over the data, or what is left of it, then over the validation data."""
    torch.manual_seed((seed << 20) + run.epoch)
    step = run.step
    device = next(step.model.parameters()).device
    step.model.train()
    order = torch.randperm(len(data[0])).to(_place(data, device))
    run.go_on()
    for index in _batches(order, settings.batch_size)[len(run.losses) :]:
        run.losses.append(step.update(*_batch(data, index, device)) * len(index))
        run.pause()
    loss = _validate(run, validation, settings) if validation else None
    run.end_epoch(float(torch.stack(run.losses).sum()) / len(order), loss)


def _validate(run: "_Run", validation: Sequence[Indexable], settings: Training) -> float | None:
    """The mean loss of the events held out, if the step has one."""
    device = next(run.step.model.parameters()).device
    run.step.model.eval()
    total, random = 0.0, random_state()
    with torch.no_grad():
        for index in torch.arange(len(validation[0]), device=_place(validation, device)).split(4 * settings.batch_size):
            loss = run.step.validate(*_batch(validation, index, device))
            if loss is None:
                return None
            total += float(loss) * len(index)
            # It begins anew when the training goes on, with the random numbers that it began with.
            run.pause(random)
    return total / len(validation[0])


def _batches(order: Tensor, size: int) -> list[Tensor]:
    """The events in batches; a last one of a single event, which has no spread, joins the one before."""
    batches = list(order.split(size))
    return [*batches[:-2], torch.cat(batches[-2:])] if size > 1 and len(batches[-1]) == 1 else batches


def _resident(data: Sequence[Indexable], device: torch.device) -> list[Indexable]:
    """The same arrays, on the device where all of them can be moved there."""
    return [array.to(device) for array in data] if _movable(data) else list(data)


def _place(data: Sequence[Indexable], device: torch.device) -> torch.device:
    """Where the arrays are indexed."""
    return device if _movable(data) else torch.device("cpu")


def _movable(data: Sequence[Indexable]) -> bool:
    return all(hasattr(array, "to") for array in data)


def _batch(data: Sequence[Indexable], index: Tensor, device: torch.device) -> list[Tensor]:
    return [array[index].to(device, non_blocking=True) for array in data]


def _line(name: str, epoch: int, epochs: int, history: History) -> str:
    validation = f"  validation {history.validation[-1]:.5g}" if history.validation else ""
    return f"{name}: epoch {epoch + 1}/{epochs}  loss {history.train[-1]:.5g}{validation}"


def _optimizer(
    parameters: Any, settings: Training, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    kinds = {"adamw": partial(torch.optim.AdamW, betas=settings.betas), "sgd": torch.optim.SGD}
    optimizer = kinds[settings.optimizer](
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    if settings.schedule == "cosine":
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


class _Run:
    """A training as it runs: where it is, its losses and the best weights so far.

    Attributes:
        epoch: The one that it is in, from 0.
        losses: Sums over the events of each batch of the epoch so far.
        over: Whether the checkpoint has it finished.
    """

    def __init__(self, step: Step, name: str, watch: Watch | None, stopping: Callable[[], bool]) -> None:
        self.step = step
        self.name = name
        self.watch = watch
        self.stopping = stopping
        self.history = History()
        self.epoch = self.best_epoch = 0
        self.losses: list[Tensor] = []
        self.best_weights: dict[str, Tensor] | None = None
        self.random: dict[str, Tensor | None] | None = None
        self.checkpoint = current()
        state = self.checkpoint.begin()
        self.over = state is not None and state["running"] is None
        if state is not None:
            self._load(state)

    def go_on(self) -> None:
        """Take up the random numbers where the checkpoint left them, if it did."""
        if self.random is not None:
            set_random_state(self.random)
            self.random = None

    def pause(self, random: dict[str, Tensor | None] | None = None) -> None:
        """Between two batches: keep the state if that is due, and end the process if that was asked for.

        Args:
            random: The random numbers to go on with, if not those that come next.
        """
        stopping = self.stopping()
        if stopping or self.checkpoint.due():
            running = {
                "step": self.step.state_dict(),
                "watch": self.watch.state_dict() if self.watch else None,
                "epoch": self.epoch,
                "losses": torch.stack(self.losses),
                "best": [self.best_epoch, self.best_weights],
            }
            self._keep(running, random or random_state())
        if stopping:
            sys.exit(STOPPED)

    def end_epoch(self, loss: float, validation: float | None) -> None:
        """Note the losses of the epoch, and its weights if they are the best."""
        self.history.train.append(loss)
        if validation is not None:
            self.history.validation.append(validation)
            if validation <= min(self.history.validation):
                self.best_epoch = self.epoch
                self.step.finish()
                self.best_weights = copy.deepcopy(self.step.model.state_dict())
                self.step.finish()
        self.epoch += 1
        self.losses = []

    def finish(self) -> None:
        """Leave the best weights in the model, and keep them for what the job learns next."""
        if self.best_weights is not None:
            self.step.model.load_state_dict(self.best_weights)
        else:
            self.step.finish()
        self._keep(None, random_state())

    def _keep(self, running: dict[str, Any] | None, random: dict[str, Tensor | None]) -> None:
        model, history = self.step.model.state_dict(), asdict(self.history)
        self.checkpoint.keep({"model": model, "history": history, "random": random, "running": running})

    def _load(self, state: dict[str, Any]) -> None:
        self.step.model.load_state_dict(state["model"])
        self.history = History(**state["history"])
        self.random = state["random"]
        if self.over:
            self.go_on()
            return
        running = state["running"]
        self.step.load_state_dict(running["step"])
        if self.watch:
            self.watch.load_state_dict(running["watch"])
        self.epoch = running["epoch"]
        self.losses = list(running["losses"].to(next(self.step.model.parameters()).device))
        self.best_epoch, self.best_weights = running["best"]
        Log()(f"{self.name}: goes on after {len(self.losses)} batches of epoch {self.epoch + 1}")
