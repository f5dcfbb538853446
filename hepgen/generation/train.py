"""Train one generator with one seed."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hepgen.checkpoints import resumable
from hepgen.config import Config, Generation, Generator
from hepgen.errors import HepgenError
from hepgen.generation.columns import as_generated, as_table
from hepgen.generation.dataset import Part, conditions, inputs, read_split
from hepgen.generation.generators import Pool, Trained, build, save
from hepgen.generation.reweighting import Reweighter, fit
from hepgen.generation.scaling import make_scaler
from hepgen.generation.watch import Watch
from hepgen.plan import provenance
from hepgen.preprocessing import Standard, scaled
from hepgen.progress import Log
from hepgen.provenance import seed_for
from hepgen.registry import look_up
from hepgen.table import Table
from hepgen.training import Adversarial, Descent, Indexable, pick_device
from hepgen.training import train as train_network

__all__ = ["Mirrored", "mirror_eta", "train"]

# Conditions of training events that a model file keeps, and jets that a scaling is fitted to, at most.
POOL, FITTED = 100_000, 20_000
# Events that the mean weight of reweighted ones is made 1 with.
NORMALISED = 50_000


def train(
    config: Config, model: str, seed: int, paths: dict[str, list[Path]], output: Path, device: str = "auto"
) -> None:
    """Train a generator on the samples' training part and save it with its preprocessing and its history.

    Args:
        config: The run.
        model: An entry of ``generation.models``.
        seed: Fixes the weights that the network starts from and the order of its batches.
        paths: Observables of all chunks of each sample, in order.
        output: Model file to write.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        HepgenError: if the events or the settings are unfit for training, or the generator collapses, diverges or
            never begins to learn.
    """
    block = config.generation
    entry = look_up("entry of generation.models", model, block.models)
    parts = read_split(config, paths, [model])
    if entry.reweighting and not len(parts["validation"]):
        msg = f"generation.models.{model}.reweighting: needs validation events; raise generation.validation_fraction"
        raise HepgenError(msg)
    torch.manual_seed(seed)
    network = build(model, entry, block).to(pick_device(device))
    trained, data, validation = _prepare(network, entry, block, {"name": model, "seed": seed}, parts)
    made_from = provenance(config, "generation_train", model)
    files = [path for sample in block.samples for path in paths[sample]]
    with resumable(output, made_from, seed, inputs=files) as checkpoint:
        history = train_network(
            network,
            data,
            validation,
            settings=entry.training,
            seed=seed,
            method=Adversarial if hasattr(network, "discriminator_loss") else Descent,
            name=f"{model}, seed {seed}",
            watch=Watch(trained, parts["train"]),
        )
        if getattr(network, "pretrains", False):
            checkpoint.discard()
            msg = f"generation.models.{model}: the training ended before the generator began to learn"
            raise HepgenError(f"{msg}; lower settings.pretraining or raise training.epochs")
        trained = replace(trained, card=trained.card | {"history": asdict(history)})
        if entry.reweighting:
            trained = replace(trained, reweighter=_reweighter(trained, parts))
        save(output, trained, made_from)


def _prepare(
    network: nn.Module, entry: Generator, block: Generation, card: dict[str, Any], parts: dict[Part, Table]
) -> tuple[Trained, list[Indexable], list[Indexable]]:
    """The generator before its training, with its preprocessing, and its training and validation data."""
    x, held_out = (inputs(block, entry, parts[part]) for part in ("train", "validation"))
    c, c_held_out = (conditions(entry, parts[part]) for part in ("train", "validation"))
    weight, weight_held_out = (parts[part].columns["weight"] for part in ("train", "validation"))
    mirror = entry.inputs == "features" and getattr(network, "mirror_eta", False)
    scaler, told = make_scaler(network, entry, block), Standard(len(entry.conditions)).fit(c)
    if isinstance(x, Tensor):
        scaler.fit(mirror_eta(x, block.features) if mirror else x)
    else:
        scaler.fit(x[torch.arange(min(len(x), FITTED))])
    trained = Trained(entry, block, network, scaler, told, _pool(c, weight, card["seed"]), None, card)
    weighted = bool(np.ptp(np.concatenate([weight, weight_held_out])))
    data = _arrays(trained, x, c, weight if weighted else None)
    if mirror:
        data[0] = Mirrored(data[0], block.features)
    weight_held_out = weight_held_out if weighted else None
    return trained, data, _arrays(trained, held_out, c_held_out, weight_held_out) if len(held_out) else []


def _arrays(trained: Trained, x: Indexable, c: Tensor, weight: np.ndarray | None) -> list[Indexable]:
    """What a network learns from: events, conditions and weights with a mean of 1, if there are weights."""
    arrays = [scaled(x, trained.scaler), trained.told(c)]
    return arrays if weight is None else [*arrays, torch.from_numpy(weight / weight.mean()).float()]


def mirror_eta(x: Tensor, features: Sequence[str]) -> Tensor:
    """Events of shape (n, d), then the same reflected along the beam: (2n, d) with every η of the copy negated."""
    return torch.cat([x, x * _signs(features)])


class Mirrored:
    """Scaled events of which every batch reflects a random half along the beam, η → −η.

    Colliding protons have no forward direction. The scaler must have been fitted to data that are symmetric
    in η, so that it maps 0 to 0.
    """

    def __init__(self, data: Tensor, features: Sequence[str]) -> None:
        self.data = data
        self.signs = _signs(features)

    def __len__(self) -> int:
        return len(self.data)

    def to(self, device: torch.device) -> "Mirrored":
        """Itself, moved to a device, as a module is."""
        self.data, self.signs = self.data.to(device), self.signs.to(device)
        return self

    def __getitem__(self, index: Tensor) -> Tensor:
        flip = torch.rand(len(index), 1, device=self.data.device) < 0.5
        return torch.where(flip, self.data[index] * self.signs, self.data[index])


def _signs(features: Sequence[str]) -> Tensor:
    return torch.tensor([-1.0 if name.startswith("eta_") else 1.0 for name in features])


def _reweighter(trained: Trained, parts: dict[Part, Table]) -> Reweighter:
    """Weights for generated events by training and validation events, and as many generated ones as of each."""
    name, seed, entry, block = trained.card["name"], trained.card["seed"], trained.entry, trained.block
    truth = [parts[part] for part in ("train", "validation")]

    def draw(events: int, purpose: str) -> Iterator[Table]:
        return (as_table(entry, block, d.x, d.conditions) for d in trained.blocks(events, seed=purpose))

    made = Table.concatenate(list(draw(len(truth[0]) + len(truth[1]), "reweighting")))
    split = made[: len(truth[0])], made[len(truth[0]) :]
    reweighter = fit(
        entry.reweighting,
        [as_generated(entry, block, table) for table in truth],
        [table.columns["weight"] for table in truth],
        split,
        draw(NORMALISED, "normalisation"),
        seed,
    )
    about = reweighter.about
    Log()(
        f"{name}, seed {seed}: reweighted; validation loss {about['validation_loss']:.4f} (a coin's: 0.6931), "
        f"effective events {about['effective_share']:.1%}, {about['clamped']} of {about['events']} log-odds clamped"
    )
    return reweighter


def _pool(given: Tensor, weight: np.ndarray, seed: int) -> Pool:
    """Conditions of training events: all or some of them, or as many drawn by their weights where these differ."""
    limits = torch.stack(given.aminmax(dim=0))
    if given.shape[1] == 0:
        return Pool(given[:1], limits)
    rng = np.random.default_rng(seed_for(seed, "pool"))
    share = weight / weight.sum() if np.ptp(weight) else None
    rows = rng.choice(len(given), min(len(given), POOL), replace=share is not None, p=share)
    return Pool(given[torch.from_numpy(rows)], limits)
