"""What settings of networks must be."""

import pytest

from hepgen.errors import HepgenError
from hepgen.models.layers import at_least


def test_numbers_that_suffice_pass():
    at_least(1, hidden=[1, 2], layers=3)
    at_least(0.0, beta=0, strength=0.5)


@pytest.mark.parametrize(
    ("least", "value", "message"),
    [
        (1, 0, "is 0; it must be at least 1"),
        (1, [2, 0], r"is \[2, 0\]; it must be at least 1"),
        (1, [], r"is \[\]; it must be at least 1"),
        (1, "3", "is '3'; it must be a whole number of at least 1"),
        (1, 2.5, "is 2.5; it must be a whole number of at least 1"),
        (1, True, "is True; it must be a whole number"),
        (1, None, "is None; it must be a whole number"),
        (1, [8, "x"], r"is \[8, 'x'\]; it must be a whole number"),
        (0.0, "many", "is 'many'; it must be a number of at least 0.0"),
        (0.0, float("nan"), "is nan; it must be at least 0.0"),
    ],
)
def test_others_are_refused(least, value, message):
    with pytest.raises(HepgenError, match=rf"settings\.hidden: {message}"):
        at_least(least, hidden=value)
