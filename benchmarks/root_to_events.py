"""ROOT file → events, against a bare loop of uproot over the same branches, side by side in one run.

    python benchmarks/root_to_events.py [--repeats 5] [--events 150000] [--memory-events 15000]

Writes a TTree and an RNTuple of jagged float32 branches with 100 particles an event, zlib and LZ4. Prints for each the
median times of both and their ratio, then the peak memory of streaming into the store for one and for 20 batches.
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
import numpy as np
import uproot

from hepgen.events import write_events
from hepgen.samples import RootSample
from hepgen.sources import root
from hepgen.sources.trees import open_tree

BRANCHES = ("pt", "eta", "phi", "mass")
BASKET = 2000
MOMENTA = {name: name for name in BRANCHES}
COMPRESSIONS = {"zlib": uproot.ZLIB(1), "lz4": uproot.LZ4(1)}


def write(path: Path, kind: str, compression: uproot.compression.Compression, events: int) -> None:
    """A file with a piece (basket or cluster) for every 2,000 events."""
    rng = np.random.default_rng(1)
    with uproot.recreate(path, compression=compression) as file:
        for start in range(0, events, BASKET):
            counts = rng.poisson(100, min(BASKET, events - start))
            total = counts.sum()
            columns = (rng.exponential(2, total) + 0.1, rng.normal(0, 2, total), rng.uniform(-3.14, 3.14, total))
            masses = rng.choice([0.0, 0.13957], total)
            values = (ak.unflatten(column.astype(np.float32), counts) for column in (*columns, masses))
            block = dict(zip(BRANCHES, values, strict=True))
            if start == 0:
                make = file.mktree if kind == "TTree" else file.mkrntuple
                tree = make("events", dict.fromkeys(BRANCHES, "var * float32"))
            tree.extend(block)


def sample(path: Path) -> RootSample:
    return RootSample(source="root", path=str(path), jets="fat", particles=MOMENTA)


def hepgen_stream(path: Path, step: int) -> int:
    return sum(len(events) for events in root.stream(sample(path)))


def bare_iterate(path: Path, step: int) -> int:
    batches = uproot.iterate({path: "events"}, filter_name=list(BRANCHES), step_size=step, how=dict)
    return sum(len(batch["pt"]) for batch in batches)


def timed(loop, path: Path, step: int) -> float:
    start = time.perf_counter()
    loop(path, step)
    return time.perf_counter() - start


def compare(path: Path, repeats: int) -> str:
    with open_tree(str(path)) as tree:
        step = tree.step_for(BRANCHES, root.BATCH)
    for loop in (hepgen_stream, bare_iterate):
        loop(path, step)
    pairs = [(timed(hepgen_stream, path, step), timed(bare_iterate, path, step)) for _ in range(repeats)]
    ours, bare = (statistics.median(times) for times in zip(*pairs, strict=True))
    return f"hepgen {ours:.3f} s, bare uproot {bare:.3f} s (medians of {repeats}), ratio {ours / bare:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--events", type=int, default=150_000)
    parser.add_argument("--memory-events", type=int, default=15_000, help="events of about one batch")
    parser.add_argument("--memory-only", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_only:
        path = arguments.memory_only
        events = write_events(path.with_suffix(".h5"), root.stream(sample(path)))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{events} events written: peak memory {peak:.0f} MB", flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("TTree", "RNTuple"):
            for name, compression in COMPRESSIONS.items():
                path = Path(folder) / f"{kind}_{name}.root"
                write(path, kind, compression, arguments.events)
                print(f"{kind}, {name}: {compare(path, arguments.repeats)}", flush=True)
            for batches in (1, 20):
                path = Path(folder) / f"{kind}_{batches}.root"
                write(path, kind, COMPRESSIONS["lz4"], batches * arguments.memory_events)
                print(f"{kind}, {batches} batches: ", end="", flush=True)
                subprocess.run([sys.executable, __file__, "--memory-only", str(path)], check=True)
                path.unlink()
                path.with_suffix(".h5").unlink()


if __name__ == "__main__":
    main()
