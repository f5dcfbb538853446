"""ROOT files: a TTree or an RNTuple with a branch for each column and for each field of a list."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
import uproot

from hepgen.errors import HepgenError
from hepgen.export.products import Batch, Product
from hepgen.provenance import digest
from hepgen.storage import checksum

__all__ = ["write"]

TIME = datetime(2000, 1, 1, tzinfo=UTC)


def write(product: Product, path: Path, *, tree: str = "events", rntuple: bool = False) -> None:
    """Write a tree, and what it was made from as the string object ``provenance``; further tables are further trees.

    The fields of a list ``particles`` are branches ``particles_pt``, ..., which a TTree counts by ``nparticles``.

    Args:
        product: What to write.
        path: Where to.
        tree: Name of the tree.
        rntuple: Whether to write an RNTuple rather than a TTree.

    Raises:
        HepgenError: if the tree cannot have that name.
    """
    if not re.fullmatch(r"[A-Za-z]\w*", tree, re.ASCII) or tree in ("provenance", *product.further):
        taken = ", ".join(["provenance", *product.further])
        msg = f"a tree cannot be named {tree!r}; use letters, digits and underscores, and not {taken}"
        raise HepgenError(msg)
    # ROOT's files have a name, by which uproot tells them apart, and the time of writing in each part; here both are
    # given, so that equal products are equal files.
    identity = UUID(digest([tree, rntuple, checksum(product.paths)]) * 2)
    # uproot would look for addresses and names of objects in a path.
    with _stopped_clock(), path.open("w+b") as handle, uproot.recreate(handle, uuid_function=lambda: identity) as file:
        file["provenance"] = product.provenance
        for name, part in {tree: product, **product.further}.items():
            types = _types(part, rntuple)
            target = file.mkrntuple(name, types) if rntuple else file.mktree(name, types)
            for batch in part.batches():
                target.extend(_split(part, batch) if rntuple else batch)


@contextmanager
def _stopped_clock() -> Iterator[None]:
    """Let uproot, which has no setting for it, write `TIME` wherever it writes a time."""
    encode = uproot._util.datetime_to_code
    code = encode(TIME)
    uproot._util.datetime_to_code = lambda time: code
    try:
        yield
    finally:
        uproot._util.datetime_to_code = encode


def _types(product: Product, rntuple: bool) -> dict[str, np.dtype | str]:
    types: dict[str, np.dtype | str] = {name: product.dtype(name) for name in product.columns}
    for name, fields in product.lists.items():
        of = {field: product.dtype(f"{name}_{field}") for field in fields}
        if rntuple:
            types |= {f"{name}_{field}": f"var * {dtype}" for field, dtype in of.items()}
        else:
            types[name] = f"var * {{{', '.join(f'{field}: {dtype}' for field, dtype in of.items())}}}"
    return types


def _split(product: Product, batch: Batch) -> Batch:
    """A batch with a list for each field, as a TTree has: the same names for both."""
    split = {name: batch[name] for name in product.columns}
    return split | {f"{name}_{field}": batch[name][field] for name in product.lists for field in product.lists[name]}
