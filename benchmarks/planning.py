"""Planning a thousand input files: how long Snakemake takes to know what to run.

    python benchmarks/planning.py [--files 1000]

Makes empty input files and a configuration that reads each in a chunk of its own, and times `snakemake --dry-run`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
MODEL = {"type": "pca", "inputs": ["mass_light", "mass_heavy"], "settings": {"components": 1}}


def plan(folder: Path, files: int) -> tuple[float, int]:
    """Seconds to plan a run over so many files, and the number of its jobs."""
    (folder / "input").mkdir()
    for index in range(files):
        (folder / f"input/{index}.root").write_bytes(bytes(1000 + index))
    particles = {"pt": "PFCands_pt", "eta": "PFCands_eta", "phi": "PFCands_phi"}
    entry = {"source": "root", "path": f"{folder}/input/*.root", "chunks": files, "jets": "dijet", "label": 0}
    config = {
        "output": str(folder / "results"),
        "jets": {"dijet": {}},
        "samples": {"mine": {**entry, "particles": particles}},
        "tagging": {"samples": ["mine"], "models": {"pca": MODEL}},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--dry-run",
        "--quiet",
        "all",
        "--configfile",
        str(folder / "config.yaml"),
    ]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    start = time.perf_counter()
    command += ["--directory", str(folder), "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
    output = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    ).stdout
    jobs = next(int(line.split()[1]) for line in output.splitlines() if line.startswith("total"))
    return time.perf_counter() - start, jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=1000)
    with tempfile.TemporaryDirectory() as folder:
        seconds, jobs = plan(Path(folder), parser.parse_args().files)
    print(f"{jobs} jobs planned in {seconds:.1f} s")


if __name__ == "__main__":
    main()
