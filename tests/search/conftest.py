"""Spectra drawn from a known dijet function."""

import numpy as np
import pytest

EDGES = np.linspace(2800, 6800, 41)


def dijet(events):
    """Events per bin of 3 · (1 − x)^10 x^−5, the function that is fitted, with a given total."""
    x = (EDGES[:-1] + EDGES[1:]) / 2 / 13_000
    shape = (1 - x) ** 10 * x**-5
    return events * shape / shape.sum()


@pytest.fixture(scope="session")
def spectrum():
    """The bin edges, and the events expected per bin for a total."""
    return EDGES, dijet
