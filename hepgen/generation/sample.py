"""Draw events from a trained generator."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.generation.dataset import derive, derived_names
from hepgen.generation.generators import Drawn, Trained, load_generator
from hepgen.plan import provenance
from hepgen.storage import Columns, create_h5, open_h5
from hepgen.table import Table
from hepgen.training import pick_device

__all__ = ["Generated", "read_generated", "sample", "tabulate"]

KIND = "generated"


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
    trained = load_generator(model_file, pick_device(device))
    card = trained.card
    seconds = 0.0
    with create_h5(output, KIND, provenance(config, "generation_sample", card["name"])) as file:
        columns = Columns(file.create_group("columns"))
        blocks = trained.blocks(config.generation.events)
        while True:
            start = time.perf_counter()
            drawn = next(blocks, None)
            seconds += time.perf_counter() - start
            if drawn is None:
                break
            columns.append(tabulate(model_file, trained, drawn).columns)
        about = {"model": card["name"], "seed": card["seed"], "seconds": seconds}
        file.attrs["generation"] = json.dumps(about)
        Columns(file.create_group("history")).append({k: np.array(v) for k, v in card["history"].items() if v})


def tabulate(where: Path, trained: Trained, drawn: Drawn) -> Table:
    """Generated events as columns in float32: features, what follows from them, and ``condition_...``.

    Raises:
        HepgenError: if values are not finite.
    """
    bad = ~np.isfinite(drawn.x.reshape(len(drawn.x), -1)).all(1)
    if bad.any():
        msg = f"{where}: {bad.sum()} of {len(bad)} generated events are not finite; lower training.learning_rate"
        raise HepgenError(msg)
    features = trained.block.features
    columns = dict(
        zip([*features, *derived_names(features)], np.hstack([drawn.x, derive(drawn.x, features)]).T, strict=True)
    )
    columns |= {
        f"condition_{name}": values for name, values in zip(trained.entry.conditions, drawn.conditions.T, strict=True)
    }
    return Table({name: values.astype(np.float32) for name, values in columns.items()})


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
