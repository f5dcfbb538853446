"""What a file says of its own making: the stamp that HDF5 products, models and exports carry with them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hepgen.errors import HepgenError
from hepgen.storage import open_h5

__all__ = ["read_stamps"]


def read_stamps(path: Path) -> list[dict[str, Any]]:
    """The settings, code and versions that a file was made with; several where it was exported from several files.

    Returns:
        What `hepgen.provenance.stamp` wrote; nothing for files that carry none.

    Raises:
        HepgenError: if the file cannot be read.
    """
    read = READERS.get(path.suffix)
    if read is None:
        return []
    try:
        found = json.loads(read(path))
    except HepgenError:
        raise
    except (KeyError, TypeError):
        return []
    except Exception as error:  # each format's library has errors of its own
        msg = f"{path}: not a readable {path.suffix[1:]} file ({type(error).__name__}: {error})"
        raise HepgenError(msg) from error
    stamps = found if isinstance(found, list) else [found]
    return [stamp for stamp in stamps if isinstance(stamp, dict) and isinstance(stamp.get("card"), dict)]


def _hdf5(path: Path) -> str:
    with open_h5(path) as file:
        return str(file.attrs.get("provenance", "[]"))


def _model(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        return json.loads(file.metadata()["hepgen"])["provenance"]


def _onnx(path: Path) -> str:
    import onnx

    model = onnx.load(path, load_external_data=False)
    return {entry.key: entry.value for entry in model.metadata_props}["provenance"]


def _root(path: Path) -> str:
    import uproot

    # uproot would look for addresses and names of objects in a path.
    with path.open("rb") as handle, uproot.open(handle) as file:
        return str(file["provenance"])


def _parquet(path: Path) -> str:
    from pyarrow import parquet

    return parquet.read_schema(path).metadata[b"provenance"].decode()


def _npz(path: Path) -> str:
    with np.load(path, allow_pickle=False) as arrays:
        return str(arrays["provenance"])


READERS: dict[str, Callable[[Path], str]] = {
    ".h5": _hdf5,
    ".safetensors": _model,
    ".onnx": _onnx,
    ".root": _root,
    ".parquet": _parquet,
    ".npz": _npz,
}
