"""The one training loop: batches from memory, early stopping, averaging of weights, resume."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from hepgen.config import Training
from hepgen.errors import HepgenError
from hepgen.progress import Log, track
from hepgen.storage import atomic

__all__ = ["Adversarial", "Descent", "History", "Indexable", "pick_device", "train"]

CHECKPOINT_SECONDS = 30.0


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
        self.average = state["average"]


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
    checkpoint: Path | None = None,
    card: str = "",
    name: str = "training",
    verbose: bool = True,
    watch: Callable[[int], None] | None = None,
) -> History:
    """Train a model in place, on the device that it is on.

    Every epoch visits the data once, in an order that depends on `seed` and the epoch only, so that a run
    resumed from its checkpoint ends with the same weights as an uninterrupted one.

    Args:
        model: The network; see `Descent` and `Adversarial` for the methods it must have.
        data: Arrays of equal length, indexed together.
        validation: The same for events held out; the weights with the smallest loss on them are kept.
        settings: Epochs, batch size, optimiser.
        seed: Fixes the order of the batches and the network's own random numbers.
        method: How a batch updates the model.
        checkpoint: File that the state of a running training is kept in, and taken up from.
        card: Identifies the settings and the data that a checkpoint belongs to; another card's is ignored.
        name: What the progress bar is called.
        verbose: Whether to report each epoch.
        watch: Called with the number of every epoch, from 1, when it is over; ends a training that is not to be gone
            on with by raising `HepgenError`.

    Raises:
        HepgenError: if there are no events, the settings do not suit the method, the loss is no longer finite, or
            the watch ends the training; in the last two cases the checkpoint is removed.
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
    step = method(model, settings, steps * settings.epochs)
    state = _State(step, History(), checkpoint, card)
    start = state.resume()
    epochs = range(start, settings.epochs)
    for epoch, log in track(epochs, len(epochs), name) if verbose else ((e, None) for e in epochs):
        _epoch(step, data, validation, settings, seed, epoch, state)
        if not math.isfinite(sum(losses[-1] for losses in (state.history.train, state.history.validation) if losses)):
            state.discard()
            msg = f"{name}: the loss diverged in epoch {epoch + 1}"
            raise HepgenError(f"{msg}; lower training.learning_rate or set training.clip_norm")
        if watch:
            try:
                watch(epoch + 1)
            except HepgenError:
                state.discard()
                raise
        if log:
            log(_line(name, epoch, settings.epochs, state.history))
        if settings.patience and not state.history.validation:
            msg = f"{name}: training.patience needs a validation loss, which this training has not; leave it out"
            raise HepgenError(msg)
        if settings.patience and epoch - state.best_epoch >= settings.patience:
            break
        state.save(epoch + 1)
    state.restore_best()
    model.eval()
    return state.history


def _epoch(
    step: Step,
    data: Sequence[Indexable],
    validation: Sequence[Indexable],
    settings: Training,
    seed: int,
    epoch: int,
    state: "_State",
) -> None:
    """One pass over the data, then over the validation data."""
    torch.manual_seed((seed << 20) + epoch)
    device = next(step.model.parameters()).device
    step.model.train()
    order = torch.randperm(len(data[0])).to(_place(data, device))
    batches = _batches(order, settings.batch_size)
    losses = [step.update(*_batch(data, index, device)) * len(index) for index in batches]
    state.history.train.append(float(torch.stack(losses).sum()) / len(order))
    if not validation:
        return
    step.model.eval()
    total = 0.0
    with torch.no_grad():
        for index in torch.arange(len(validation[0]), device=_place(validation, device)).split(4 * settings.batch_size):
            loss = step.validate(*_batch(validation, index, device))
            if loss is None:
                return
            total += float(loss) * len(index)
    state.history.validation.append(total / len(validation[0]))
    state.keep_if_best(epoch)


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


class _State:
    """The best weights so far and the checkpoint on disk."""

    def __init__(self, step: Step, history: History, path: Path | None, card: str) -> None:
        self.step = step
        self.history = history
        self.path = path
        self.card = card
        self.best_epoch = 0
        self.best_weights: dict[str, Tensor] | None = None
        self.saved_at = time.monotonic()

    def keep_if_best(self, epoch: int) -> None:
        if self.history.validation[-1] <= min(self.history.validation):
            self.best_epoch = epoch
            self.step.finish()
            self.best_weights = copy.deepcopy(self.step.model.state_dict())
            self.step.finish()

    def restore_best(self) -> None:
        if self.best_weights is not None:
            self.step.model.load_state_dict(self.best_weights)
        else:
            self.step.finish()

    def save(self, epoch: int) -> None:
        if self.path is None or time.monotonic() - self.saved_at < CHECKPOINT_SECONDS:
            return
        content = {
            "card": self.card,
            "epoch": epoch,
            "model": self.step.model.state_dict(),
            "step": self.step.state_dict(),
            "history": [self.history.train, self.history.validation],
            "best": [self.best_epoch, self.best_weights],
        }
        with atomic(self.path) as temporary:
            torch.save(content, temporary)
        self.saved_at = time.monotonic()

    def discard(self) -> None:
        """Remove the checkpoint of a training that is not to be gone on with."""
        if self.path:
            self.path.unlink(missing_ok=True)

    def resume(self) -> int:
        """Load the checkpoint, if there is one for these settings; returns the epoch to go on with."""
        if self.path is None or not self.path.exists():
            return 0
        device = next(self.step.model.parameters()).device
        try:
            content = torch.load(self.path, weights_only=True, map_location=device)
        except (OSError, EOFError, RuntimeError, UnpicklingError) as error:
            Log()(f"{self.path}: unreadable, so the training starts anew ({error})")
            return 0
        if content["card"] != self.card:
            return 0
        self.step.model.load_state_dict(content["model"])
        self.step.load_state_dict(content["step"])
        self.history.train, self.history.validation = content["history"]
        self.best_epoch, self.best_weights = content["best"]
        return content["epoch"]
