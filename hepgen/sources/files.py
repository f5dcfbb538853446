"""What readers of files share: errors of foreign parsers become one clear error, and batches stay small."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hepgen.errors import HepgenError
from hepgen.progress import Log

__all__ = ["MAX_EVENT", "SMALLEST", "readable", "refuse", "rows_at_once", "warn_empty"]

MEMORY = 1 << 26
# Bytes of one event: the largest of heavy ions at the LHC take about 50 MB.
MAX_EVENT = 1 << 28
# The least pT [GeV] that float32 holds with all its digits; a particle below it has none.
SMALLEST = np.finfo(np.float32).tiny


@contextmanager
def readable(path: str | Path, kind: str, what: str = "") -> Iterator[None]:
    """Turn what a parser raises on a damaged file, which may be nearly anything, into one error.

    Args:
        path: The file that is read inside the block.
        kind: What it should be, e.g. ``HepMC``.
        what: The part of it that is read, if it has parts.

    Raises:
        HepgenError: for any exception; those that are a `HepgenError` already pass.
    """
    try:
        yield
    except HepgenError:
        raise
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        msg = f"{path}: not a readable {kind} file, perhaps truncated or damaged ({what}{': ' if what else ''}{reason})"
        raise HepgenError(msg) from error


def rows_at_once(row: int, most: int) -> int:
    """How many rows of `row` bytes to read at once: at most `most`, and about 64 MB."""
    return max(1, min(most, MEMORY // max(row, 1)))


def warn_empty(where: str) -> None:
    """Say that a file holds no event: among many that is normal, and who writes the sample refuses one without any."""
    Log()(f"warning: {where} holds no event")


def refuse(bad: np.ndarray, path: str, first: int, what: str) -> None:
    """Raise `HepgenError` for the first event that is bad, if any is.

    Args:
        bad: Which events are, shape (n,).
        path: Their file.
        first: Number of the first of them in the file.
        what: What a bad one has.
    """
    if bad.any():
        msg = f"{path}: event {first + int(bad.argmax())} (counted from 0) has {what}"
        raise HepgenError(msg)
