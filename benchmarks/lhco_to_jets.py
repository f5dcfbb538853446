"""Raw LHC Olympics file → jets with substructure, against bare h5py and fastjet calls, side by side in one run.

    python benchmarks/lhco_to_jets.py FILE [--repeats 5] [--tile 30]

Prints the median times of both and their ratio, then the peak memory on the same file tiled 30 times.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import awkward as ak
import fastjet
import h5py
import hdf5plugin
import numpy as np

from hepgen.config import JetDefinition
from hepgen.jets import observe_batches
from hepgen.samples import LhcoSample
from hepgen.sources import lhco

MOMENTUM = ("px", "py", "pz", "E")


def hepgen_chain(path: Path) -> int:
    """All observables of the two leading jets, with their constituents."""
    sample = LhcoSample(source="lhco", path=str(path), jets="fat")
    return sum(len(table) for table in observe_batches(lhco.stream(sample), JetDefinition()))


def bare_calls(path: Path) -> int:
    """What nobody can do without: reading, clustering, constituents, N-subjettiness and soft drop by fastjet."""
    with h5py.File(path) as file:
        rows = file["df/block0_values"][:, :2100].reshape(-1, 700, 3)
    present = rows[..., 0] > 0
    particles = ak.unflatten(rows[present], present.sum(1))
    sequence = fastjet.ClusterSequence(momenta(particles), fastjet.JetDefinition(fastjet.antikt_algorithm, 1.0))
    jets, members = sequence.inclusive_jets(20), sequence.constituents(20)
    leading = ak.argsort(np.hypot(jets.px, jets.py), ascending=False)[:, :2]
    constituents = ak.to_packed(ak.flatten(members[leading]))
    tree = fastjet.ClusterSequence(constituents, fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0))
    tree.njettiness("NormalizedMeasure", "WTA_KT_Axes", [1, 2, 3], 1.0, 1.0)
    return len(tree.exclusive_jets_softdrop_grooming(1, 0.0, 0.1, "scalar_z", 1.0)) // 2


def momenta(particles: ak.Array) -> ak.Array:
    pt, eta, phi = particles[..., 0], particles[..., 1], particles[..., 2]
    values = (pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), pt * np.cosh(eta))
    return ak.to_packed(ak.zip(dict(zip(MOMENTUM, values, strict=True))))


def timed(chain, path: Path) -> float:
    start = time.perf_counter()
    chain(path)
    return time.perf_counter() - start


def tile(path: Path, times: int, target: Path) -> None:
    with h5py.File(path) as source, h5py.File(target, "w") as file:
        rows = source["df/block0_values"][:]
        table = file.create_dataset(
            "df/block0_values",
            (times * len(rows), rows.shape[1]),
            rows.dtype,
            chunks=(7, rows.shape[1]),
            **hdf5plugin.Blosc(),
        )
        for copy in range(times):
            table[copy * len(rows) : (copy + 1) * len(rows)] = rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tile", type=int, default=30)
    parser.add_argument("--memory-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_only:
        events = hepgen_chain(arguments.file)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{events} events with two jets: peak memory {peak:.0f} MB")
        return
    hepgen_chain(arguments.file)
    bare_calls(arguments.file)
    pairs = [(timed(hepgen_chain, arguments.file), timed(bare_calls, arguments.file)) for _ in range(arguments.repeats)]
    ours, bare = (statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"hepgen {ours:.3f} s, bare calls {bare:.3f} s (medians of {arguments.repeats}), ratio {ours / bare:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        tiled = Path(folder) / "tiled.h5"
        tile(arguments.file, arguments.tile, tiled)
        subprocess.run([sys.executable, __file__, str(tiled), "--memory-only"], check=True)


if __name__ == "__main__":
    main()
