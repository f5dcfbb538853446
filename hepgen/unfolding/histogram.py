"""Unfolded histograms of any observable on the command line."""

import csv
from collections.abc import Sequence
from itertools import pairwise, product
from pathlib import Path

import numpy as np

from hepgen.errors import HepgenError
from hepgen.storage import atomic, write_json
from hepgen.unfolding.bundle import read_bundle
from hepgen.unfolding.uncertainties import Budget

__all__ = ["deliver"]


def deliver(
    bundle: Path, observables: Sequence[str], edges: Sequence[str], output: Path | None, *, normalised: bool = False
) -> None:
    """Print the contents of every bin with their standard deviations, in all and by source.

    Args:
        bundle: Product of `hepgen.unfolding.bundle.write_bundle`.
        observables: Expressions of its columns.
        edges: Bin edges of each, separated by commas.
        output: Where to write to as well: the printed table as CSV, or JSON with the covariance matrices.
        normalised: As of `hepgen.unfolding.bundle.Bundle.histogram`.

    Raises:
        HepgenError: as `hepgen.unfolding.bundle.Bundle.histogram`, or if the output is of another format.
    """
    if output and output.suffix not in (".json", ".csv"):
        msg = f"{output}: an unfolded histogram is written as .json or .csv"
        raise HepgenError(msg)
    cuts = [_numbers(text) for text in edges]
    found = read_bundle(bundle).histogram([*observables], cuts, normalised=normalised)
    rows = _rows(observables, cuts, found)
    width = max(12, *map(len, rows[0]))
    for row in rows:
        print(" ".join((x if isinstance(x, str) else f"{x:.6g}").rjust(width) for x in row))
    if output and output.suffix == ".csv":
        with atomic(output) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    elif output:
        matrices = {**found.components, "total": found.total}
        about = {"bundle": bundle.name, "observables": [*observables], "edges": cuts, "normalised": normalised}
        covariance = {source: matrix.tolist() for source, matrix in matrices.items()}
        write_json(output, {**about, "values": found.central.tolist(), "covariance": covariance})


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        msg = f"--edges {text}: is no list of numbers; give them like 0,10,20.5"
        raise HepgenError(msg) from None


def _rows(observables: Sequence[str], edges: Sequence[Sequence[float]], found: Budget) -> list[list[str | float]]:
    """A heading and a row for each cell."""
    names = [f"{name} {side}" for name in observables for side in ("low", "high")]
    errors = [np.sqrt(np.diag(matrix)) for matrix in (found.total, *found.components.values())]
    bins = product(*(pairwise(cuts) for cuts in edges))
    cells = [[edge for pair in cell for edge in pair] for cell in bins]
    numbers = np.column_stack([found.central, *errors]).tolist()
    heading = [*names, "value", "error", *found.components]
    return [heading, *(cell + row for cell, row in zip(cells, numbers, strict=True))]
