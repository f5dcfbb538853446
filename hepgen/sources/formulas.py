"""Formulas of branches, evaluated for a batch of events: a number, a yes or no, or a list of numbers for each."""

from dataclasses import dataclass
from typing import Any

import awkward as ak
import numpy as np

from hepgen.errors import HepgenError
from hepgen.expressions import Expression
from hepgen.sources.trees import Tree

__all__ = ["Batch", "Lists", "column", "condition", "is_true", "joined", "lists_of", "single"]


@dataclass(frozen=True)
class Batch:
    """Some events of a tree.

    Attributes:
        tree: Where they are from.
        branches: The values of n events, by branch.
        numbers: The events' numbers in the file, from 0, shape (n,).
        expressions: Those formulas of the sample that are not just a branch.
    """

    tree: Tree
    branches: dict[str, ak.Array]
    numbers: np.ndarray
    expressions: dict[str, Expression]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, mask: np.ndarray) -> "Batch":
        if mask.all():
            return self
        branches = {name: values[mask] for name, values in self.branches.items()}
        return Batch(self.tree, branches, self.numbers[mask], self.expressions)

    def value(self, text: str) -> ak.Array | float:
        """What a formula gives: an array of n events, or one number for all."""
        if text not in self.expressions:
            return self.branches[text]
        try:
            value = self.expressions[text](self.branches)
        except HepgenError as error:
            raise self.error(str(error)) from error
        if isinstance(value, ak.Array | np.ndarray):
            if len(value) != len(self):
                raise self.error(f"{text!r} gives {len(value)} values for {len(self)} events")
            return ak.Array(value)
        if self.expressions[text].names:
            raise self.error(f"{text!r} gives one number for all events, not one for each")
        return np.nan if value is None else float(value)

    def array(self, text: str) -> ak.Array:
        """What a formula gives, as an array of n events."""
        value = self.value(text)
        return value if isinstance(value, ak.Array) else ak.Array(np.full(len(self), value))

    def error(self, what: str, event: int | None = None) -> HepgenError:
        """An error that says in which file and, if given, in which event of the batch."""
        place = "" if event is None else f"event {self.numbers[event]} (counted from 0): "
        return HepgenError(f"{self.tree.where}: {place}{what}")


@dataclass(frozen=True)
class Lists:
    """A list of numbers for each of n events.

    Attributes:
        values: The numbers of all events, one after the other.
        offsets: Where each event's begin, and the last one's end, shape (n + 1,).
        padded: Whether all lists are equally long, so that some numbers may stand for nothing.
    """

    values: np.ndarray
    offsets: np.ndarray
    padded: bool

    @property
    def counts(self) -> np.ndarray:
        return np.diff(self.offsets)


def column(batch: Batch, text: str, needed: np.ndarray | None = None) -> np.ndarray:
    """One finite number of each event, shape (n,); NaN where it is not needed.

    Raises:
        HepgenError: if the formula gives lists, nothing or no finite number.
    """
    array = batch.array(text)
    if array.ndim != 1:
        msg = f"{text!r} gives {_length(array)} for each event, not one number; take one by [0], or max(...), sum(...)"
        raise batch.error(msg)
    if _has_missing(array):
        missing = ak.to_numpy(ak.is_none(array))
        bad = missing if needed is None else missing & needed
        if bad.any():
            raise batch.error(f"{text!r} has no value; leave such events out by cut", int(bad.argmax()))
        array = _filled(array)
    values = _numbers(batch, text, array.layout).astype(np.float64, copy=False)
    return _finite(batch, text, values, needed)


def _finite(batch: Batch, text: str, values: np.ndarray, needed: np.ndarray | None) -> np.ndarray:
    bad = ~np.isfinite(values) if needed is None else ~np.isfinite(values) & needed
    if bad.any():
        event = int(bad.argmax())
        raise batch.error(f"{text!r} is {values[event]}, which is no finite number", event)
    return values if needed is None or needed.all() else np.where(needed, values, np.nan).astype(values.dtype)


def single(batch: Batch, text: str, needed: np.ndarray | None = None) -> np.ndarray:
    """One float32 number of each event, which is NaN where it is not needed."""
    values = column(batch, text, needed)
    with np.errstate(over="ignore"):
        return _finite(batch, text, values.astype(np.float32), needed)


def condition(batch: Batch, text: str) -> np.ndarray:
    """Which events fulfil a condition, shape (n,); one that has no value does not."""
    array = batch.array(text)
    if array.ndim != 1:
        msg = (
            f"condition {text!r} gives {_length(array)} for each event, not yes or no; reduce it by any(...), all(...)"
        )
        raise batch.error(msg)
    return is_true(_numbers(batch, text, _filled(array).layout))


def is_true(values: np.ndarray) -> np.ndarray:
    """Which numbers are neither zero nor NaN."""
    return (values != 0) & (values == values)


def _has_missing(array: ak.Array) -> bool:
    """Whether the type of an array allows for missing numbers."""
    return "?" in str(array.type) or "option" in str(array.type)


def _filled(array: ak.Array) -> ak.Array:
    """The array with NaN for what is missing."""
    return ak.fill_none(ak.values_astype(array, np.float64), np.nan, axis=-1) if _has_missing(array) else array


def _length(array: ak.Array) -> str:
    return "lists of lists" if array.ndim > 2 else "a list of numbers"


def _numbers(batch: Batch, text: str, layout: Any) -> np.ndarray:
    """The numbers of a flat layout."""
    if not isinstance(layout, ak.contents.NumpyArray):
        layout = ak.to_packed(layout, highlevel=False)
    values = getattr(layout, "data", None)
    if not isinstance(layout, ak.contents.NumpyArray) or values.dtype.kind not in "fiub":
        raise batch.error(f"{text!r} holds {layout.form.type}, not numbers")
    return values


def joined(formulas: str | list[str]) -> str:
    """Formulas as one text, for messages."""
    return formulas if isinstance(formulas, str) else ", ".join(formulas)


def lists_of(batch: Batch, formulas: str | list[str], like: Lists | None, other: str) -> Lists:
    """The numbers that a formula gives for the objects of each event.

    Args:
        batch: The events.
        formulas: One that gives lists, fixed-size arrays or one number an event; or several that give one number each.
        like: Lists that must be equally long, if any.
        other: The formula of these.
    """
    text = joined(formulas)
    if isinstance(formulas, list):
        found = _padded(np.stack([_one_each(batch, formula) for formula in formulas], axis=1))
    else:
        value = batch.value(text)
        if like is not None and isinstance(value, float):
            return Lists(np.full(len(like.values), value), like.offsets, like.padded)
        array = batch.array(text) if isinstance(value, float) else value
        if array.ndim > 2:
            raise batch.error(f"{text!r} gives lists of lists, not a list of numbers; take one of each by [:, 0]")
        found = _jagged(batch, text, array) if array.ndim == 2 else _padded(_one_each(batch, text)[:, None])
    if like is not None and not np.array_equal(found.offsets, like.offsets):
        event = int((found.counts != like.counts).argmax())
        msg = f"{other!r} has {like.counts[event]} numbers, but {text!r} has {found.counts[event]}"
        raise batch.error(msg, event)
    return found


def _one_each(batch: Batch, text: str) -> np.ndarray:
    """One number of each event, NaN if it is missing; shape (n,)."""
    array = batch.array(text)
    if array.ndim != 1:
        raise batch.error(
            f"{text!r} gives {_length(array)} for each event; in a list of formulas, each gives one number"
        )
    return _numbers(batch, text, _filled(array).layout)


def _padded(values: np.ndarray) -> Lists:
    return Lists(values.ravel(), np.arange(len(values) + 1) * values.shape[1], True)


def _jagged(batch: Batch, text: str, array: ak.Array) -> Lists:
    """Lists as they are stored, without a copy; missing numbers are NaN."""
    array = _filled(array)
    if isinstance(array.type.content, ak.types.RegularType):
        return _padded(_numbers(batch, text, ak.flatten(array).layout).reshape(len(array), -1))
    layout = array.layout if isinstance(array.layout, ak.contents.ListOffsetArray) else ak.to_packed(array).layout
    if not isinstance(layout, ak.contents.ListOffsetArray):
        raise batch.error(f"{text!r} holds {array.type.content}, not lists of numbers")
    offsets = np.asarray(layout.offsets.data, np.int64)
    return Lists(_numbers(batch, text, layout.content)[offsets[0] : offsets[-1]], offsets - offsets[0], False)
