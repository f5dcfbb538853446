"""Score the held-out events with a trained tagger."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.plan import provenance
from hepgen.preprocessing import scaled
from hepgen.storage import create_h5
from hepgen.table import Table
from hepgen.tagging.dataset import columns_of, held_out_samples, load, raw_inputs
from hepgen.tagging.taggers import BATCH, Trained, in_batches, load_tagger
from hepgen.training import Indexable, pick_device

__all__ = ["KIND", "score"]

KIND = "scores"
EXAMPLES = 2
# Events of each class whose codes are kept, up to twice as many.
CODES = 2000
STEPS = 7


def score(
    config: Config, model_file: Path, paths: dict[str, list[Path]], output: Path, device: str = "auto"
) -> np.ndarray:
    """Write the anomaly scores of the test events, in canonical order; returns those of the first kind, shape (n,).

    An event's score is the mean over its jets for a model that looks into jets. For models with a code the file also
    holds codes of some events, further signals aside; for those that see images, mean images, examples and their
    reconstruction.

    Raises:
        HepgenError: if the model file is damaged or not of this configuration, or a score is not finite.
    """
    tagger = load_tagger(config, model_file)
    entry, card = tagger.entry, tagger.card
    observable = config.tagging.observable_of(entry)
    columns = sorted({*columns_of(entry), *([observable] if tagger.rank else [])})
    (table,) = load(config, paths, columns, ("test",), constituents=isinstance(entry.inputs, str))
    where = pick_device(device)
    if isinstance(tagger.network, nn.Module):
        tagger.network.to(where)
    inputs = scaled(raw_inputs(config, entry, table), tagger.scaler)
    scores = {kind: _of_events(tagger, inputs, table, kind, observable, where) for kind in entry.scores or [""]}
    with create_h5(output, KIND, provenance(config, "tagging_score", card["name"])) as file:
        for kind, values in scores.items():
            file.create_dataset(f"score/{kind or 'default'}", data=values, track_times=False)
        for name in ("name", "seed", "supervised"):
            file.attrs[name] = card[name]
        file.attrs["history"] = json.dumps(card["history"])
        main = table.columns["sample"] < len(held_out_samples(config))
        classes = [torch.from_numpy(np.flatnonzero(main & (table.columns["label"] == value))) for value in (0, 1)]
        if hasattr(tagger.network, "encode"):
            _write_latent(file, tagger.network, inputs, classes, where)
        if entry.inputs == "images":
            _write_images(file, tagger, inputs, classes, where)
    return next(iter(scores.values()))


def _of_events(
    tagger: Trained, inputs: Indexable, table: Table, kind: str, observable: str, device: torch.device
) -> np.ndarray:
    """Finite scores of one kind, shape (n,): the mean over jets, decorrelated if the tagger is."""
    scores = tagger.scores(inputs, kind, device).reshape(-1, len(table)).mean(0)
    if not np.isfinite(scores).all():
        msg = f"{tagger.card['name']}, seed {tagger.card['seed']}: {np.sum(~np.isfinite(scores))} scores"
        raise HepgenError(f"{msg} are not finite; did the training diverge?")
    if tagger.rank is None:
        return scores
    pairs = torch.from_numpy(np.stack([scores, table.columns[observable]], axis=1, dtype=np.float64))
    return in_batches(lambda pair: tagger.rank(*pair.T), pairs, torch.device("cpu"))


def _write_latent(
    file: h5py.File, network: Any, inputs: Indexable, classes: list[Tensor], device: torch.device
) -> None:
    """Codes of some events of each class (of their leading jets), with labels; KL per dimension where there is one."""
    some = [rows[:: max(1, len(rows) // CODES)] for rows in classes]
    rows = inputs[torch.cat(some)]
    label = np.repeat([0, 1], [len(numbers) for numbers in some])
    latent = {"code": in_batches(network.encode, rows, device), "label": label}
    if hasattr(network, "divergence"):
        latent["divergence"] = in_batches(network.divergence, rows, device)
    for key, values in latent.items():
        file.create_dataset(f"latent/{key}", data=values, track_times=False)


def _write_images(
    file: h5py.File, tagger: Trained, inputs: Indexable, classes: list[Tensor], device: torch.device
) -> None:
    """Of the leading jets, before scaling: mean image and examples of each class, and what the model makes of them."""

    def write(name: str, images: Tensor) -> None:
        values = tagger.scaler.inverse(images).float().numpy().squeeze(-3)
        file.create_dataset(f"images/{name}", data=values, track_times=False)

    network, examples = tagger.network, []
    for leading, name in zip(classes, ("background", "signal"), strict=True):
        if len(leading) == 0:
            continue
        examples.append(inputs[leading[:EXAMPLES]])
        write(f"{name}/mean", sum(inputs[index].double().sum(0) for index in leading.split(BATCH)) / len(leading))
        write(f"{name}/input", examples[-1])
        if hasattr(network, "reconstruct"):
            write(f"{name}/reconstruction", torch.from_numpy(in_batches(network.reconstruct, examples[-1], device)))
    if hasattr(network, "encode") and len(examples) == 2:
        ends = [torch.from_numpy(in_batches(network.encode, example[:1], device)) for example in examples]
        path = torch.cat([torch.lerp(*ends, step / (STEPS - 1)) for step in range(STEPS)])
        write("interpolation", torch.from_numpy(in_batches(network.decode, path, device)))
