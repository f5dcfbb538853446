"""Trained models on disk: tensors and settings in one safetensors file, nothing to unpickle."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from hepgen.errors import HepgenError
from hepgen.storage import atomic

__all__ = ["load_model", "save_model"]


def save_model(path: str | Path, parts: dict[str, nn.Module], card: dict[str, Any], provenance: str = "{}") -> None:
    """Write named modules (anything with a ``state_dict``) and the card that says how to build them."""
    tensors = {
        f"{part}/{name}": tensor.detach().cpu().contiguous()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
    # One entry only: safetensors writes several in a random order, and equal models are to be equal files.
    metadata = {"hepgen": json.dumps({"card": card, "provenance": provenance}, sort_keys=True)}
    with atomic(path) as temporary:
        save_file(tensors, temporary, metadata)


def load_model(path: str | Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """The state dictionaries of a model file's parts, and its card with the ``provenance``.

    Raises:
        HepgenError: if the file is missing, damaged or was not written by `save_model`.
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["hepgen"])
            card = about["card"] | {"provenance": about["provenance"]}
            parts: dict[str, dict[str, Any]] = {}
            for key in file.keys():  # noqa: SIM118 - not a mapping
                part, _, name = key.partition("/")
                parts.setdefault(part, {})[name] = file.get_tensor(key)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        msg = f"{path}: not a readable model file ({error}); was the model trained?"
        raise HepgenError(msg) from error
    return parts, card
