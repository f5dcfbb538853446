"""What must be equal in two runs of the same configuration, bit for bit."""

import hashlib
import json
import re
from pathlib import Path

import h5py

# How long generators take to draw events is measured, and goes from their events into metrics, tables and a figure.
SPEEDS = {"events_per_second", "speed_up"}
TIMED = re.compile(
    r"benchmarks/.*|(generation/)?metrics\.json|generation/(events/.*|figures/speed\..*)|summary\.rst|tables/.*"
)
# What tells of nothing but times and hosts, and pages whose numbers are those of files that are compared.
UNLIKE = re.compile(
    r"\.lock|report\.html|(logs|benchmarks)/.*|summary\.rst|generation/figures/speed\..*"
    r"|tables/(generation|cost|provenance|inputs)\.html|provenance/account\.json"
)
# Where and when a job ran: all else in a record is the same in every run.
CIRCUMSTANCES = {"host", "device", "batch_id", "started", "seconds", "cpu_seconds", "memory_mb", "folder"}


def products(results: Path) -> dict[str, object]:
    """What must be equal in two runs: all below a folder of results but what tells how long or where something ran."""
    found = {}
    for path in sorted(results.rglob("*")):
        name = str(path.relative_to(results))
        if path.is_file() and not UNLIKE.fullmatch(name):
            found[name] = essence(path, name)
    return found


def essence(path: Path, name: str) -> object:
    """The checksum of a file; the content but for timings where it holds some."""
    if name.startswith("provenance/"):
        record = json.loads(path.read_text())
        for files in (record["inputs"], record["outputs"]):
            files[:] = [file for file in files if not TIMED.fullmatch(file["path"].partition("/")[2])]
        return {key: value for key, value in record.items() if key not in CIRCUMSTANCES}
    if name in ("metrics.json", "generation/metrics.json"):
        return timeless(json.loads(path.read_text()))
    if name.startswith("generation/events/"):
        return contents(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def timeless(metrics: object) -> object:
    """Metrics without the speeds of generators among them."""
    if isinstance(metrics, dict):
        return {key: timeless(value) for key, value in metrics.items()}
    if isinstance(metrics, list):
        kept = (value for value in metrics if not (isinstance(value, dict) and value.get("metric") in SPEEDS))
        return [timeless(value) for value in kept]
    return metrics


def contents(path: Path) -> dict[str, object]:
    """Datasets and attributes of generated events, but for how long it took to draw them."""
    with h5py.File(path) as file:
        found: dict[str, object] = {key: str(value) for key, value in file.attrs.items()}
        found["generation"] = json.loads(file.attrs["generation"]) | {"seconds": None}

        def add(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = (str(item.dtype), item.shape, hashlib.sha256(item[()].tobytes()).hexdigest())

        file.visititems(add)
        return found


def differences(found: dict[str, object], expected: dict[str, object]) -> list[str]:
    """The products that are missing, too many or different."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
