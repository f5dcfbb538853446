"""Records of jobs, made by hand."""

from datetime import UTC, datetime
from pathlib import Path

from hepgen.provenance import versions
from hepgen.record import Record
from hepgen.storage import write_json

BEGIN = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def write_record(results: Path, job: str, **further: object) -> Path:
    """Write what the workflow leaves of a job of 100 s on 2 threads, 150 s of processor time; the file."""
    rule, *wildcards = job.split("/")
    path = results / f"provenance/{job}.json"
    known = {
        "path": str(path), "stage": rule, "name": wildcards[0] if wildcards else "", "seed": None, "card": {"depth": 3},
        "code": "c0de", "modules": {}, "commit": "", "versions": versions(), "command": ["hepgen"], "folder": "/",
        "inputs": [], "outputs": [], "host": "node1", "device": "", "threads": 2, "batch_id": "", "started": BEGIN,
        "seconds": 100.0, "cpu_seconds": 150.0, "memory_mb": 300.0,
    }  # fmt: skip
    write_json(path, Record(**known | further).model_dump(mode="json"))
    return path
