#!/usr/bin/env python3
"""Pretended LSF and PBS: installed under the name of one of their commands, it runs jobs here, in the background.

It knows just the options that the profiles use, and complains of others as the real ones do.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

JOBS = Path(os.environ["BATCH_JOBS"])


def main(command: str, arguments: list[str]) -> int:
    """Do what the command of this name does."""
    return {"bsub": bsub, "bjobs": bjobs, "qsub": qsub, "qstat": qstat}[command](arguments)


def bsub(arguments: list[str]) -> int:
    """Submit to LSF."""
    parser = argparse.ArgumentParser()
    for option in ("-J", "-n", "-R", "-M", "-W", "-wt", "-wa", "-gpu", "-o"):
        parser.add_argument(option)
    parser.add_argument("command")
    given = parser.parse_args(arguments)
    number = start(given.command, arguments, Path(given.o))
    print(f"Job <{number}> is submitted to default queue <normal>.")
    return 0


def bjobs(arguments: list[str]) -> int:
    """The state of a job of LSF."""
    *options, number = arguments
    assert options == ["-noheader", "-o", "stat"]
    if silent():
        return 255
    if not (JOBS / number).exists():
        print(f"Job <{number}> is not found", file=sys.stderr)
        return 255
    status = JOBS / number / "status"
    print("RUN" if not status.exists() else "DONE" if status.read_text() == "0\n" else "EXIT")
    return 0


def qsub(arguments: list[str]) -> int:
    """Submit to PBS."""
    parser = argparse.ArgumentParser()
    parser.add_argument("-V", action="store_true", required=True)
    parser.add_argument("-l", action="append")
    for option in ("-N", "-j", "-o"):
        parser.add_argument(option)
    given = parser.parse_args(arguments)
    print(start(sys.stdin.read(), arguments, Path(given.o, given.N)))
    return 0


def qstat(arguments: list[str]) -> int:
    """The state of a job of PBS, finished ones included."""
    *options, number = arguments
    assert options == ["-x", "-f"]
    if silent():
        return 111
    if not (JOBS / number).exists():
        print(f"qstat: Unknown Job Id {number}", file=sys.stderr)
        return 153
    status = JOBS / number / "status"
    ended = f"    job_state = F\n    Exit_status = {status.read_text()}" if status.exists() else "    job_state = R\n"
    print(f"Job Id: {number}\n    Job_Name = job\n{ended}")
    return 0


def silent() -> bool:
    """Whether the system does not answer now."""
    if silence := (JOBS / "down").exists():
        print("The server is down.", file=sys.stderr)
    return silence


def start(script: str, arguments: list[str], output: Path) -> str:
    """Run a script in the background, as a group of processes of its own; returns its number."""
    number = str(len(list(JOBS.iterdir())) + 1)
    folder = JOBS / number
    folder.mkdir()
    (folder / "arguments").write_text("\n".join(arguments))
    (folder / "script").write_text(script)
    job = f"setsid --wait sh -c 'echo $$ > {folder}/pid; exec sh {folder}/script'"
    with output.open("w") as log:
        subprocess.Popen(
            ["sh", "-c", f"{job}; echo $? > {folder}/.status; mv {folder}/.status {folder}/status"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    return number


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[0]).name, sys.argv[1:]))
