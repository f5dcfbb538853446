"""Derived branches: what expressions mean, and what they refuse."""

import awkward as ak
import numpy as np
import pytest

from hepgen.errors import HepgenError
from hepgen.expressions import FUNCTIONS, Expression

BRANCHES = {
    "pt": ak.Array([[50.0, 20.0], [30.0], []]),
    "eta": ak.Array([[0.1, -2.0], [1.0], []]),
    "Jet.Tau": ak.Array([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0]], []]),
    "flags": np.array([1, 2, 7]),
    "veto": np.array([0, 1, 0], np.int32),
    "passed": np.array([True, False, True]),
    "uneven": ak.Array([[[1.0, 2.0], [3.0]], [[5.0]], []]),
    "best": ak.Array([[1], [0, 0], []]),
    "met": np.array([1.0, 2.0, 3.0]),
    "fixed": np.arange(6.0).reshape(3, 2),
    "odd-name#1": np.array([4.0, 5.0, 6.0]),
}

EVENTS_ARE_CUT = "a subscript selects objects of an event; use cut for events"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("met / 2 + 1", [1.5, 2.0, 2.5]),
        ("pt * cosh(eta) > 40", [[True, True], [True], []]),
        ("(pt > 25) & ~(abs(eta) > 0.5)", [[True, False], [False], []]),
        ("pt * met", [[50, 20], [60], []]),
        ("pt[0]", [50, 30, None]),
        ("pt[1] > 10", [True, None, None]),
        ("pt[:1]", [[50], [30], []]),
        ("pt[eta > 0]", [[50], [30], []]),
        ("Jet.Tau[:, 1]", [[2, 4], [6], []]),
        ("Jet.Tau[:, 1] / Jet.Tau[:, 0]", [[2, 4 / 3], [6 / 5], []]),
        ("fixed[1]", [1, 3, 5]),
        ("fixed[-2]", [0, 2, 4]),
        ("fixed[fixed > 2]", [[], [3], [4, 5]]),
        ("pt[-1]", [20, 30, None]),
        ("pt[-2]", [50, None, None]),
        ("pt[1 - 1]", [50, 30, None]),
        ("pt[99999999999]", [None, None, None]),
        ("pt[-1:]", [[20], [30], []]),
        ("pt[best]", [[20], [30, 30], []]),
        ("uneven[0, 1]", [2, None, None]),
        ("uneven[0, -1]", [2, 5, None]),
        ("uneven[0][1]", [2, None, None]),
        ("uneven[:, 1]", [[2, None], [None], []]),
        ("uneven[:, -1]", [[2, 3], [5], []]),
        ("~passed", [False, True, False]),
        ("~(pt[0] > 40)", [False, True, None]),
        ("veto == 0", [True, False, True]),
        ("veto & 2", [0, 0, 0]),
        ("sum(pt)", [70, 30, 0]),
        ("max(pt)", [50, 30, -np.inf]),
        ("min(pt)", [20, 30, np.inf]),
        ("count(pt) >= 1", [True, True, False]),
        ("any(eta < 0)", [True, False, False]),
        ("all(eta < 3)", [True, True, True]),
        ("where(met > 1, 1, 0)", [0, 1, 1]),
        ("flags & 2", [0, 2, 2]),
        ("2 ** 0.5", 2**0.5),
        ("`odd-name#1` - met", [3, 3, 3]),
        ("hypot(met, met) ** 2", [2, 8, 18]),
    ],
)
def test_value(text, value):
    found = ak.Array([Expression(text)(BRANCHES)])
    expected = ak.Array([value])
    assert ak.to_list(ak.num(found, axis=-1)) == ak.to_list(ak.num(expected, axis=-1))
    assert ak.to_list(ak.is_none(found, axis=-1)) == ak.to_list(ak.is_none(expected, axis=-1))
    numbers, wanted = (ak.to_numpy(ak.drop_none(ak.flatten(array, axis=None))) for array in (found, expected))
    np.testing.assert_allclose(numbers, wanted, rtol=1e-12)


def test_names_are_the_branches_and_not_the_functions():
    assert Expression("sqrt(Jet.Tau[:, 1]) + `odd-name#1` * max(pt)").names == {"Jet.Tau", "odd-name#1", "pt"}
    assert Expression("3").names == frozenset()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__import__('os')", "calls an unknown function '__import__'"),
        ("open(pt)", "calls an unknown function 'open'"),
        ("pt.sum()", r"calls an unknown function 'pt.sum'"),
        ("sqr(met)", r"unknown function 'sqr' \(did you mean 'sqrt'\?\)"),
        ("sqrt(x=met)", "calls an unknown function"),
        ("(pt + eta).real", r"asks for \.real of something that is no branch"),
        ("a and b", "write & and |"),
        ("not a", "write ~"),
        ("a if b else c", r"write where\(condition, this, that\)"),
        ("1 < pt < 2", r"write \(a < b\) & \(b < c\)"),
        ("[x for x in pt]", "holds ListComp, which is not arithmetic"),
        ("lambda: 0", "holds Lambda"),
        ("f'{pt}'", "holds JoinedStr"),
        ("'text'", "holds 'text', which is not a number"),
        ("pt @ eta", "holds MatMult"),
        ("1 << 99", "holds LShift"),
        ("pt; eta", "is not an expression"),
        ("pt = 3", "is not an expression"),
        ("odd-name#1", "put branches with odd names into `backquotes`"),
        ("", "is not an expression"),
        ("\0", "is not an expression"),
        ("pt" + " + pt" * 500, "is longer than 2000 characters"),
        ("-" * 1500 + "pt", "is nested too deeply"),
    ],
)
def test_what_is_no_arithmetic_is_refused(text, message):
    with pytest.raises(HepgenError, match=message):
        Expression(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pt + fixed", "cannot broadcast"),
        ("hypot(met)", r"hypot takes 2 argument\(s\), not 1"),
        ("9 ** 9 ** 9", "math range error"),
        ("1 / 0", "division by zero"),
        ("fixed[7]", "out of bounds"),
        ("(-1) ** 0.5", "math domain error"),
        ("fixed[-3]", "out of bounds"),
        ("~veto", "not of int32; write branch == 0"),
        ("~flags", "not of int64; write branch == 0"),
        ("~pt", "not of float64; write branch == 0"),
        ("~1", "write branch == 0"),
        *((f"met[{place}]", EVENTS_ARE_CUT) for place in ("0", "-1", ":1", "met > 1", "0, 0")),
        *((f"pt[{place}]", EVENTS_ARE_CUT) for place in ("veto", "met > 1", "passed")),
        ("3[0]", EVENTS_ARE_CUT),
        *((f"pt[{place}]", "whole numbers and slices") for place in ("True", "1.0", "None", ":met", "0:1:0", "9" * 30)),
        *((f"uneven[{place}]", "whole numbers and slices") for place in (":, veto", "veto, 0", "pt > 20, 0")),
        ("absent + 1", "'absent' is not defined"),
        ("sum(met)", "expression 'sum"),
    ],
)
def test_values_that_do_not_fit(text, message):
    with pytest.raises(HepgenError, match=message):
        Expression(text)(BRANCHES)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_function_reaches_beyond_numbers(name):
    """Whatever a function is given here, it answers with numbers or refuses with one error."""
    for arguments in ("pt", "met", "pt, eta", "met, pt, eta", "flags, None", ""):
        try:
            value = Expression(f"{name}({arguments})")(BRANCHES)
        except HepgenError:
            continue
        assert isinstance(value, ak.Array | np.ndarray)
