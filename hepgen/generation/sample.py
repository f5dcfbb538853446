"""Draw events from a trained generator."""

import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import awkward as ak
import numpy as np
import torch

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.generation.columns import as_table
from hepgen.generation.dataset import conditions, inputs, read_split
from hepgen.generation.generators import Drawn, Trained, load_generator
from hepgen.metrics.divergences import effective_events
from hepgen.plan import generator_modules
from hepgen.provenance import stamp
from hepgen.storage import Columns, Jagged, checksum, create_h5, open_h5
from hepgen.table import Table
from hepgen.training import pick_device

__all__ = ["Generated", "likelihood", "provenance", "read_generated", "sample", "tabulate", "write_generated"]

KIND = "generated"
# Held-out events that the density is evaluated at, at most.
HELD_OUT = 50_000


class Generated(NamedTuple):
    """Generated events and how they came about.

    Attributes:
        table: Features and derived observables, or observables of jets with their particles; ``condition_...``, and
            ``weight`` where there are weights.
        model, seed: The entry of the config and the seed of its training.
        seconds: Time that drawing took, from noise to the table's columns, weights included.
        device: Where the network drew them, ``cpu`` or ``cuda``.
        nll: Mean of −log p over held-out events in physical units, and its error; None where p is not known.
        held_out: How many events these are; 0 where p is not known.
        history: Mean losses of every epoch, ``train`` and, where the model has one, ``validation``.
    """

    table: Table
    model: str
    seed: int
    seconds: float
    device: str
    nll: tuple[float, float] | None
    held_out: int
    history: dict[str, list[float]]

    @property
    def weights(self) -> np.ndarray:
        """Weights of the events, shape (n,), float64; 1 where there are none."""
        return self.table.weights(self.model)


def sample(config: Config, model_file: Path, paths: dict[str, list[Path]], output: Path, device: str = "auto") -> None:
    """Draw ``generation.events`` events into a file; equal models give equal events.

    Args:
        config: The run.
        model_file: Model that `hepgen.generation.train` wrote; its training's seed decides the noise too.
        paths: Observables of all chunks of each sample, in order: held-out events tell how likely they are.
        output: File to write, of kind ``generated``; see `read_generated`.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        HepgenError: if the model file is damaged or makes values that are not finite.
    """
    trained = load_generator(model_file, pick_device(device))
    nll, held_out = None, 0
    if hasattr(trained.network, "log_prob"):
        truth = read_split(config, paths, [trained.card["name"]])["test"][:HELD_OUT]
        nll, held_out = likelihood(trained, truth), len(truth)
    blocks = trained.blocks(config.generation.events)
    about = provenance(__name__, model_file, trained)
    write_generated(output, model_file, trained, blocks, about, nll, held_out)


def provenance(module: str, model_file: Path, trained: Trained, seed: int = 0, conditions: Sequence[str] = ()) -> str:
    """What generated events depend on, but for their numbers: model, its training, seed, conditions, device and code.

    Args:
        module: What draws them.
        model_file: The model's file.
        trained: The model.
        seed: As in `Trained.blocks`.
        conditions: Those that are the same for all events, as ``NAME=VALUE``.
    """
    card = {
        "stage": "generation_sample",
        "name": trained.card["name"],
        "model": checksum([model_file]),
        "trained_from": json.loads(trained.card["provenance"]),
        "seed": seed,
        "conditions": sorted(conditions),
        "device": trained.device.type,
    }
    return stamp(card, [module, *generator_modules(trained.entry)])


def write_generated(
    output: Path,
    where: Path,
    trained: Trained,
    blocks: Iterator[Drawn],
    about: str,
    nll: tuple[float, float] | None = None,
    held_out: int = 0,
) -> None:
    """Write events block by block as they are drawn.

    Args:
        output: File to write, whole or not at all.
        where: The model's file, for messages.
        trained: The generator.
        blocks: Its events.
        about: What the events are made from.
        nll: See `Generated`.
        held_out: See `Generated`.

    Raises:
        HepgenError: if values are not finite.
    """
    card, seconds = trained.card, 0.0
    tables = (tabulate(where, trained, drawn) for drawn in blocks)
    with create_h5(output, KIND, about) as file:
        while True:
            start = time.perf_counter()
            table = next(tables, None)
            seconds += time.perf_counter() - start
            if table is None:
                break
            Columns(file.require_group("columns")).append(table.columns)
            for rank, jets in enumerate(table.constituents):
                Jagged(file.require_group(f"constituents/{rank}")).append(ak.values_astype(jets, np.float32))
        run = {"model": card["name"], "seed": card["seed"], "seconds": seconds, "device": trained.device.type}
        file.attrs["generation"] = json.dumps(run | {"nll": nll, "held_out": held_out})
        Columns(file.create_group("history")).append({k: np.array(v) for k, v in card["history"].items() if v})


def tabulate(where: Path, trained: Trained, drawn: Drawn) -> Table:
    """Generated events as columns in float32, see `as_table`, with their ``weight`` where they are reweighted.

    Raises:
        HepgenError: if values are not finite.
    """
    _refuse_infinite(where, drawn.x.reshape(len(drawn.x), -1))
    with np.errstate(over="ignore", invalid="ignore"):
        table = as_table(trained.entry, trained.block, drawn.x, drawn.conditions)
    _refuse_infinite(where, np.stack([*table.columns.values()], axis=1))
    if trained.reweighter:
        table.columns["weight"] = trained.reweighter.weights(table).astype(np.float32)
    return table


def _refuse_infinite(where: Path, values: np.ndarray) -> None:
    """Raise `HepgenError` if events of shape (n, numbers) are not finite."""
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        msg = f"{where}: {bad.sum()} of {len(bad)} generated events are not finite; lower training.learning_rate"
        raise HepgenError(msg)


def likelihood(trained: Trained, truth: Table) -> tuple[float, float]:
    """The weighted mean of −log p(event | conditions) in natural units of GeV and radians, and its standard error.

    An event beyond a bound that the preprocessing found in the training events, which the generator never makes,
    counts as one at that bound; see `hepgen.preprocessing.Support`.

    Args:
        trained: A generator with ``log_prob``.
        truth: Events of `read_split`.
    """
    x, c = inputs(trained.block, trained.entry, truth), conditions(trained.entry, truth)
    losses = []
    with torch.no_grad():
        for rows in torch.arange(len(truth)).split(trained.network.batch):
            z, told = trained.scaler(x[rows]), trained.told(c[rows])
            density = trained.network.log_prob(z.to(trained.device), told.to(trained.device)).cpu()
            losses.append(-(density.double() + trained.scaler.log_jacobian(x[rows])))
    nll, weight = torch.cat(losses).numpy(), truth.columns["weight"]
    mean = np.average(nll, weights=weight)
    spread = math.sqrt(np.average((nll - mean) ** 2, weights=weight))
    return float(mean), spread / math.sqrt(effective_events(weight))


def read_generated(paths: Sequence[str | Path]) -> list[Generated]:
    """Read files that `sample` wrote.

    Raises:
        HepgenError: if one is missing, damaged, of another kind or of another version.
    """
    return [_read(path) for path in paths]


def _read(path: str | Path) -> Generated:
    with open_h5(path, KIND) as file:
        about = json.loads(file.attrs["generation"])
        columns, history = ({n: data[:] for n, data in file[group].items()} for group in ("columns", "history"))
        jets = tuple(Jagged(file["constituents"][rank]).read() for rank in file.get("constituents", ()))
    lists = {name: values.tolist() for name, values in history.items()}
    try:
        generated = Generated(Table(columns, {}, jets), **about, history=lists)
    except TypeError as error:
        msg = f"{path}: was written by another version of hepgen; draw the events again"
        raise HepgenError(msg) from error
    return generated._replace(nll=generated.nll and tuple(generated.nll))
