"""Draw the observables of all samples together, from their tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hepgen.config import Config
from hepgen.overview.figures import comparison, contents
from hepgen.plots.figures import write_figure
from hepgen.table import Table, read_tables

__all__ = ["evaluate"]


def evaluate(config: Config, tables: Mapping[str, Sequence[Path]], output: Path) -> None:
    """Write the numbers of one figure for each observable into ``output/figures``.

    Args:
        config: The configuration of the run.
        tables: The observables of each sample.
        output: Folder of the overview's products.

    Raises:
        HepgenError: if a table is unreadable.
    """
    samples = {name: read_tables(tables[name], unseen=True) for name in config.samples}
    for (group, observable), names in contents(config).items():
        curves = {label: curve for name in names for label, curve in _levels(name, samples[name], observable)}
        write_figure(output / "figures" / f"{group}_{observable}.json", comparison(observable, curves))


def _levels(name: str, table: Table, observable: str) -> list[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """An observable of a sample at detector level, and at particle level where there is one."""
    weights = table.columns.get("weight", np.ones(len(table)))
    levels = ((name, table.columns), (f"{name}, particle level", table.truth))
    return [(label, (columns[observable], weights)) for label, columns in levels if observable in columns]
