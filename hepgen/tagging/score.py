"""Score the held-out events with a trained tagger."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor, nn

from hepgen.config import Config
from hepgen.errors import HepgenError
from hepgen.models import TAGGERS
from hepgen.models.files import load_model
from hepgen.plan import provenance
from hepgen.preprocessing import Scaler
from hepgen.registry import look_up
from hepgen.storage import create_h5
from hepgen.tagging.dataset import load, make_scaler, raw_inputs, scaled
from hepgen.training import Indexable, pick_device

__all__ = ["KIND", "score"]

KIND = "scores"
BATCH = 4096
EXAMPLES = 2


def score(
    config: Config, model_file: Path, paths: dict[str, list[Path]], output: Path, device: str = "auto"
) -> np.ndarray:
    """Write the anomaly scores of the test events, in canonical order, and return them, shape (n,).

    An event's score is the mean over its jets for a model that sees jet images. For those the file also holds the
    mean image of background and signal, and the first two events of each with their reconstruction.

    Raises:
        HepgenError: if the model file is damaged or not of this configuration, or a score is not finite.
    """
    parts, card = load_model(model_file)
    entry = look_up("entry of tagging.models", card["name"], config.tagging.models)
    images = card["inputs"] == "images"
    (table,) = load(config, paths, [] if images else card["inputs"], ("test",), constituents=images)
    scaler = make_scaler(entry)
    scaler.load_state_dict(parts["preprocessing"])
    network = TAGGERS.load(card["type"])(tuple(card["shape"]), **card["settings"])
    network.load_state_dict(parts["model"])
    where = pick_device(device)
    if isinstance(network, nn.Module):
        network.to(where).eval()
    inputs = scaled(raw_inputs(config, entry, table), scaler)
    scores = _in_batches(network.score, inputs, where).reshape(-1, len(table)).mean(0)
    if not np.isfinite(scores).all():
        msg = f"{card['name']}, seed {card['seed']}: {np.sum(~np.isfinite(scores))} scores are not finite"
        raise HepgenError(f"{msg}; did the training diverge?")
    with create_h5(output, KIND, provenance(config, "tagging_score", card["name"])) as file:
        _write(file, scores, card)
        if images:
            _write_images(file, inputs, table.columns["label"], scaler, lambda x: _rebuild(network, x, where))
    return scores


def _in_batches(function: Callable[[Tensor], Tensor], inputs: Indexable, device: torch.device) -> np.ndarray:
    with torch.no_grad():
        batches = torch.arange(len(inputs)).split(BATCH)
        return torch.cat([function(inputs[index].to(device)).cpu() for index in batches]).numpy().astype(np.float32)


def _write(file: h5py.File, scores: np.ndarray, card: dict[str, Any]) -> None:
    file.create_dataset("score", data=scores, track_times=False)
    for name in ("name", "seed", "supervised"):
        file.attrs[name] = card[name]
    file.attrs["history"] = json.dumps(card["history"])


def _rebuild(network: Any, inputs: Tensor, device: torch.device) -> Tensor | None:
    """Reconstructed inputs, if the model makes any."""
    if not hasattr(network, "reconstruct"):
        return None
    return torch.from_numpy(_in_batches(network.reconstruct, inputs, device))


def _write_images(
    file: h5py.File,
    inputs: Indexable,
    label: np.ndarray,
    scaler: Scaler,
    rebuild: Callable[[Tensor], Tensor | None],
) -> None:
    """Mean image of the leading jet per class, and examples with what the model makes of them, before scaling."""
    for value, name in ((0, "background"), (1, "signal")):
        leading = torch.from_numpy(np.flatnonzero(label == value))
        if len(leading) == 0:
            continue
        examples = inputs[leading[:EXAMPLES]]
        shown = {
            "mean": sum(inputs[index].double().sum(0) for index in leading.split(BATCH)) / len(leading),
            "input": examples,
            "reconstruction": rebuild(examples),
        }
        for key, images in shown.items():
            if images is not None:
                values = scaler.inverse(images).float().numpy().squeeze(-3)
                file.create_dataset(f"images/{name}/{key}", data=values, track_times=False)
