"""Any number of events from a trained generator, in bounded memory, part by part, so that a killed run goes on."""

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np

from hepgen.errors import HepgenError
from hepgen.export import check_output, export
from hepgen.generation.generators import BLOCK, Trained, load_generator
from hepgen.generation.sample import provenance, write_generated
from hepgen.progress import Log, track
from hepgen.registry import unknown_name
from hepgen.storage import open_h5, refuse_inputs
from hepgen.training import pick_device

__all__ = ["stream"]

# Events of a part: what a killed run may have to draw again.
PART = 10 * BLOCK
MULTIPLES = {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def stream(
    model_file: Path, number: str, output: Path, *, seed: int = 0, fixed: Sequence[str] = (), device: str = "auto"
) -> int:
    """Draw events into a file of any format of `hepgen.export`.

    They are first written as parts into the folder ``OUTPUT.parts``, then joined; the folder is removed. A run takes
    over the parts of one that was stopped, if model, seed, conditions, device and code are the same, and replaces
    others, so that events are never mixed. An event depends on all these and its number only.

    Args:
        model_file: A generator's model file; nothing else is needed.
        number: How many events, e.g. ``1000``, ``50k`` or ``10M``.
        output: File to write, whole or not at all.
        seed: Another one means other events of the same model.
        fixed: A value for each condition that the model is told, the same for all events, as ``NAME=VALUE``;
            otherwise conditions are drawn from those of the training.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        How many events were written.

    Raises:
        HepgenError: if the model file is missing or damaged, an argument is unfit, or the output cannot be written.
    """
    events = _count(number)
    check_output(output)
    refuse_inputs(output, [model_file])
    folder = output.with_name(f"{output.name}.parts")
    if folder.is_symlink():
        msg = f"{folder}: is a link, which is never followed; remove it"
        raise HepgenError(msg)
    trained = load_generator(model_file, pick_device(device))
    values = _conditions(trained, fixed)
    told = None if values is None else np.broadcast_to(values, (events, len(values)))
    about = provenance(__name__, model_file, trained, seed, fixed)
    parts = [folder / f"{first // PART:06d}.h5" for first in range(0, events, PART)]
    for (index, part), log in track(enumerate(parts), len(parts), trained.card["name"]):
        first = index * PART
        last = min(first + PART, events)
        if not _is_there(part, about, last - first):
            write_generated(part, model_file, trained, trained.blocks(last, told, first, seed), about)
        log(f"{trained.card['name']}: {last:,} of {events:,} events")
    export(parts, output)
    if values is not None and trained.pool.outside(values[None]):
        _warn(trained, events)
    _clear(folder)
    return events


def _count(text: str) -> int:
    """A positive number of events that may end in k, M or G."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kMG]?)", text)
    number = Decimal(found[1]) * MULTIPLES[found[2]] if found else Decimal(0)
    if number < 1 or number != round(number):
        msg = f"{text!r} is no number of events; give one like 1000, 50k or 10M"
        raise HepgenError(msg)
    return round(number)


def _conditions(trained: Trained, fixed: Iterable[str]) -> np.ndarray | None:
    """The values of all conditions in their order, or None if none is given.

    Raises:
        HepgenError: if a name or value is unfit, or some of the conditions are missing: drawn apart from the given
            ones they would not belong to them.
    """
    values, names = {}, trained.entry.conditions
    for text in fixed:
        name, _, value = text.partition("=")
        if name not in names:
            raise unknown_name(f"condition of {trained.card['name']!r}", name, names)
        try:
            values[name] = float(value)
        except ValueError:
            values[name] = np.nan
        if not np.isfinite(values[name]):
            msg = f"condition {text!r}: {value!r} is not a finite number; give it like {name}=1.5"
            raise HepgenError(msg)
    missing = [name for name in names if name not in values]
    if values and missing:
        msg = f"conditions {', '.join(missing)} are not given; give all of {', '.join(names)}, or none to draw them"
        raise HepgenError(msg)
    return np.array([values[name] for name in names]) if values else None


def _warn(trained: Trained, events: int) -> None:
    """Say on stderr that events have conditions that the training had not."""
    limits = zip(trained.entry.conditions, *trained.pool.limits.tolist(), strict=True)
    known = ", ".join(f"{name} {low:g} to {high:g}" for name, low, high in limits)
    Log()(
        f"warning: {events} of {events} events have conditions that {trained.card['name']} was not trained with "
        f"({known}): it extrapolates"
    )


def _is_there(part: Path, about: str, events: int) -> bool:
    """Whether a part was written by a run like this one; a damaged one is written anew."""
    try:
        with open_h5(part, "generated") as file:
            rows = len(next(iter(file["columns"].values())))
            return rows == events and file.attrs["provenance"] == about
    except HepgenError:
        return False


def _is_part(path: Path) -> bool:
    """Whether a file in the folder of the parts is one, of whatever run."""
    try:
        with open_h5(path, "generated"):
            return re.fullmatch(r"\d{6,}\.h5", path.name) is not None
    except HepgenError:
        return False


def _clear(folder: Path) -> None:
    """Remove parts, those of longer runs and what killed ones left too, and the folder if nothing else is in it."""
    for path in [*folder.iterdir()]:
        if re.fullmatch(r"\.\d{6,}\.h5\..+\.partial", path.name) or _is_part(path):
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()
