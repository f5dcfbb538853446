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
from hepgen.plan import provenance
from hepgen.progress import Log
from hepgen.storage import Columns, Jagged, create_h5, open_h5
from hepgen.table import Table
from hepgen.training import pick_device

__all__ = ["Generated", "likelihood", "read_generated", "sample", "tabulate", "warn_of_outside", "write_generated"]

KIND = "generated"
# Held-out events that the density is evaluated at, at most.
HELD_OUT = 50_000


class Generated(NamedTuple):
    """Generated events and how they came about.

    Attributes:
        table: Features and derived observables, or observables of jets with their particles; ``condition_...``, and
            ``weight`` where there are weights.
        model, seed: The entry of the config and the seed of its training.
        seconds: Time that drawing took, from noise to features in GeV and radians.
        outside: How many events have conditions beyond those of the training.
        nll: Mean of −log p over held-out events in physical units, and its error; None where p is not known.
        history: Mean losses of every epoch, ``train`` and, where the model has one, ``validation``.
    """

    table: Table
    model: str
    seed: int
    seconds: float
    outside: int
    nll: tuple[float, float] | None
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
    name = trained.card["name"]
    nll = None
    if hasattr(trained.network, "log_prob"):
        nll = likelihood(trained, read_split(config, paths, [name])["test"][:HELD_OUT])
    blocks = trained.blocks(config.generation.events)
    outside = write_generated(
        output, model_file, trained, blocks, provenance(config, "generation_sample", name), nll=nll
    )
    warn_of_outside(trained, outside, config.generation.events)


def write_generated(
    output: Path,
    where: Path,
    trained: Trained,
    blocks: Iterator[Drawn],
    provenance: str,
    nll: tuple[float, float] | None = None,
) -> int:
    """Write events block by block as they are drawn; returns how many have conditions beyond those of the training.

    Args:
        output: File to write, whole or not at all.
        where: The model's file, for messages.
        trained: The generator.
        blocks: Its events.
        provenance: What the events are made from.
        nll: See `Generated`.

    Raises:
        HepgenError: if values are not finite.
    """
    card, seconds, outside = trained.card, 0.0, 0
    with create_h5(output, KIND, provenance) as file:
        while True:
            start = time.perf_counter()
            drawn = next(blocks, None)
            seconds += time.perf_counter() - start
            if drawn is None:
                break
            table = tabulate(where, trained, drawn)
            Columns(file.require_group("columns")).append(table.columns)
            for rank, jets in enumerate(table.constituents):
                Jagged(file.require_group(f"constituents/{rank}")).append(ak.values_astype(jets, np.float32))
            outside += drawn.outside
        about = {"model": card["name"], "seed": card["seed"], "seconds": seconds, "outside": outside, "nll": nll}
        file.attrs["generation"] = json.dumps(about)
        Columns(file.create_group("history")).append({k: np.array(v) for k, v in card["history"].items() if v})
    return outside


def tabulate(where: Path, trained: Trained, drawn: Drawn) -> Table:
    """Generated events as columns in float32, see `as_table`, with their ``weight`` where they are reweighted.

    Raises:
        HepgenError: if values are not finite.
    """
    bad = ~np.isfinite(drawn.x.reshape(len(drawn.x), -1)).all(1)
    if bad.any():
        msg = f"{where}: {bad.sum()} of {len(bad)} generated events are not finite; lower training.learning_rate"
        raise HepgenError(msg)
    table = as_table(trained.entry, trained.block, drawn.x, drawn.conditions)
    if trained.reweighter:
        table.columns["weight"] = trained.reweighter.weights(table).astype(np.float32)
    return table


def likelihood(trained: Trained, truth: Table) -> tuple[float, float]:
    """The weighted mean of −log p(event | conditions) in natural units of GeV and radians, and its standard error.

    Args:
        trained: A generator with ``log_prob``.
        truth: Events of `read_split`.
    """
    x, c = inputs(trained.block, trained.entry, truth), conditions(trained.entry, truth)
    device = next(trained.network.parameters()).device
    losses = []
    with torch.no_grad():
        for rows in torch.arange(len(truth)).split(trained.network.batch):
            z, told = trained.scaler(x[rows]), trained.told(c[rows])
            density = trained.network.log_prob(z.to(device), told.to(device)).cpu()
            losses.append(-(density.double() + trained.scaler.log_jacobian(x[rows])))
    nll, weight = torch.cat(losses).numpy(), truth.columns["weight"]
    mean = np.average(nll, weights=weight)
    spread = math.sqrt(np.average((nll - mean) ** 2, weights=weight))
    return float(mean), spread / math.sqrt(effective_events(weight))


def warn_of_outside(trained: Trained, outside: int, events: int) -> None:
    """Say on stderr how many events have conditions that the training had not, if any."""
    if outside:
        low, high = trained.pool.amin(0).tolist(), trained.pool.amax(0).tolist()
        known = (f"{name} {a:g} to {b:g}" for name, a, b in zip(trained.entry.conditions, low, high, strict=True))
        Log()(
            f"warning: {outside} of {events} events have conditions that {trained.card['name']} was not trained with "
            f"({', '.join(known)}): it extrapolates"
        )


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
        jets = tuple(Jagged(file["constituents"][rank]).read() for rank in file.get("constituents", ()))
    nll = about.pop("nll")
    lists = {name: values.tolist() for name, values in history.items()}
    return Generated(Table(columns, {}, jets), **about, nll=nll and tuple(nll), history=lists)
