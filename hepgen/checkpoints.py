"""What a job has learnt so far, kept beside its product until that is written: after a kill it goes on from there."""

import copy
import hashlib
import io
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from hepgen.errors import HepgenError
from hepgen.progress import Log
from hepgen.provenance import digest
from hepgen.storage import atomic, checksum

__all__ = [
    "STOPPED",
    "Checkpoint",
    "current",
    "fit",
    "hold_sigterm",
    "random_state",
    "resumable",
    "set_random_state",
]

SECONDS = 30.0
# How a shell reports that a process was ended by SIGTERM.
STOPPED = 128 + signal.SIGTERM


class Checkpoint:
    """The states of a job's steps in the order that they are taken in: those that are over, and the one that runs.

    A step is a training or a fit. What lies between the steps is done again when a job goes on.

    Args:
        path: The file that holds them; without one they are not kept.
        card: Identifies the settings, the code and the data that they belong to; those of another card are not used.
    """

    def __init__(self, path: Path | None = None, card: str = "") -> None:
        self.path = path
        self.card = card
        self.states = self._read()
        self.step = -1
        self.written_at = time.monotonic()

    def begin(self) -> Any:
        """Begin the next step; its state, or None if there is none yet."""
        self.step += 1
        return self.states[self.step] if self.step < len(self.states) else None

    def due(self) -> bool:
        """Whether the file is older than it should be."""
        return self.path is not None and time.monotonic() - self.written_at >= SECONDS

    def keep(self, state: Any) -> None:
        """Take a state of tensors and plain values for that of the step, and write the file if that is due."""
        self.states[self.step :] = [copy.deepcopy(state)]
        if self.due():
            self.write()

    def write(self) -> None:
        """Write the file; where that fails, the job goes on with the last one, for its product may well find room."""
        if self.path is None:
            return
        buffer = io.BytesIO()
        torch.save(self.states, buffer)
        packed = buffer.getvalue()
        try:
            with atomic(self.path) as temporary:
                temporary.write_bytes(self._seal(packed) + packed)
        except HepgenError as error:
            Log()(f"warning: {error}; the training goes on")
        self.written_at = time.monotonic()

    def discard(self) -> None:
        """Forget all steps, as of a job that is finished, or not to be gone on with."""
        self.states.clear()
        if self.path:
            self.path.unlink(missing_ok=True)

    def _read(self) -> list[Any]:
        """The states in the file, if they are whole and of this card; nothing else is ever unpacked."""
        if self.path is None or not self.path.exists():
            return []
        try:
            content = self.path.read_bytes()
        except OSError as error:
            Log()(f"{self.path}: unreadable ({error.strerror}), so the training starts anew")
            return []
        seal, packed = content[:32], content[32:]
        if seal != self._seal(packed):
            Log()(f"{self.path}: damaged, or of other settings, code or data, so the training starts anew")
            return []
        try:
            return torch.load(io.BytesIO(packed), weights_only=True, map_location="cpu")
        except UnpicklingError as error:
            msg = f"{self.path}: holds more than tensors and plain values, which is never unpickled; remove it"
            raise HepgenError(msg) from error

    def _seal(self, packed: bytes) -> bytes:
        return hashlib.sha256(self.card.encode() + packed).digest()


_CURRENT: ContextVar[Checkpoint | None] = ContextVar("checkpoint", default=None)


def current() -> Checkpoint:
    """The checkpoint of the `resumable` block that the program is in; outside of one nothing is kept."""
    return _CURRENT.get() or Checkpoint()


@contextmanager
def resumable(output: Path, *made_from: Any, inputs: Iterable[Path] = ()) -> Iterator[Checkpoint]:
    """Keep what the trainings and fits inside the block have learnt in ``<output>.checkpoint`` until it is over.

    The next attempt takes up from there, if it has the same settings, code and data: it must then take the same steps
    in the same order. The file outlives a block that fails.

    Args:
        output: The product that the block writes.
        made_from: What it depends on beside the inputs, as plain values: settings, code, versions, seed.
        inputs: The files that it is made from.
    """
    path = output.with_name(f"{output.name}.checkpoint")
    checkpoint = Checkpoint(path, digest([*made_from, checksum(inputs)]))
    token = _CURRENT.set(checkpoint)
    try:
        yield checkpoint
    except SystemExit:
        checkpoint.write()
        Log()(f"stopped; the next attempt goes on from {path}")
        raise
    finally:
        _CURRENT.reset(token)
    checkpoint.discard()


def fit(model: Any, *data: Any, **settings: Any) -> None:
    """Fit an estimator as a step of the current checkpoint."""
    checkpoint = current()
    state = checkpoint.begin()
    if state is None:
        model.fit(*data, **settings)
        checkpoint.keep({"model": model.state_dict(), "random": random_state()})
    else:
        model.load_state_dict(state["model"])
        set_random_state(state["random"])


@contextmanager
def hold_sigterm() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM end the process after the block rather than inside, where a state may be half made.

    Yields:
        Whether the signal has come, so that the block may end the process at a better place, with status `STOPPED`.
    """
    if threading.current_thread() is not threading.main_thread():
        # Signals are the main thread's alone.
        yield lambda: False
        return
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
    if came:
        sys.exit(STOPPED)


def random_state() -> dict[str, torch.Tensor | None]:
    """The state of torch's random numbers, which are the only ones that do not have a generator of their own."""
    return {"cpu": torch.get_rng_state(), "cuda": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None}


def set_random_state(state: dict[str, torch.Tensor | None]) -> None:
    """Go on with the random numbers of a state."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
