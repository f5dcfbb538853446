"""ROOT files: a TTree or an RNTuple with a branch for each column and for each field of a list."""

import re
from pathlib import Path

import numpy as np
import uproot

from hepgen.errors import HepgenError
from hepgen.export.products import Batch, Product

__all__ = ["write"]


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
    # uproot would look for addresses and names of objects in a path.
    with path.open("w+b") as handle, uproot.recreate(handle) as file:
        file["provenance"] = product.provenance
        for name, part in {tree: product, **product.further}.items():
            types = _types(part, rntuple)
            target = file.mkrntuple(name, types) if rntuple else file.mktree(name, types)
            for batch in part.batches():
                target.extend(_split(part, batch) if rntuple else batch)


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
