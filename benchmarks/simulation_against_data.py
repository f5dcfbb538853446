"""Draw the embedded QCD sample against real background events of the LHC Olympics.

Usage: python benchmarks/simulation_against_data.py LHCO.h5 results/observables/qcd/*.h5 --output docs/images
"""

import argparse
from pathlib import Path

import numpy as np

from hepgen.config import JetDefinition
from hepgen.jets import observe_batches
from hepgen.metrics.histograms import count
from hepgen.observables import describe
from hepgen.plots.draw import draw_files
from hepgen.plots.figures import Axis, Comparison, Histogram, write_figure
from hepgen.samples import LhcoSample
from hepgen.sources.lhco import stream
from hepgen.table import read_tables

OBSERVABLES = ("mjj", "mass_heavy", "mass_light", "tau21_heavy", "multiplicity_j1", "pt_j1")
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def compare(name: str, real: np.ndarray, simulated: np.ndarray) -> Comparison:
    """Both samples in bins of the observable's plot range, the simulation scaled to the real events."""
    low, high = describe(name).range_for(real)
    edges = np.linspace(low, high, 26)
    scale = len(real) / len(simulated)
    data, embedded = count(real, edges), count(simulated, edges, np.full(len(simulated), scale))
    histograms = [("embedded simulation", embedded, "reference"), ("LHC Olympics, real file", data, "data")]
    return Comparison(
        title="QCD dijets",
        edges=edges.tolist(),
        histograms=[
            Histogram(
                label=label, values=c.values[1:-1].tolist(), errors=np.sqrt(c.variances[1:-1]).tolist(), role=role
            )
            for label, c, role in histograms
        ],
        x=Axis(label=describe(name).axis_label),
        y=Axis(label="events / bin"),
        ratio=Axis(label="ratio", range=(0.5, 1.5)),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lhco", type=Path)
    parser.add_argument("tables", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    sample = LhcoSample(source="lhco", path=str(arguments.lhco), jets="dijet")
    batches = list(observe_batches(stream(sample, 0, 0), JetDefinition()))
    real = np.concatenate([batch.matrix(OBSERVABLES)[batch.columns["label"] == 0] for batch in batches])
    simulated = read_tables(arguments.tables).matrix(OBSERVABLES)
    paths = []
    for index, name in enumerate(OBSERVABLES):
        for label, values in (("real", real), ("embedded", simulated)):
            print(f"{name:16} {label:9}", *(f"{q:9.4g}" for q in np.quantile(values[:, index], QUANTILES)))
        paths.append(arguments.output / f"simulation_{name}.json")
        write_figure(paths[-1], compare(name, real[:, index], simulated[:, index]))
    draw_files(paths)
    for path in paths:
        path.unlink()
        path.with_suffix(".pdf").unlink()


if __name__ == "__main__":
    main()
