"""Snakemake with a pretended HTCondor: `python tests/cluster/condor.py FOLDER SNAKEMAKE-ARGUMENT...`

The executor plug-in, `htcondor2.Submit` and the reader of the event log are the real ones; only `htcondor2.Schedd` is
not. Its jobs run on this machine, each in a scratch folder of its own that holds just what was transferred, and only
what they are to deliver comes back; a file that is missing holds the job, as it does there.
"""

import os
import shutil
import subprocess
import sys
import threading
import warnings
from datetime import datetime
from itertools import count
from pathlib import Path
from types import SimpleNamespace

with warnings.catch_warnings(action="ignore"):  # that there is no condor_config
    import htcondor2

import snakemake.cli

# What the reader of the log asks for, whatever the numbers.
TIMES = ("Run Remote", "Run Local", "Total Remote", "Total Local")
SIZES = ("Run Bytes Sent", "Run Bytes Received", "Total Bytes Sent", "Total Bytes Received")
USAGE = "".join(
    [f"\t\tUsr 0 00:00:00, Sys 0 00:00:00  -  {time} Usage\n" for time in TIMES]
    + [f"\t0  -  {size} By Job\n" for size in SIZES]
)


class Schedd:
    """Takes jobs and runs them at once, as many as there are."""

    pool = Path()
    clusters = count(1)

    def submit(self, description: htcondor2.Submit) -> SimpleNamespace:
        """Start a job; its cluster is the next number."""
        cluster = next(self.clusters)
        job = {key: description[key].replace("$(ClusterId)", str(cluster)) for key in description}
        (self.pool / f"{cluster}.sub").write_text("".join(f"{key} = {job[key]}\n" for key in sorted(job)))
        log(job, cluster, 0, "Job submitted from host: <127.0.0.1:9618>")
        threading.Thread(target=self._run, args=(job, cluster), daemon=True).start()
        return SimpleNamespace(cluster=lambda: cluster)

    def _run(self, job: dict[str, str], cluster: int) -> None:
        scratch = self.pool / f"dir_{cluster}"
        scratch.mkdir()
        executable = Path(shutil.copy(job["executable"], scratch / "condor_exec.exe"))
        executable.chmod(0o755)
        for path in listed(job["transfer_input_files"]):
            copy(Path(path), scratch / path)
        (scratch / ".job.ad").write_text(f'TransferOutput = "{",".join(listed(job["transfer_output_files"]))}"\n')
        log(job, cluster, 1, "Job executing on host: <127.0.0.1:9618>")
        inherited = {name: os.environ[name] for name in listed(job["getenv"])}
        own = dict(entry.split("=") for entry in job["environment"].split())
        with Path(job["output"]).open("w") as output, Path(job["error"]).open("w") as error:
            status = subprocess.run(
                [executable, *job["arguments"].split()], cwd=scratch, stdout=output, stderr=error, check=False,
                env={**inherited, **own, "_CONDOR_JOB_AD": str(scratch / ".job.ad")},
            ).returncode  # fmt: skip
        missing = [path for path in listed(job["transfer_output_files"]) if not (scratch / path).exists()]
        if missing:
            reason = f"Transfer output files failure: no {missing[0]}"
            log(job, cluster, 12, f"Job was held.\n\t{reason}\n\tCode 12 Subcode 2")
        else:
            for remap in job["transfer_output_remaps"].strip('"').split("; "):
                source, target = remap.split(" = ")
                shutil.copy(scratch / source, target)
            log(job, cluster, 5, f"Job terminated.\n\t(1) Normal termination (return value {status})\n{USAGE}".rstrip())


def listed(value: str) -> list[str]:
    """The entries of a list in a submit description."""
    return [entry.strip() for entry in value.split(",")]


def copy(source: Path, target: Path) -> None:
    """Transfer a file or a folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)


def log(job: dict[str, str], cluster: int, number: int, text: str) -> None:
    """Write an event of a job to the log, as HTCondor does."""
    with Path(job["log"]).open("a") as file:
        file.write(f"{number:03} ({cluster:03}.000.000) {datetime.now():%Y-%m-%d %H:%M:%S} {text}\n...\n")


if __name__ == "__main__":
    Schedd.pool = Path(sys.argv[1]).resolve()
    htcondor2.Schedd = Schedd
    snakemake.cli.main(sys.argv[2:])
