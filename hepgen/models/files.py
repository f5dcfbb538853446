"""Trained models on disk: tensors and settings in one safetensors file, nothing to unpickle."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from hepgen.errors import HepgenError
from hepgen.storage import atomic

__all__ = ["load_model", "read_card", "save_model"]


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
    with _opened(path) as file:
        parts: dict[str, dict[str, Any]] = {}
        for key in file.keys():  # noqa: SIM118 - not a mapping
            part, _, name = key.partition("/")
            parts.setdefault(part, {})[name] = file.get_tensor(key)
        return parts, _card(file)


def read_card(path: str | Path) -> dict[str, Any]:
    """A model file's card with the ``provenance``, without its tensors.

    Raises:
        HepgenError: if the file is missing, damaged or was not written by `save_model`.
    """
    with _opened(path) as file:
        return _card(file)


@contextmanager
def _opened(path: str | Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        msg = f"{path}: not a readable model file ({error}); was the model trained?"
        raise HepgenError(msg) from error


def _card(file: safe_open) -> dict[str, Any]:
    about = json.loads(file.metadata()["hepgen"])
    return about["card"] | {"provenance": about["provenance"]}
