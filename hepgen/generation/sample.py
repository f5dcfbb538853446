"""Draw events from a trained generator."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.generation.dataset import derive, derived_names
from hepgen.generation.train import make_scaler
from hepgen.models import GENERATORS
from hepgen.models.files import load_model
from hepgen.plan import provenance
from hepgen.provenance import seed_for
from hepgen.storage import Columns, create_h5, open_h5
from hepgen.table import Table
from hepgen.training import pick_device

__all__ = ["Generated", "generate", "read_generated", "sample"]

KIND = "generated"
BATCH = 10_000


class Generated(NamedTuple):
    """Generated events and how they came about.

    Attributes:
        table: Features and derived observables.
        model, seed: The entry of the config and the seed of its training.
        seconds: Time that drawing took, from noise to features in GeV and radians.
        history: Mean losses of every epoch, ``train`` and, where the model has one, ``validation``.
    """

    table: Table
    model: str
    seed: int
    seconds: float
    history: dict[str, list[float]]


def sample(config: Config, model_file: Path, output: Path, device: str = "auto") -> None:
    """Draw ``generation.events`` events into a file; equal models give equal events.

    Args:
        config: The run.
        model_file: Model that `hepgen.generation.train` wrote; its training's seed decides the noise too.
        output: File to write, of kind ``generated``; see `read_generated`.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        HepgenError: if the model file is damaged or makes values that are not finite.
    """
    parts, card = load_model(model_file)
    features = card["features"]
    network = GENERATORS.load(card["type"])(len(features), **card["settings"])
    network.load_state_dict(parts["network"])
    scaler = make_scaler(network.scaler, features)
    scaler.load_state_dict(parts["scaler"])
    network.to(pick_device(device)).eval()
    start = time.perf_counter()
    x = generate(network, scaler, config.generation.events, seed_for(card["seed"], card["model"], "sample"))
    seconds = time.perf_counter() - start
    if not np.isfinite(x).all():
        bad = int((~np.isfinite(x)).any(1).sum())
        msg = f"{model_file}: {bad} of {len(x)} generated events are not finite; lower training.learning_rate"
        raise HepgenError(msg)
    columns = dict(zip((*features, *derived_names(features)), np.hstack([x, derive(x, features)]).T, strict=True))
    about = {"model": card["model"], "seed": card["seed"], "seconds": seconds}
    with create_h5(output, KIND, provenance(config, "generation_sample", card["model"])) as file:
        Columns(file.create_group("columns")).append({name: v.astype(np.float32) for name, v in columns.items()})
        file.attrs["generation"] = json.dumps(about)
        Columns(file.create_group("history")).append({k: np.array(v) for k, v in card["history"].items() if v})


def generate(network: torch.nn.Module, scaler: torch.nn.Module, events: int, seed: int) -> np.ndarray:
    """Events in GeV and radians, shape (events, features), float64, drawn in batches."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [min(BATCH, events - start) for start in range(0, events, BATCH)]
    return torch.cat([scaler.inverse(network.sample(size, generator)) for size in sizes]).numpy()


def read_generated(paths: Sequence[str | Path]) -> list[Generated]:
    """Read files that `sample` wrote.

    Raises:
        HepgenError: if one is missing, damaged or of another kind.
    """
    return [_read(path) for path in paths]


def _read(path: str | Path) -> Generated:
    with open_h5(path, KIND) as file:
        about = json.loads(file.attrs["generation"])
        columns, history = ({n: data[:] for n, data in file[group].items()} for group in ("columns", "history"))
    return Generated(Table(columns), **about, history={name: values.tolist() for name, values in history.items()})
