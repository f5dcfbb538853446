"""Generators from their configuration or their file: network, preprocessing, and how events are drawn."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from hepgen.config import Generation, Generator
from hepgen.errors import HepgenError
from hepgen.generation.dataset import shape_of
from hepgen.generation.reweighting import Reweighter
from hepgen.generation.scaling import make_scaler
from hepgen.models import GENERATORS, TAGGERS
from hepgen.models.files import load_model, save_model
from hepgen.preprocessing import Scaler, Standard
from hepgen.provenance import seed_for

__all__ = ["BLOCK", "Drawn", "Pool", "Trained", "build", "load_generator", "save"]

# Events are drawn in blocks, each with a seed of its own: a long run can be cut anywhere and taken up again.
BLOCK = 10_000


class Drawn(NamedTuple):
    """Generated events.

    Attributes:
        x: Events in GeV and radians, images or constituents, shape (n, *shape), float64.
        conditions: What the generator was told, shape (n, conditions), float64.
    """

    x: np.ndarray
    conditions: np.ndarray


class Pool(nn.Module):
    """Conditions of training events, from which those of new events are drawn.

    They are taken without replacement: with it, N events of a perfect generator, told conditions of n, would differ
    from N true ones by χ²/ndf = 1 + N/2n. Only when all are used up do they come again, in the same order.

    Args:
        values: Of some training events, shape (n, conditions), float64, already drawn by the events' weights.
        limits: The smallest and the largest of all training events, shape (2, conditions).
    """

    def __init__(self, values: Tensor, limits: Tensor) -> None:
        super().__init__()
        self.register_buffer("values", values)
        self.register_buffer("limits", limits)

    def order(self, seed: int) -> Tensor:
        """The conditions in random order, shape (n, conditions)."""
        return self.values[torch.randperm(len(self.values), generator=torch.Generator().manual_seed(seed))]

    def outside(self, conditions: np.ndarray) -> int:
        """How many events, of conditions of shape (n, conditions), have one beyond those of the training."""
        low, high = self.limits.numpy()
        return int(((conditions < low) | (conditions > high)).any(1).sum())


@dataclass(frozen=True)
class Trained:
    """A trained generator.

    Attributes:
        entry: Its configuration.
        block: The analysis's, of which it holds the features, or how images and constituents are made.
        network: The model.
        scaler, told: Preprocessing of its events, and of its conditions if it has any.
        pool: Conditions of training events: those of new events are drawn from it.
        reweighter: What gives the events weights, if anything does.
        card: What its file says of it: name, seed, history.
    """

    entry: Generator
    block: Generation
    network: nn.Module
    scaler: Scaler
    told: Scaler
    pool: Pool
    reweighter: Reweighter | None
    card: dict[str, Any]

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def blocks(
        self, events: int, conditions: np.ndarray | None = None, start: int = 0, seed: int | str = 0
    ) -> Iterator[Drawn]:
        """Draw events block by block; an event of a number is the same, but for rounding, however many are drawn.

        Args:
            events: The number of events from 0 on, of which those before `start` are left out.
            conditions: What each is told, shape (events, conditions); without them as training events, see `Pool`.
            start: The number of the first event, a multiple of `BLOCK`.
            seed: Another one means other events.
        """
        own = self.card["seed"], self.card["name"]
        pool = self.pool.order(seed_for(*own, "conditions", seed))
        for first in range(start, events, BLOCK):
            last = min(first + BLOCK, events)
            generator = torch.Generator().manual_seed(seed_for(*own, "draw", seed, first // BLOCK))
            # That of a whole block: how torch fills a tensor depends on its size.
            noise = self.network.noise(BLOCK, generator)[: last - first]
            if conditions is None:
                c = pool[torch.arange(first, last) % len(pool)]
            else:
                c = torch.tensor(conditions[first:last]).double()
            yield self.draw(noise, c)

    def draw(self, noise: Tensor, c: Tensor) -> Drawn:
        """The events that are made of noise, shape (n, k), under conditions c, shape (n, conditions)."""
        size = self.network.batch if self.device.type == "cpu" else len(noise)
        told = self.told(c)
        pairs = zip(noise.split(size), told.split(size), strict=True)
        x = torch.cat([self.network.draw(z.to(self.device), t.to(self.device)).cpu() for z, t in pairs])
        return Drawn(self.scaler.inverse(x).numpy(), c.numpy())


def build(name: str, entry: Generator, block: Generation) -> nn.Module:
    """An untrained model.

    Raises:
        HepgenError: if its settings do not suit what it is to make.
    """
    kind = GENERATORS.load(entry.type)
    try:
        return kind(shape_of(block, entry), len(entry.conditions), **entry.settings)
    except HepgenError as error:
        msg = f"generation.models.{name}: {error}"
        raise HepgenError(msg) from error
    except (TypeError, ValueError, RuntimeError) as error:
        msg = f"generation.models.{name}.settings: {error}; check the types and values of {entry.settings}"
        raise HepgenError(msg) from error


def save(path: Path, trained: Trained, provenance: str) -> None:
    """Write a generator with all that drawing needs."""
    parts = {"network": trained.network, "preprocessing": trained.scaler}
    parts |= {"conditions": trained.told, "pool": trained.pool}
    card = trained.card | {"entry": trained.entry.model_dump(mode="json")}
    if trained.reweighter:
        parts |= {"reweighting_inputs": trained.reweighter.scaler, "reweighting": trained.reweighter.classifier}
        card["reweighting"] = trained.reweighter.about
    block = trained.block.model_dump(mode="json", include={"samples", "features", "images", "constituents"})
    save_model(path, parts, card | {"block": block}, provenance)


def load_generator(path: Path, device: torch.device) -> Trained:
    """A trained generator from its file alone.

    Raises:
        HepgenError: if the file is damaged, of another kind of model, or of an older version.
    """
    parts, card = load_model(path)
    if not {"entry", "block"} <= card.keys():
        msg = f"{path}: is no generator of this version of hepgen; name one that `hepgen generation train` wrote"
        raise HepgenError(msg)
    try:
        entry = Generator.model_validate(card["entry"])
        block = Generation.model_validate({**card["block"], "models": {card["name"]: entry}})
        network = build(card["name"], entry, block)
        scaler, told = make_scaler(network, entry, block), Standard(len(entry.conditions))
        for part, module in {"network": network, "preprocessing": scaler, "conditions": told}.items():
            module.load_state_dict(parts[part])
        pool = Pool(**parts["pool"])
        reweighter = _reweighter(entry, parts, card) if entry.reweighting else None
    except HepgenError as error:
        msg = f"{path}: {error}"
        raise HepgenError(msg) from error
    except (KeyError, RuntimeError, TypeError, ValidationError) as error:
        msg = f"{path}: does not hold the generator that it says; it was made by another version, so train it again"
        raise HepgenError(msg) from error
    return Trained(entry, block, network.to(device).eval(), scaler, told, pool, reweighter, card)


def _reweighter(entry: Generator, parts: dict[str, dict[str, Any]], card: dict[str, Any]) -> Reweighter:
    inputs = Standard(len(parts["reweighting_inputs"]["shift"]))
    inputs.load_state_dict(parts["reweighting_inputs"])
    classifier = TAGGERS.load(entry.reweighting)((len(inputs.shift),))
    classifier.load_state_dict(parts["reweighting"])
    if isinstance(classifier, nn.Module):
        classifier.eval()
    return Reweighter(inputs, classifier, card["reweighting"])
