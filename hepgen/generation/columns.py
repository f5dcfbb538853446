"""Events as a generator makes them, as named columns: the same for generated events and for truth."""

import numpy as np
import torch

from hepgen.config import Generation, Generator
from hepgen.generation.dataset import conditions, inputs
from hepgen.generation.derived import derive, derived_names
from hepgen.generation.jets import STEP, jet_columns, particles
from hepgen.table import Table

__all__ = ["as_generated", "as_table"]


def as_table(entry: Generator, block: Generation, x: np.ndarray, c: np.ndarray) -> Table:
    """Columns in float32: features and what follows from them, or a jet's observables, then ``condition_...``.

    Args:
        entry: What the generator makes and is told.
        block: The analysis, which says how.
        x: Events in GeV and radians, images or constituents, shape (n, *shape). The particles of jets become the
            table's constituents.
        c: Conditions of shape (n, conditions).
    """
    jets = ()
    if entry.inputs == "features":
        names = [*block.features, *derived_names(block.features)]
        columns = dict(zip(names, np.hstack([x, derive(x, block.features)]).T, strict=True))
    else:
        jets = (particles(entry, block, x),)
        columns = jet_columns(jets[0])
    columns |= {f"condition_{name}": values for name, values in zip(entry.conditions, c.T, strict=True)}
    return Table({name: values.astype(np.float32) for name, values in columns.items()}, {}, jets)


def as_generated(entry: Generator, block: Generation, truth: Table) -> Table:
    """True events in the columns of generated ones, with the resolution of the generator's images or constituents."""
    x, c = inputs(block, entry, truth), conditions(entry, truth)
    steps = torch.arange(len(truth)).split(STEP)
    return Table.concatenate([as_table(entry, block, x[rows].numpy(), c[rows].numpy()) for rows in steps])
