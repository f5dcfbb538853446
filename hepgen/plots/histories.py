"""How trainings went, as a figure."""

import numpy as np

from hepgen.plots.figures import Axis, Curves, banded_line

__all__ = ["training_curves"]


def training_curves(histories: dict[str, dict[str, list[list[float]]]]) -> Curves:
    """Losses by epoch, median and 68 % band over trainings, as far as all trainings went.

    Args:
        histories: Model → part (``train``, ``validation``) → losses of every training by epoch.
    """
    lines = []
    for name, history in histories.items():
        for part, runs in history.items():
            epochs = min(len(run) for run in runs)
            if epochs:
                x = np.arange(1, epochs + 1)
                lines.append(banded_line(f"{name}, {part}", x, [run[:epochs] for run in runs]))
    return Curves(
        title="Training",
        lines=lines,
        x=Axis(label="epoch"),
        y=Axis(label="loss", log=bool(lines) and all(min(line.y) > 0 for line in lines)),
        notes=[] if lines else ["no model was trained in epochs"],
    )
