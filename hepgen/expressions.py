"""Derived branches: arithmetic on branches by name, interpreted from its syntax tree and never executed as Python.

>>> import awkward as ak
>>> pt, eta = ak.Array([[50.0, 20.0], [30.0]]), ak.Array([[0.1, -2.0], [1.0]])
>>> Expression("sum(Jet_pt[abs(Jet_eta) < 1.5])")({"Jet_pt": pt, "Jet_eta": eta}).to_list()
[50.0, 30.0]
"""

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import awkward as ak
import numpy as np
from simpleeval import InvalidExpression, SimpleEval

from hepgen.errors import HepgenError
from hepgen.registry import unknown_name

__all__ = ["FUNCTIONS", "Expression"]

LONGEST = 2000
LARGEST = 1 << 62


def _power(base: Any, power: Any) -> Any:
    """Powers of plain numbers are taken as floats: those of integers could fill the memory."""
    plain = not any(isinstance(value, np.ndarray | ak.Array) for value in (base, power))
    return math.pow(base, power) if plain else base**power


def _not(values: Any) -> Any:
    """The opposite of conditions; that of whole numbers is bitwise, and neither ~0 nor ~1 is zero."""
    kind = ak.type(values)
    while hasattr(kind, "content"):
        kind = kind.content
    if getattr(kind, "primitive", None) != "bool":
        msg = f"~ is the opposite of a condition, not of {kind}; write branch == 0 for that of a number"
        raise TypeError(msg)
    return np.logical_not(values)


OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Mod: operator.mod, ast.Pow: _power, ast.USub: operator.neg, ast.UAdd: operator.pos,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor, ast.Invert: _not,
}  # fmt: skip


def _reduction(function: Callable, empty: float) -> Callable:
    """A number of each event from its objects; `empty` where an event has none."""
    return lambda values: ak.fill_none(function(values, axis=1), empty)


def _elementwise(function: np.ufunc) -> Callable:
    """A function of as many numbers as it takes; numpy would write into one more."""

    def apply(*arguments: Any) -> Any:
        if len(arguments) != function.nin:
            msg = f"{function.__name__} takes {function.nin} argument(s), not {len(arguments)}"
            raise TypeError(msg)
        return function(*arguments)

    return apply


ELEMENTWISE = (
    np.abs, np.sqrt, np.exp, np.log, np.log10, np.sin, np.cos, np.tan, np.arcsin, np.arccos, np.arctan, np.arctan2,
    np.sinh, np.cosh, np.tanh, np.arcsinh, np.hypot, np.minimum, np.maximum, np.floor, np.isfinite,
)  # fmt: skip
FUNCTIONS: dict[str, Callable] = {
    **{"abs" if function is np.abs else function.__name__: _elementwise(function) for function in ELEMENTWISE},
    "where": lambda condition, this, that: ak.where(condition, this, that),
    "sum": _reduction(ak.sum, 0),
    "min": _reduction(ak.min, np.inf),
    "max": _reduction(ak.max, -np.inf),
    "any": _reduction(ak.any, False),
    "all": _reduction(ak.all, True),
    "count": lambda values: ak.num(values, axis=1),
}
BELOW = "a subscript selects objects of an event; use cut for events"
# What an expression may be made of; there is no attribute, comprehension, lambda or string among it.
NODES = (
    ast.Expr, ast.Name, ast.Load, ast.Constant, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Call, ast.Subscript, ast.Slice,
    ast.Tuple, *OPERATORS,
)  # fmt: skip
# What arrays that do not fit together or do not suit a function end in.
UNFIT = (InvalidExpression, ValueError, TypeError, IndexError, AttributeError, ArithmeticError, RecursionError)
ADVICE = {
    ast.BoolOp: "write & and | with parentheses for `and` and `or`",
    ast.Not: "write ~(condition) or branch == 0 for `not`",
    ast.IfExp: "write where(condition, this, that)",
}


class Expression:
    """An expression of branches, e.g. ``"Jet_pt * cosh(Jet_eta)"`` or ``"FatJet_tau2 / FatJet_tau1"``.

    Branches are named as they are in the file, also with dots (``EFlowTrack.PT``); other odd names stand in
    backquotes. Subscripts count below the event: ``PSWeight[0]`` is the first of each event, ``Jet_pt[-1]`` the last,
    ``Jet_pt[Jet_pt > 30]`` selects, ``Jet.Tau[:, 1]`` is the second of each jet. `FUNCTIONS` lists the functions;
    ``sum``, ``min``, ``max``, ``any``, ``all`` and ``count`` run over the objects of an event.

    Attributes:
        text: The expression as given.
        names: The branches that it needs.

    Raises:
        HepgenError: if the text is not an expression, or asks for more than arithmetic.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._node = _Syntax(text).parse()
        functions = {id(node.func) for node in ast.walk(self._node) if isinstance(node, ast.Call)}
        names = (node for node in ast.walk(self._node) if isinstance(node, ast.Name) and id(node) not in functions)
        self.names = frozenset(node.id for node in names)

    def __call__(self, branches: Mapping[str, Any]) -> Any:
        """The value for n events; None where an event lacks the element that is asked for.

        Args:
            branches: Arrays of n events by name.

        Raises:
            HepgenError: if the arrays do not fit together.
        """
        try:
            with np.errstate(all="ignore"):
                return _Evaluator(OPERATORS, FUNCTIONS, dict(branches)).eval(self.text, self._node)
        except UNFIT as error:
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            msg = f"expression {self.text!r}: {reason}"
            raise HepgenError(msg) from error


class _Evaluator(SimpleEval):
    """Subscripts that count below the event."""

    def _eval_subscript(self, node: ast.Subscript) -> Any:
        values = self._eval(node.value)
        parts = [self._eval(part) for part in (node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice])]
        if _depth(values) < 2:
            raise TypeError(BELOW)
        if len(parts) == 1 and isinstance(parts[0], np.ndarray | ak.Array):
            return _selected(values, parts[0])
        axis = 1
        for part in parts:
            if not _is_place(part):
                msg = "a subscript is made of whole numbers and slices, or is one condition on the objects"
                raise TypeError(msg)
            if isinstance(part, int):
                values = _element(values, part, axis)
            else:
                values = values[(*[slice(None)] * axis, part)]
                axis += 1
        return values


def _is_place(part: Any) -> bool:
    """Whether a part of a subscript is a whole number or a slice of these; with a step of 0 awkward never ends."""
    if isinstance(part, slice):
        return part.step != 0 and all(end is None or _is_place(end) for end in (part.start, part.stop, part.step))
    return type(part) is int and abs(part) < LARGEST


def _depth(values: Any) -> int:
    return values.ndim if isinstance(values, np.ndarray | ak.Array) else 0


def _selected(values: Any, which: Any) -> ak.Array:
    """The objects of each event that a mask, or lists of positions, select."""
    if _depth(which) < 2:
        raise TypeError(BELOW)
    # Arrays of fixed size would be selected from as numpy does it: across the events.
    for axis in range(1, _depth(which)):
        values, which = (ak.from_regular(array, axis=axis) for array in (values, which))
    return values[which]


def _element(values: Any, index: int, axis: int) -> Any:
    """One element of each list at an axis, counted from the end if negative; None where the list is too short."""
    before = (slice(None),) * axis
    kind = ak.type(values)
    for _ in range(axis):
        kind = kind.content
        while isinstance(kind, ak.types.OptionType):
            kind = kind.content
    if not isinstance(kind, ak.types.RegularType):
        values = ak.mask(values, ak.num(values, axis=axis) > (index if index >= 0 else -index - 1))
    return values[(*before, index)]


class _Syntax(ast.NodeTransformer):
    """The syntax tree of an expression, in which every branch is one name."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.quoted: list[str] = []

    def parse(self) -> ast.Expr:
        if len(self.text) > LONGEST:
            raise self._error(f"is longer than {LONGEST} characters")
        source = re.sub("`([^`]+)`", self._unquote, self.text.strip())
        if "#" in source:
            raise self._error("holds a comment; put branches with odd names into `backquotes`")
        try:
            return ast.Expr(self.visit(ast.parse(source, mode="eval").body))
        except (SyntaxError, ValueError, MemoryError):
            raise self._error("is not an expression; put branches with odd names into `backquotes`") from None
        except RecursionError:
            raise self._error("is nested too deeply") from None

    def _unquote(self, match: re.Match) -> str:
        self.quoted.append(match[1])
        return f"_quoted_{len(self.quoted) - 1}_"

    def _error(self, reason: str) -> HepgenError:
        return HepgenError(f"expression {self.text[:LONGEST]!r} {reason}")

    def visit(self, node: ast.AST) -> ast.AST:
        for kind, advice in ADVICE.items():
            if isinstance(node, kind):
                raise self._error(f"is not understood; {advice}")
        if not isinstance(node, (*NODES, ast.Attribute)):
            raise self._error(f"holds {type(node).__name__}, which is not arithmetic on branches")
        return super().visit(node)

    def visit_Name(self, node: ast.Name) -> ast.Name:
        match = re.fullmatch(r"_quoted_(\d+)_", node.id)
        return ast.Name(self.quoted[int(match[1])] if match else node.id, ast.Load())

    def visit_Attribute(self, node: ast.Attribute) -> ast.Name:
        """``EFlowTrack.PT`` is a branch with a dot in its name, nothing is looked up in anything."""
        parent = self.visit(node.value)
        if not isinstance(parent, ast.Name):
            raise self._error(f"asks for .{node.attr} of something that is no branch")
        return ast.Name(f"{parent.id}.{node.attr}", ast.Load())

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        if type(node.value) not in (int, float, bool, type(None)):
            raise self._error(f"holds {node.value!r}, which is not a number")
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.Compare:
        if len(node.ops) > 1:
            raise self._error("chains comparisons; write (a < b) & (b < c)")
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.Call:
        if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS or node.keywords:
            name = ast.unparse(node.func)
            raise self._error(f"calls an {unknown_name('function', name, FUNCTIONS)}")
        return ast.Call(node.func, [self.visit(argument) for argument in node.args], [])
