"""Run the whole small analysis while jobs, Snakemake itself and nodes are killed and the disk fills up.

    python -m tests.cluster.faults --faults 50 --seed 1
    python -m tests.cluster.faults --faults 50 --executor slurm

Whenever Snakemake has ended, it is started again by the same command. Afterwards one more run by that command must
succeed and leave nothing to do, and every product must equal that of a run which nothing disturbed. Both happen on a
small file system of their own in memory, which only this script and what it starts can see.
"""

import argparse
import errno
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from hepgen.runs import at_work

from ..products import differences, products
from ..project import copy_code, environment
from .slurm import Slurm, Unavailable

DISK_MEGABYTES = 300
LOCAL = ["--cores", "2", "--retries", "2", "--keep-going"]
# Many jobs to hit rather than a few of many steps.
SLURM = [
    *("--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "5"),
    *("--group-components", "chunks=1"),
]
# What test runners take for a test that cannot be made.
SKIPPED = 77


@dataclass
class Project:
    """A copy of the code with the small analysis, and the command that runs it."""

    root: Path
    options: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        copy_code(self.root)

    @property
    def results(self) -> Path:
        return self.root / "results"

    def start(self, log: Path, *further: str) -> subprocess.Popen:
        """Start the analysis; what Snakemake says goes to the end of a file."""
        command = [sys.executable, "-m", "snakemake", *self.options, "--configfile", "config.yaml", *further]
        with log.open("a") as file:
            return subprocess.Popen(
                command, cwd=self.root, env=environment(self.root, **self.environment), stdin=subprocess.DEVNULL,
                stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def jobs(self) -> list[psutil.Process]:
        """The hepgen processes at work here, on whichever node."""
        found = {}
        for process in psutil.process_iter():
            with ignored_if_gone():
                if is_job(process.cmdline()) and Path(process.cwd()) == self.root:
                    found[process.pid] = process.ppid(), process
        # What a job starts bears its name until it has become another program.
        return [process for parent, process in found.values() if parent not in found]

    def finished(self) -> int:
        """How many jobs have left their record."""
        return sum(1 for _ in self.results.glob("provenance/**/*.json"))


def is_job(command: list[str]) -> bool:
    """Whether a process is hepgen at a job of the workflow, rather than what started it."""
    return "--record" in command and "hepgen" in [Path(word).name for word in command[:2]]


def ignored_if_gone() -> suppress:
    """Pass over processes that end while they are looked at."""
    return suppress(psutil.NoSuchProcess, psutil.AccessDenied, ProcessLookupError)


class Tormentor:
    """Runs the analysis of a project and does it harm.

    Attributes:
        done: What hit, in order: kind, victim, seconds since the start.
        starts: How often Snakemake was started.
        twice: Complaints about jobs of which two were at work.
    """

    def __init__(self, project: Project, log: Path, seed: int, minutes: float, slurm: Slurm | None = None) -> None:
        self.project, self.log, self.slurm = project, log, slurm
        self.random = random.Random(seed)
        self.done: list[tuple[str, str, float]] = []
        self.began, self.starts = time.monotonic(), 0
        self.deadline = self.began + 60 * minutes
        self.head: subprocess.Popen | None = None
        self.twice: list[str] = []
        # What does it; each says whom it hit, or nothing where there was none to hit.
        self.kinds: dict[str, Callable[[], str]] = {
            "job killed": lambda: self.hit_job(signal.SIGKILL),
            "job terminated": lambda: self.hit_job(signal.SIGTERM),
            "snakemake killed": lambda: self.hit_head(signal.SIGKILL),
            "snakemake interrupted": lambda: self.hit_head(signal.SIGINT),
            "snakemake terminated": lambda: self.hit_head(signal.SIGTERM),
            "disk full": self.fill_disk,
        }
        if slurm:
            self.kinds |= {"node lost": self.lose_node, "job requeued": self.requeue}
        self.next: list[str] = []

    def keep_running(self) -> None:
        """Start Snakemake if it does not run; it has ended because of a fault, or because all is done."""
        if self.head is None or self.head.poll() is not None:
            self.head, self.starts = self.project.start(self.log), self.starts + 1

    def leads(self) -> bool:
        """Whether Snakemake is past its planning, and jobs are at work."""
        run = at_work(self.project.results)
        return run is not None and run.pid == self.head.pid and bool(self.project.jobs())

    def wait(self) -> int:
        """Wait for the end of Snakemake; its exit status."""
        return self.head.wait(max(self.deadline - time.monotonic(), 0))

    def torment(self, faults: int, jobs: int) -> None:
        """Do harm until so many faults have hit, spread over the analysis.

        Args:
            faults: How many.
            jobs: How many jobs the analysis has.

        Raises:
            RuntimeError: if there was not enough to hit until the end, or in time.
        """
        progress = 0
        while len(self.done) < faults:
            if time.monotonic() > self.deadline or (self.head and self.head.poll() == 0):
                raise RuntimeError(f"only {len(self.done)} of {faults} faults hit")
            self.keep_running()
            self.watch()
            progress = max(progress, self.project.finished())
            # The last one comes some jobs before the end.
            if progress >= 0.9 * jobs * len(self.done) / faults and self.leads():
                time.sleep(self.random.uniform(0.0, 1.5))
                self.strike()
            time.sleep(0.1)

    def finish(self, expected: dict[str, object]) -> list[str]:
        """Let the run that is at work end, make the plain one, and say what is wrong with what is there."""
        self.wait()
        self.keep_running()
        if status := self.wait():
            return [f"the plain rerun ended with status {status}"]
        log = self.log.with_name("dry.log")
        self.project.start(log, "--dry-run").wait()
        wrong = [] if "Nothing to be done" in log.read_text() else [f"there is something left to do: {log.read_text()}"]
        return wrong + self.twice + differences(products(self.project.results), expected)

    def stop(self) -> None:
        """End what still runs."""
        if self.head and self.head.poll() is None:
            self.head.kill()
        for job in self.project.jobs():
            with ignored_if_gone():
                job.kill()

    def watch(self) -> None:
        """Note jobs that run twice at a time."""
        names = Counter(name for job in self.project.jobs() if (name := job_name(job)))
        self.twice += [f"{name} ran twice at a time" for name, number in names.items() if number > 1]

    def strike(self) -> None:
        """One fault, of each kind in turn in an order by chance; only one that hit is noted, others are tried again."""
        if not self.next:
            # Jobs are killed most often.
            self.next = [*self.kinds, "job killed"]
            self.random.shuffle(self.next)
        if victim := self.kinds[self.next[-1]]():
            kind, seconds = self.next.pop(), time.monotonic() - self.began
            self.done.append((kind, victim, seconds))
            print(f"{len(self.done):3d}  {seconds:6.1f} s  {kind:22s} {victim}", flush=True)

    def hit_job(self, number: int) -> str:
        """Send a signal to a job; its name."""
        jobs = self.project.jobs()
        with ignored_if_gone():
            job = self.random.choice(jobs) if jobs else None
            if job:
                name = job_name(job)
                job.send_signal(number)
                return name
        return ""

    def hit_head(self, number: int) -> str:
        """Send a signal to Snakemake while it has jobs, and wait for its end."""
        jobs = len(self.project.jobs())
        if not self.leads() or self.head.poll() is not None:
            return ""
        self.head.send_signal(number)
        self.wait()
        return f"process {self.head.pid} with {jobs} jobs"

    def fill_disk(self) -> str:
        """Leave no byte free for some seconds while jobs run; how many ran."""
        jobs, ballast = len(self.project.jobs()), self.project.root / "ballast"
        if not jobs:
            return ""
        with ballast.open("wb", buffering=0) as file:
            size = 1 << 20
            while size:
                try:
                    file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    size //= 2
        free = shutil.disk_usage(self.project.root).free
        time.sleep(self.random.uniform(2.0, 6.0))
        ballast.unlink()
        return "" if free else f"{jobs} jobs"

    def lose_node(self) -> str:
        """Kill a node's daemon and all that it started, and bring the node back a little later; which."""
        node = self.random.choice(["node1", "node2"])
        victims = list(on_node(self.project.root, node))
        if not any(is_job(process.cmdline()) for process in victims):
            return ""
        self.slurm.stop_daemon(node, signal.SIGKILL)
        for process in victims:
            with ignored_if_gone():
                process.kill()
        self.slurm.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=fault")
        time.sleep(self.random.uniform(1.0, 4.0))
        self.slurm.start_node(node)
        self.slurm.run("scontrol", "update", f"NodeName={node}", "State=RESUME")
        self.release()
        return f"{node} with {len(victims)} processes"

    def requeue(self) -> str:
        """Let Slurm stop a job and start it again; which."""
        running = self.slurm.run("squeue", "--noheader", "--states=RUNNING", "--format=%i").split()
        if not running:
            return ""
        job = self.random.choice(running)
        self.slurm.run("scontrol", "requeue", job)
        self.release()
        return f"Slurm job {job}"

    def release(self) -> None:
        """Spare the two minutes that Slurm lets pass before it starts a job again."""
        while self.slurm.run("squeue", "--noheader", "--states=COMPLETING"):
            time.sleep(0.5)
        for job in self.slurm.run("squeue", "--noheader", "--states=PENDING", "--format=%i").split():
            self.slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)


def job_name(process: psutil.Process) -> str:
    """What a job makes, by its record: RULE/WILDCARDS; nothing if it is gone."""
    with ignored_if_gone():
        if "--record" in (command := process.cmdline()):
            return re.sub(r"^.*provenance/|\.json$", "", command[command.index("--record") + 1])
    return ""


def on_node(folder: Path, node: str) -> Iterator[psutil.Process]:
    """All processes of jobs in a folder that Slurm runs on a node, with the daemons of their steps."""
    for process in psutil.process_iter():
        with ignored_if_gone():
            if Path(process.cwd()) == folder and process.environ().get("SLURMD_NODENAME") == node:
                yield process
                yield from (parent for parent in process.parents()[:1] if "slurmstepd" in parent.name())


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system in memory, for as long as the block lasts."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MEGABYTES}m", "none", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def enter_namespace() -> None:
    """Start this script again where it may mount what nobody else sees."""
    if "HEPGEN_FAULTS" in os.environ:
        return
    unshare = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]
    with tempfile.TemporaryDirectory() as folder:
        probe = subprocess.run([*unshare, "mount", "-t", "tmpfs", "none", folder], capture_output=True, text=True)
    if probe.returncode:
        raise Unavailable(f"no file system can be mounted here ({probe.stderr.strip()})")
    os.environ["HEPGEN_FAULTS"] = "1"
    os.execvp("unshare", [*unshare, sys.executable, *sys.orig_argv[1:]])


def undisturbed(disk: Path, log: Path, targets: list[str]) -> Path:
    """The results of a run that nothing disturbs."""
    project = Project(disk / "undisturbed", [*targets, *LOCAL])
    if project.start(log).wait():
        raise RuntimeError(f"even the undisturbed run failed:\n{log.read_text()[-5000:]}")
    return project.results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="of the analysis; all by default")
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1, help="of the choice of faults and victims")
    parser.add_argument("--executor", choices=["local", "slurm"], default="local")
    parser.add_argument("--reference", type=Path, help="of an undisturbed run of the same code; made by default")
    parser.add_argument("--minutes", type=float, default=30, help="after which to give up")
    arguments = parser.parse_args()
    try:
        enter_namespace()
        return faulty_run(arguments)
    except Unavailable as reason:
        print(f"no fault test: {reason}")
        return SKIPPED


def faulty_run(arguments: argparse.Namespace) -> int:
    """The whole test; its exit status."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        disk, log = stack.enter_context(small_disk(folder)), folder / "snakemake.log"
        reference = arguments.reference or undisturbed(disk, folder / "undisturbed.log", arguments.targets)
        slurm, options = None, LOCAL
        if arguments.executor == "slurm":
            slurm, options = stack.enter_context(Slurm(folder / "slurm", cpus=4)), SLURM
        project = Project(disk / "disturbed", [*arguments.targets, *options], slurm.environment if slurm else {})
        tormentor = Tormentor(project, log, arguments.seed, arguments.minutes, slurm)
        expected = products(reference)
        jobs = sum(name.startswith("provenance/") for name in expected)
        try:
            tormentor.torment(arguments.faults, jobs)
            wrong = tormentor.finish(expected)
        finally:
            tormentor.stop()
        for kind, number in Counter(kind for kind, _, _ in tormentor.done).most_common():
            print(f"{number:4d}  {kind}")
        seconds = time.monotonic() - tormentor.began
        print(f"{len(tormentor.done)} faults, {tormentor.starts} starts, {seconds:.0f} s, {len(wrong)} problems")
        print(*wrong, sep="\n")
        if wrong:
            print("Snakemake said at the end:", log.read_text()[-10000:], sep="\n")
        return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
