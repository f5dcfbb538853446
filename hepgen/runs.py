"""One run at a time in a folder of results, and nothing left at work of a run that was killed."""

import ctypes
import errno
import fcntl
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel, ValidationError

from hepgen.errors import HepgenError

__all__ = ["at_work", "begin", "end", "end_with", "note", "remove_partials", "slurm_jobs"]

# What file systems answer that know no locks.
LOCKLESS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
PR_SET_PDEATHSIG = 1


class Run(BaseModel):
    """Whose a folder of results is.

    Attributes:
        host, pid: The computer and the process that leads the run.
        slurm_name: What Slurm calls all its jobs; empty where it has none.
    """

    host: str
    pid: int
    slurm_name: str


def begin(folder: str | Path) -> int:
    """Take a folder of results for this process, once the jobs of a run that was killed have ended.

    The kernel gives the lock back when the process ends, however it does. Where the file system knows no locks, a
    warning says so.

    Returns:
        The open file of the lock, for `note` and `end`.

    Raises:
        HepgenError: if another run is at work there, its jobs cannot be cancelled, or the lock cannot be written.
    """
    path = Path(folder, ".lock")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        taken = _take(lock, folder)
    owner = _owner(path)
    if not taken:
        where = f" (process {owner.pid} on {owner.host})" if owner else ""
        msg = f"{folder}: another run is at work here{where}; wait for its end, or stop it"
        raise HepgenError(msg)
    if owner and owner.slurm_name:
        _end_slurm_jobs(owner.slurm_name, path)
    note(lock)
    return lock


def note(lock: int, slurm_name: str = "") -> None:
    """Write into a lock who holds it.

    Args:
        lock: What `begin` returned.
        slurm_name: What Slurm calls all jobs of this run; empty where it has none.

    Raises:
        HepgenError: if it cannot be written.
    """
    run = Run(host=platform.node(), pid=os.getpid(), slurm_name=slurm_name)
    with _writing(".lock"):
        os.ftruncate(lock, 0)
        os.pwrite(lock, run.model_dump_json().encode(), 0)


def at_work(folder: str | Path) -> Run | None:
    """The run that is at work in a folder of results; one that was killed is not.

    Where the file system knows no locks, the two look alike.
    """
    path = Path(folder, ".lock")
    owner = _owner(path) if path.exists() else None
    if owner is None:
        return None
    try:
        with path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return owner
    return None


def end(lock: int) -> None:
    """Note that all jobs of a run have ended."""
    os.ftruncate(lock, 0)


def end_with(parent: int) -> None:
    """Die when the process does that started this one, so that no job outlives its run; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        msg = f"process {parent}, which started this job, has ended"
        raise HepgenError(msg)


def remove_partials(products: Iterable[str | Path]) -> None:
    """Remove what killed jobs left of products that are to be made."""
    names: dict[Path, set[str]] = {}
    for product in map(Path, products):
        names.setdefault(product.parent, set()).add(product.name)
    for folder, wanted in names.items():
        for partial in folder.glob(".*.partial"):
            if any(partial.name.startswith(f".{name}.") for name in wanted):
                partial.unlink(missing_ok=True)


def slurm_jobs(name: str, states: str = "") -> list[str]:
    """The numbers of Slurm's jobs of a name, of those that have not ended or are in other states.

    Raises:
        HepgenError: if Slurm does not answer.
    """
    options = ["--states", states] if states else []
    return _slurm("squeue", "--noheader", "--format=%i", "--name", name, *options).split()


@contextmanager
def _writing(path: str | Path) -> Iterator[None]:
    """Say what cannot be written."""
    try:
        yield
    except OSError as error:
        msg = f"cannot write {path}: {error.strerror}"
        raise HepgenError(msg) from error


def _take(lock: int, folder: str | Path) -> bool:
    """Whether this process has got a lock; who only looks whether a run is at work holds it for a moment."""
    for _ in range(10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        except OSError as error:
            if error.errno not in LOCKLESS:
                raise
            warnings.warn(f"{folder}: no locks on this file system; start one run at a time", stacklevel=3)
            return True
        else:
            return True
    return False


def _owner(path: Path) -> Run | None:
    """The run that took a lock last; none where it ended by itself."""
    try:
        return Run.model_validate_json(path.read_bytes())
    except ValidationError:
        return None
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise HepgenError(msg) from error


def _end_slurm_jobs(name: str, lock: Path) -> None:
    """Cancel all Slurm jobs of a name and wait until none is left."""
    if not shutil.which("scancel"):
        msg = f"jobs of the run before may be at work where Slurm is: `scancel --name {name}` there, then delete {lock}"
        raise HepgenError(msg)
    _slurm("scancel", "--name", name)
    said: list[str] = []
    while jobs := slurm_jobs(name):
        if jobs != said:
            print(f"waiting for the end of jobs of the run before: {', '.join(jobs)}", file=sys.stderr)
        said = jobs
        time.sleep(5)


def _slurm(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"{command[0]}: {done.stderr.strip()}; jobs of the run before may be at work, so nothing was started"
        raise HepgenError(msg)
    return done.stdout
