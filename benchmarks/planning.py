"""Planning large runs: processor time and memory that Snakemake takes to know what to run.

    python benchmarks/planning.py [--files 1000] [--models 1] [--seeds 1]

Makes empty input files, each read in a chunk of its own, and plans with `snakemake --dry-run`: from nothing, then what
a job of a batch system plans before it starts its command, then again when all products are there.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
MODEL = {"type": "pca", "inputs": ["mass_light", "mass_heavy"], "settings": {"components": 1}}
JOB = ["--force", "--nolock", "--no-hooks", "--ignore-incomplete", "--mode", "remote", "--dry-run", "--target-jobs"]


def prepare(folder: Path, files: int, models: int, seeds: int) -> None:
    """Write so many input files, and a configuration that trains so many models on them."""
    (folder / "input").mkdir()
    for index in range(files):
        (folder / f"input/{index}.root").write_bytes(bytes(1000 + index))
    particles = {"pt": "PFCands_pt", "eta": "PFCands_eta", "phi": "PFCands_phi"}
    entry = {"source": "root", "path": "input/*.root", "chunks": files, "jets": "dijet", "label": 0}
    config = {
        "output": "results",
        "jets": {"dijet": {}},
        "samples": {"mine": {**entry, "particles": particles}},
        "tagging": {
            "samples": ["mine"],
            "seeds": list(range(seeds)),
            "models": {f"pca_{number}": MODEL for number in range(models)},
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))


def snakemake(folder: Path, *options: str) -> tuple[str, str]:
    """Run it there; returns what it prints, and its processor time and peak memory in words."""
    command = [sys.executable, "-m", "snakemake", "--configfile", "config.yaml", "--directory", str(folder)]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--cores", "2", *options]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=printed, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        printed.seek(0)
        output = printed.read()
    if status:
        sys.exit(f"{' '.join(command)}: failed")
    spent = f"{usage.ru_utime + usage.ru_stime:.1f} s of processor time, {usage.ru_maxrss / 1024:.0f} MB"
    return output, spent


def finish(folder: Path) -> None:
    """Make all products, a byte each, and let Snakemake believe that it made them."""
    for line in snakemake(folder, "--summary")[0].splitlines()[1:]:
        product = folder / line.split("\t")[0]
        product.parent.mkdir(parents=True, exist_ok=True)
        product.write_bytes(b"x")
    snakemake(folder, "--touch", "--quiet", "all")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("files", 1000), ("models", 1), ("seeds", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, **vars(arguments))
        output, spent = snakemake(folder, "--dry-run", "--quiet", "all")
        jobs = re.search(r"^total +(\d+)", output, re.MULTILINE)[1]
        print(f"{jobs} jobs from nothing: {spent}", flush=True)
        for job in ("ingest:sample=mine,chunk=0", "tagging_train:model=pca_0,seed=0"):
            spent = snakemake(folder, *JOB, job, "--allowed-rules", job.split(":")[0])[1]
            print(f"the job {job}: {spent}", flush=True)
        finish(folder)
        output, spent = snakemake(folder, "--dry-run")
        if "Nothing to be done" not in output:
            sys.exit("products are there, and yet something would run")
        print(f"{jobs} jobs whose products are there: {spent}")


if __name__ == "__main__":
    main()
