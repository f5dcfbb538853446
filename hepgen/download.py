"""Files from the web: resumed where a connection broke off, and checked before they get their name."""

import errno
import fcntl
import hashlib
import os
import shutil
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import requests
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from hepgen.errors import HepgenError

__all__ = ["digest", "download", "mismatch"]

# What has arrived of a block is lost when the connection breaks off.
BLOCK = 1 << 14
LONGEST_WAIT = 600.0
# Statuses that may be gone at the next attempt.
PASSING = {408, 425, 429, 500, 502, 503, 504}
# No other attempt mends these.
HOPELESS = (
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.SSLError,
    requests.exceptions.TooManyRedirects,
)


class _BrokenError(Exception):
    """A failure that another attempt may mend, after `wait` seconds if the server says so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class _Job:
    """What is to be got, and what is known of it."""

    url: str
    target: Path
    size: int | None
    checksum: str | None
    timeout: float

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def version(self) -> Path:
        """Which version of the file the part is of, in the server's words: what If-Range asks for."""
        return self.target.with_name(f"{self.target.name}.part.version")


def download(
    url: str,
    target: str | Path,
    *,
    size: int | None = None,
    checksum: str | None = None,
    attempts: int = 6,
    timeout: float = 60.0,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Get a file, whole and checked or not at all.

    What arrives is kept in ``<target>.part``, from where this or a later call resumes after a broken connection; a
    part of another version of the file, and one whose checksum turns out wrong, are dropped. Of several processes
    that get the same file, one downloads and the others wait for it.

    Args:
        url: An http or https address; redirections lead nowhere else.
        target: The file to write; where it exists already, nothing is done.
        size: Its size [bytes], if it is known.
        checksum: Its checksum, if it is known: ``md5:…``, ``sha256:…`` or ``adler32:…``.
        attempts: How many attempts may fail one after the other without a single further byte.
        timeout: How long the server may be silent [s].
        sleep: What waits between attempts: 2, 4, 8, … up to 60 seconds, or what the server asks for.

    Raises:
        HepgenError: if the file cannot be got or written, or is not the expected one.
    """
    job = _Job(url, Path(target), size, checksum, timeout)
    if urlsplit(url).scheme not in ("http", "https"):
        msg = f"{url}: is not an http or https address"
        raise HepgenError(msg)
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(job) as file:
            if file is not None:
                _complete(job, file, attempts, sleep)
                _finish(job, file)
    except OSError as error:
        msg = f"cannot write {job.target}: {error.strerror or error}; what has arrived is kept in {job.part}"
        raise HepgenError(msg) from error


@contextmanager
def _locked(job: _Job) -> Iterator[BinaryIO | None]:
    """The part, open for appending and for this process alone; None if another has finished the file meanwhile."""
    while not job.target.exists():
        # A link of this name would be followed out of the folder.
        with open(job.part, "ab", opener=_without_links) as file:
            _lock(file, job)
            # Another process may have renamed or removed what was opened here before it gave the lock away.
            if job.target.exists():
                _drop(job)
                break
            if job.part.exists() and os.path.samestat(os.fstat(file.fileno()), job.part.stat()):
                yield file
                return
    yield None


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _lock(file: BinaryIO, job: _Job) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say(f"{job.target.name}: another process is downloading it; waiting")
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        _say(f"{job.target.parent}: this file system has no locks; see to it that nobody else fetches the same file")


def _complete(job: _Job, file: BinaryIO, attempts: int, sleep: Callable[[float], None]) -> None:
    """Attempt the download until the part is complete."""
    failures, longest = 0, 0
    with _meter(job.target.name) as meter:
        while True:
            try:
                _attempt(job, file, meter)
                return
            except _BrokenError as broken:
                length = file.seek(0, os.SEEK_END)
                failures = 1 if length > longest else failures + 1
                longest = max(length, longest)
                if failures >= attempts:
                    raise _given_up(job, broken, length) from broken
                wait = min(2.0**failures, 60.0) if broken.wait is None else min(broken.wait, LONGEST_WAIT)
                _say(f"{job.target.name}: {broken}; next attempt in {wait:.0f} s")
                sleep(wait)


def _given_up(job: _Job, broken: _BrokenError, length: int) -> HepgenError:
    kept = f"; {decimal(length)} are kept in {job.part}, the same command resumes there" if length else ""
    if not length:
        _drop(job)
    return HepgenError(
        f"{job.url}: {broken}, after several attempts{kept}. Where a machine has no connection to the internet, "
        "download on one that has, such as a login node"
    )


def _attempt(job: _Job, file: BinaryIO, meter: Callable[[int, int | None], None]) -> None:
    """Append to the part what is missing."""
    done = _resumable(job, file)
    if done and done == job.size:
        return
    with _answer(job, done) as answer:
        if answer.status_code == 416:
            if answer.headers.get("Content-Range") == f"bytes */{done}":
                return
            file.truncate(0)
            msg = "the server does not have the rest of the part that is here; starting anew"
            raise _BrokenError(msg, wait=0)
        start = done if answer.status_code == 206 else 0
        total = _total(job, answer, start)
        _check_space(job, (total or 0) - start)
        if start == 0:
            file.truncate(0)
            _remember(job, answer)
        done = _append(job, file, answer, start, total, meter)
    if total is not None and done < total:
        msg = f"the connection broke off after {done:,} of {total:,} bytes"
        raise _BrokenError(msg)


def _resumable(job: _Job, file: BinaryIO) -> int:
    """The length of the part, once one that nothing ties to the file has been dropped."""
    length = file.seek(0, os.SEEK_END)
    tied = job.version.exists() or job.checksum is not None
    if length and (not tied or (job.size is not None and length > job.size)):
        file.truncate(0)
        return 0
    return length


@contextmanager
def _answer(job: _Job, have: int) -> Iterator[requests.Response]:
    """The server's answer to a request for all but the first `have` bytes: status 200, 206 or 416."""
    headers = {"User-Agent": "hepgen", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        with suppress(OSError):
            headers["If-Range"] = job.version.read_text()
    try:
        with requests.get(job.url, headers=headers, stream=True, timeout=job.timeout) as answer:
            _check_status(job, answer)
            yield answer
    except HOPELESS as error:
        msg = f"{job.url}: cannot be downloaded ({_short(error)})"
        raise HepgenError(msg) from error
    except requests.RequestException as error:
        raise _BrokenError(_short(error)) from error


def _short(error: Exception) -> str:
    """What happened, without the addresses of objects that the libraries mention."""
    if isinstance(error, requests.Timeout):
        return "the server does not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.exceptions.SSLError | requests.exceptions.InvalidSchema):
        return str(error).rpartition("(Caused by ")[2].rstrip(")")
    return "the connection to the server failed" if isinstance(error, requests.ConnectionError) else str(error)


def _check_status(job: _Job, answer: requests.Response) -> None:
    status = answer.status_code
    reason = f"the server answers {status} {answer.reason}"
    if status in PASSING:
        raise _BrokenError(reason, _retry_after(answer))
    if status not in (200, 206, 416):
        _drop_empty(job)
        msg = f"{job.url}: {reason}; has the file moved?"
        raise HepgenError(msg)
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        _drop_empty(job)
        msg = f"{job.url}: the server answers with a web page, not with the file; is a login or a proxy in between?"
        raise HepgenError(msg)


def _retry_after(answer: requests.Response) -> float | None:
    """Seconds until the server wants to be asked again; it says so by a number or a date."""
    text = answer.headers.get("Retry-After", "")
    if text.isdigit():
        return float(text)
    try:
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return None


def _total(job: _Job, answer: requests.Response, start: int) -> int | None:
    """The size of the whole file as the server states it; None if it does not."""
    stated = answer.headers.get("Content-Length", "")
    total = start + int(stated) if stated.isdigit() else None
    if answer.status_code == 206:
        span, _, whole = answer.headers.get("Content-Range", "").partition("/")
        if span.partition("-")[0] != f"bytes {start}":
            msg = f"the server sends another part ({span or 'unnamed'}) than was asked for"
            raise _BrokenError(msg)
        total = int(whole) if whole.isdigit() else total
    if job.size is not None and total is not None and total != job.size:
        _drop_empty(job)
        msg = f"{job.url}: expected {job.size:,} bytes, the server has {total:,}; it is another file"
        raise HepgenError(msg)
    return total if job.size is None else job.size


def _check_space(job: _Job, needed: int) -> None:
    free = shutil.disk_usage(job.target.parent).free
    if needed > free:
        _drop_empty(job)
        msg = f"{job.target.parent}: {decimal(needed)} are needed, {decimal(free)} are free; choose another folder"
        raise HepgenError(msg)


def _remember(job: _Job, answer: requests.Response) -> None:
    """Note which version of the file the part is of; a weak tag does not say that bytes are the same."""
    tag = answer.headers.get("ETag", "")
    version = tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")
    job.version.unlink(missing_ok=True)
    if version:
        with job.version.open("x") as file:
            file.write(version)


def _append(
    job: _Job,
    file: BinaryIO,
    answer: requests.Response,
    done: int,
    total: int | None,
    meter: Callable[[int, int | None], None],
) -> int:
    """Write the answer's body behind the first `done` bytes; returns how many there are then."""
    for block in answer.iter_content(BLOCK):
        done += len(block)
        if total is not None and done > total:
            _drop(job)
            msg = f"{job.url}: expected {total:,} bytes, the server sends more; it is another file"
            raise HepgenError(msg)
        file.write(block)
        meter(done, total)
    file.flush()
    return done


def _finish(job: _Job, file: BinaryIO) -> None:
    """Check the part and give it its name."""
    file.flush()
    os.fsync(file.fileno())
    if wrong := mismatch(job.part, job.size, job.checksum):
        _drop(job)
        msg = f"{job.url}: gave a wrong file: {wrong}; it was not kept"
        raise HepgenError(msg)
    job.part.replace(job.target)
    job.version.unlink(missing_ok=True)


def _drop(job: _Job) -> None:
    job.part.unlink(missing_ok=True)
    job.version.unlink(missing_ok=True)


def _drop_empty(job: _Job) -> None:
    """Leave no empty part behind where nothing has arrived."""
    if job.part.stat().st_size == 0:
        _drop(job)


def mismatch(path: Path, size: int | None, checksum: str | None) -> str:
    """What is wrong with a file of a known size [bytes] or checksum, in words; empty if nothing is."""
    found = path.stat().st_size
    if size is not None and found != size:
        return f"expected {size:,} bytes, found {found:,}"
    if checksum is None:
        return ""
    algorithm, _, expected = checksum.partition(":")
    actual = digest(path, algorithm)
    return "" if actual == expected else f"expected {algorithm} {expected}, found {actual}"


def digest(path: Path, algorithm: str) -> str:
    """The checksum of a file in hexadecimal digits: md5, sha256 or adler32."""
    with path.open("rb") as file:
        if algorithm != "adler32":
            return hashlib.file_digest(file, algorithm).hexdigest()
        value = 1
        while block := file.read(BLOCK):
            value = zlib.adler32(block, value)
        return f"{value:08x}"


@contextmanager
def _meter(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """What is told how many bytes of how many are here: a bar on a terminal, a line for each tenth in a log."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(name)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class _Lines:
    """A line for each tenth of a file, or for each 100 MB where nobody knows how many there will be."""

    def __init__(self, name: str) -> None:
        self.name, self.printed = name, -1

    def __call__(self, done: int, total: int | None) -> None:
        step = done * 10 // total if total else done // 100_000_000
        if step > self.printed:
            self.printed = step
            _say(f"{self.name}: {decimal(done)}" + (f" of {decimal(total)}" if total else ""))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
