"""Train one tagger with one seed."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hepgen import training
from hepgen.config import Config, Model
from hepgen.errors import HepgenError
from hepgen.models import TAGGERS
from hepgen.models.files import save_model
from hepgen.plan import provenance
from hepgen.preprocessing import Scaler
from hepgen.provenance import digest
from hepgen.registry import look_up
from hepgen.storage import checksum
from hepgen.table import Table
from hepgen.tagging.dataset import load, make_scaler, raw_inputs, scaled
from hepgen.training import Indexable

__all__ = ["train"]

# Enough images to fix their common scale.
SCALE_IMAGES = 4096


def train(
    config: Config, model: str, seed: int, paths: dict[str, list[Path]], output: Path, device: str = "auto"
) -> training.History:
    """Train the named model and write it with its preprocessing; returns the losses of every epoch.

    Unsupervised models see background (label 0) only. A running training keeps its state beside the output, in
    ``<output>.checkpoint``, and goes on from there when it is started again.

    Raises:
        HepgenError: if the model or its inputs are unknown, events are missing or the training diverges.
    """
    entry = look_up("entry of tagging.models", model, config.tagging.models)
    network_class = TAGGERS.load(entry.type)
    supervised = getattr(network_class, "supervised", False)
    tables = _tables(config, entry, paths, supervised)
    inputs = [raw_inputs(config, entry, table) for table in tables]
    scaler = _fit_scaler(entry, inputs[0])
    data, validation = (_arrays(scaled(x, scaler), t, supervised) for x, t in zip(inputs, tables, strict=True))
    shape = tuple(data[0][torch.arange(1)].shape[1:])
    torch.manual_seed(seed)
    network = network_class(shape, **entry.settings)
    stamp = provenance(config, "tagging_train", model)
    checkpoint = Path(f"{output}.checkpoint")
    events = checksum(chain.from_iterable(paths.values()))
    history = training.History()
    if hasattr(network, "loss"):
        network.to(training.pick_device(device))
        history = training.train(
            network, data, validation, settings=entry.training, seed=seed,
            checkpoint=checkpoint, card=digest([stamp, seed, events]), name=f"{model}, seed {seed}",
        )  # fmt: skip
    else:
        _fit(network, data, seed, supervised)
    card = {"name": model, "seed": seed, "shape": shape, "supervised": supervised, **entry.model_dump(mode="json")}
    card["history"] = {"train": history.train, "validation": history.validation}
    save_model(output, {"model": network, "preprocessing": scaler}, card, stamp)
    checkpoint.unlink(missing_ok=True)
    return history


def _tables(config: Config, entry: Model, paths: dict[str, list[Path]], supervised: bool) -> list[Table]:
    """Events to train and to validate on."""
    images = entry.inputs == "images"
    parts = load(config, paths, [] if images else entry.inputs, ("train", "validation"), constituents=images)
    if supervised:
        return parts
    background = [table[table.columns["label"] == 0] for table in parts]
    if not all(len(table) for table in background):
        msg = "tagging: no background events (label 0) to train on; add a background sample to tagging.samples"
        raise HepgenError(msg)
    return background


def _fit_scaler(entry: Model, inputs: Indexable) -> Scaler:
    scaler = make_scaler(entry)
    if isinstance(inputs, Tensor):
        return scaler.fit(inputs)
    some = np.linspace(0, len(inputs) - 1, min(len(inputs), SCALE_IMAGES)).astype(np.int64)
    return scaler.fit(inputs[torch.from_numpy(some)])


def _arrays(inputs: Indexable, table: Table, supervised: bool) -> list[Indexable]:
    """Inputs, then labels for a supervised model, then weights unless all are 1; rows are events or jets."""
    columns = [table.columns["label"]] if supervised else []
    if np.any(table.columns["weight"] != 1):
        columns.append(table.columns["weight"])
    repeats = len(inputs) // len(table)
    return [inputs, *(torch.from_numpy(np.tile(column, repeats)).float() for column in columns)]


def _fit(network: Any, data: list[Indexable], seed: int, supervised: bool) -> None:
    """Fit an estimator that is not trained by batches."""
    x, *rest = data
    if not isinstance(x, Tensor):
        x = x[torch.arange(len(x))]
    if supervised:
        network.fit(x, *rest, seed=seed)
    else:
        network.fit(x, *rest)
