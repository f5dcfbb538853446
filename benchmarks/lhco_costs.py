"""What a run over the whole LHC Olympics data set costs: processor time, memory and disk of every stage.

    python benchmarks/lhco_costs.py FILE [--sizes 10000 30000] [--config config/lhco.yaml] [--folder FOLDER]

Enlarges FILE, which is in the official layout, to two sizes, runs the configuration on each, job after job, and adds
up the records that the jobs leave. What 1.1 million events take is read off the straight line through both. Trainings
go through all their epochs, as they would stop at another one with fewer events.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
EVENTS = 1_100_000
TABLE = "df/block0_values"
Costs = dict[str, np.ndarray]


def enlarge(source: Path, events: int, target: Path) -> None:
    """Write events made from those of a file: turned in φ and with smeared pT, so that none occurs twice."""
    with h5py.File(source) as file:
        rows = file[TABLE][:]
    random = np.random.default_rng(1)
    with h5py.File(target, "w") as file:
        shape = (events, rows.shape[1])
        table = file.create_dataset(TABLE, shape, chunks=(7, rows.shape[1]), **hdf5plugin.Blosc())
        for start in range(0, events, len(rows)):
            copy = rows[: events - start].copy()
            particles = copy[:, :2100].reshape(len(copy), 700, 3)
            particles[..., 0] *= random.lognormal(0, 0.05, particles.shape[:2])
            turned = particles[..., 2] + random.uniform(0, 2 * np.pi, (len(copy), 1))
            particles[..., 2] = np.where(particles[..., 0] > 0, turned % (2 * np.pi) - np.pi, 0)
            table[start : start + len(copy)] = copy


def run(config: dict, source: Path, events: int, folder: Path) -> Costs:
    """Run a configuration on so many events; returns processor seconds, largest peak memory [MB] and bytes."""
    folder.mkdir(parents=True)
    enlarge(source, events, folder / "raw.h5")
    (entry,) = config["samples"].values()
    chunks = max(1, round(entry["chunks"] * events / EVENTS))
    sample = {**entry, "path": str(folder / "raw.h5"), "chunks": chunks}
    settings = {**config, "output": str(folder / "results"), "samples": dict.fromkeys(config["samples"], sample)}
    for model in settings["tagging"]["models"].values():
        model.get("training", {}).pop("patience", None)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "all", "--directory", str(folder)]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(folder / "config.yaml")]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}, stdout=subprocess.DEVNULL, check=True)
    return read_costs(folder / "results/provenance")


def read_costs(folder: Path) -> Costs:
    """The sums over the jobs of each rule, trainings and scores by model; of memory the largest."""
    costs = defaultdict(lambda: np.zeros(3))
    for file in folder.rglob("*.json"):
        rule, *wildcards = file.relative_to(folder).with_suffix("").parts
        name = f"{rule} {wildcards[0]}" if len(wildcards) == 2 and rule.startswith("tagging") else rule
        record = json.loads(file.read_text())
        seconds, memory, size = costs[name]
        size += sum(product["bytes"] for product in record["outputs"])
        costs[name][:] = seconds + record["cpu_seconds"], max(memory, record["memory_mb"]), size
    return costs


def extrapolate(sizes: list[int], small: Costs, large: Costs) -> str:
    """A Markdown table of what was measured with more events, and what follows for all."""
    measured = f"CPU s, {sizes[0]:,} → {sizes[1]:,} events | peak MB"
    head = f"| stage | {measured} | CPU hours, all | peak MB, all | disk, all [GB] |"
    lines = [head, "|---|" + "---:|" * 5]
    factor = (EVENTS - sizes[0]) / (sizes[1] - sizes[0])
    total = np.zeros(2)
    for name, more in large.items():
        less = small[name]
        seconds, memory, size = np.maximum(less + factor * (more - less), more)
        total += seconds / 3600, size / 1e9
        measured = f"{less[0]:.0f} → {more[0]:.0f} | {less[1]:.0f} → {more[1]:.0f}"
        lines.append(f"| {name} | {measured} | {seconds / 3600:.2f} | {memory:.0f} | {size / 1e9:.3f} |")
    return "\n".join([*lines, f"| all | | | {total[0]:.1f} | | {total[1]:.1f} |"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--sizes", type=int, nargs=2, default=[10_000, 30_000])
    parser.add_argument("--config", type=Path, default=ROOT / "config/lhco.yaml")
    parser.add_argument("--folder", type=Path, help="Keep the runs here.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        config = yaml.safe_load(arguments.config.read_text())
        runs = [run(config, arguments.file, size, folder / str(size)) for size in arguments.sizes]
    print(extrapolate(arguments.sizes, *runs))


if __name__ == "__main__":
    main()
