"""The record that every figure of merit of a run is kept in."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from hepgen.storage import read_json, write_json

__all__ = ["Check", "Metric", "read_checks", "read_metrics", "write_checks", "write_metrics"]


class Metric(BaseModel):
    """One figure of merit with its uncertainty and what it is to be held against.

    Attributes:
        analysis: ``samples`` or the block of the configuration, e.g. ``tagging``.
        sample: The sample or samples that it was measured on.
        model: The model, cut or method.
        metric: What was measured, e.g. ``auc`` or ``w1/mjj`` (per observable).
        value, low, high: The value and its 68 % interval; all the same for a bound, or where no interval is known.
        null: What a comparison of truth with truth (or no information) gives, where that is defined.
        floor: The statistical floor of the value, where there is one.
        p_value: How likely a value as far from the null is where there is no difference, where that was tested.
        n: Events that the value was measured on.
        seeds: Trainings that it was averaged over.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    analysis: str
    sample: str
    model: str
    metric: str
    value: float
    low: float
    high: float
    null: float | None = None
    floor: float | None = None
    p_value: float | None = None
    n: int
    seeds: int = 1


class Check(BaseModel):
    """A test with its verdict.

    Attributes:
        method: What was tested.
        test: Name of the test.
        verdict: What came out.
        statistic: What was measured, where anything was.
        error: Its standard error, where that is known.
        limit: Where the verdict changes.
        p_value: How likely a statistic as bad is without a fault, where that is known.
        text: What was done, or why nothing was.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    test: str
    verdict: Literal["pass", "fail", "not applicable"]
    statistic: float | None = None
    error: float | None = None
    limit: float | None = None
    p_value: float | None = None
    text: str


def write_metrics(path: str | Path, metrics: Iterable[Metric]) -> None:
    """Write records as a JSON list."""
    write_json(path, [metric.model_dump() for metric in metrics])


def read_metrics(path: str | Path) -> list[Metric]:
    """Read the records of a metrics file."""
    return read_json(path, list[Metric])


def write_checks(path: str | Path, checks: Iterable[Check]) -> None:
    """Write tests as a JSON list."""
    write_json(path, [check.model_dump() for check in checks])


def read_checks(path: str | Path) -> list[Check]:
    """Read the tests of a file of verdicts."""
    return read_json(path, list[Check])
