"""Raw LHC Olympics file → events, against pandas.read_hdf, side by side in one run.

    python benchmarks/lhco_reading.py FILE [--repeats 5] [--tile 100]

Tiles the file in its own layout and prints: the peak memory of reading it into hepgen's store, and of pandas.read_hdf
of the whole file; then the median times to read all events in chunks, here as checked events without their padding and
by pandas as the padded table.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEP = 1000


def stream(path: Path) -> int:
    """All events in batches."""
    from hepgen.samples import LhcoSample
    from hepgen.sources import lhco

    return sum(len(batch) for batch in lhco.stream(LhcoSample(source="lhco", path=str(path), jets="fat")))


def pandas_chunks(path: Path) -> int:
    """All rows in as large pieces."""
    import pandas as pd

    total = 0
    while rows := len(pd.read_hdf(path, key="df", start=total, stop=total + STEP)):
        total += rows
    return total


def store(path: Path) -> int:
    """The file into hepgen's own store."""
    from hepgen.events import write_events
    from hepgen.samples import LhcoSample
    from hepgen.sources import lhco

    sample = LhcoSample(source="lhco", path=str(path), jets="fat")
    return write_events(path.with_name("events.h5"), lhco.stream(sample))


def pandas_whole(path: Path) -> int:
    import pandas as pd

    return len(pd.read_hdf(path, key="df"))


def imports(path: Path) -> int:
    """What `store` needs before it reads anything."""
    import hepgen.events
    import hepgen.sources.lhco  # noqa: F401

    return 0


def tile(path: Path, times: int, target: Path) -> int:
    """A copy that pandas wrote, as the official files are: fixed format, blosc."""
    import pandas as pd

    frame = pd.concat([pd.read_hdf(path, key="df")] * times, ignore_index=True)
    frame.to_hdf(target, key="df", format="fixed", complib="blosc", complevel=5, mode="w")
    return len(frame)


TASKS = {task.__name__: task for task in (store, pandas_whole, imports)}


def timed(read, path: Path) -> float:
    start = time.perf_counter()
    read(path)
    return time.perf_counter() - start


def in_a_process(*arguments: object) -> float:
    """Peak memory in MB of this script in a process of its own."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tile", type=int, default=100)
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task or arguments.target:
        if arguments.target:
            tile(arguments.file, arguments.tile, arguments.target)
        else:
            TASKS[arguments.task](arguments.file)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    with tempfile.TemporaryDirectory() as folder:
        tiled = Path(folder) / "tiled.h5"
        in_a_process(arguments.file, "--tile", arguments.tile, "--target", tiled)
        # Before this process has read anything: a process starts with the peak of the one that started it.
        ours, pandas, bare = (in_a_process(tiled, "--task", task) for task in ("store", "pandas_whole", "imports"))
        print(f"peak memory: hepgen {ours:.0f} MB, of which {bare:.0f} MB are its imports; pandas {pandas:.0f} MB")
        print(f"ratio {ours / pandas:.2f}, without imports {(ours - bare) / pandas:.2f}")
        events = stream(tiled)
        if pandas_chunks(tiled) != events:
            sys.exit("the two do not read the same events")
        pairs = [(timed(stream, tiled), timed(pandas_chunks, tiled)) for _ in range(arguments.repeats)]
        ours, pandas = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(f"{events} events: hepgen {ours:.2f} s, pandas {pandas:.2f} s in chunks, ratio {ours / pandas:.2f}")


if __name__ == "__main__":
    main()
