"""Named plug-ins, imported only when they are used."""

import ast
import difflib
import importlib
import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any, TypeVar

from hepgen.errors import HepgenError

__all__ = ["Registry", "look_up", "module_source", "nearest", "unknown_name"]

T = TypeVar("T")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> HepgenError:
    """The error for a name that nothing answers to: it lists the known ones, the nearest first."""
    known = sorted(known)
    near = nearest(name, known, 1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    return HepgenError(f"unknown {kind} {name!r}{hint}; known: {', '.join(known) or 'none'}")


def nearest(name: str, known: Iterable[str], number: int) -> list[str]:
    """The known names that are most like a name, whatever their case, the best first."""
    spelling = {candidate.lower(): candidate for candidate in known}
    return [spelling[match] for match in difflib.get_close_matches(name.lower(), spelling, n=number)]


def look_up(kind: str, name: str, entries: Mapping[str, T]) -> T:
    """The entry of that name.

    Raises:
        HepgenError: if there is none; see `unknown_name`.
    """
    if name not in entries:
        raise unknown_name(kind, name, entries)
    return entries[name]


@cache
def module_source(module: str) -> Path:
    """The source file of an importable module, found without importing it.

    Raises:
        HepgenError: if there is no such module or it has no Python source.
    """
    try:
        spec = _spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or not (spec.origin or "").endswith(".py"):
        msg = f"no Python module {module!r} can be imported; is its package installed in this environment?"
        raise HepgenError(msg)
    return Path(spec.origin)


def _spec(module: str) -> ModuleSpec | None:
    """Where a module is; Python would import all that a dotted name is inside of, here only packages are."""
    package = module.rpartition(".")[0]
    holder = _spec(package) if package else None
    if package and (holder is None or holder.submodule_search_locations is None):
        return None
    return importlib.util.find_spec(module)


class Registry:
    """Maps names to ``module:attribute`` targets.

    Looking at an entry's module or settings reads its source only; importing it, and with it torch, is left
    to `load`.
    """

    def __init__(self, kind: str, targets: dict[str, str]) -> None:
        self.kind = kind
        self.targets = targets

    def __iter__(self) -> Iterator[str]:
        return iter(self.targets)

    def register(self, name: str) -> Callable[[T], T]:
        """Register a class or function of a plug-in: ``@TAGGERS.register("mine")``.

        Raises:
            HepgenError: if the name is taken.
        """

        def add(item: T) -> T:
            target = f"{item.__module__}:{item.__qualname__}"
            if self.targets.setdefault(name, target) != target:
                msg = f"{self.kind} {name!r} is registered already (by {self.targets[name]}); choose another name"
                raise HepgenError(msg)
            return item

        return add

    def target(self, name: str) -> tuple[str, str]:
        """The module and attribute that a name stands for.

        Raises:
            HepgenError: if the name is not registered.
        """
        module, _, attribute = look_up(self.kind, name, self.targets).partition(":")
        return module, attribute

    def load(self, name: str) -> Any:
        """Import the class or function behind a name."""
        module, attribute = self.target(name)
        module_source(module)
        try:
            return getattr(importlib.import_module(module), attribute)
        except AttributeError:
            msg = f"{self.kind} {name!r}: module {module!r} has no {attribute!r}"
            raise HepgenError(msg) from None

    def settings(self, name: str) -> set[str]:
        """The keyword-only arguments of a registered function or class's constructor: the settings it takes."""
        module, attribute = self.target(name)
        tree = _tree(module)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == attribute:
                return {argument.arg for argument in node.args.kwonlyargs}
        classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
        if attribute not in classes:
            msg = f"{self.kind} {name!r}: module {module!r} has no class or function {attribute!r}"
            raise HepgenError(msg)
        return _keywords(attribute, classes)

    def offers(self, name: str, method: str) -> bool | None:
        """Whether a registered class, or a base of its own package, defines a method or sets an attribute to True.

        Nothing is imported; None where the source does not tell, as for a base of another package.
        """
        return _offers(*self.target(name), method)

    def check_settings(self, name: str, settings: Iterable[str]) -> None:
        """Check settings against the constructor's signature.

        Raises:
            HepgenError: naming the first setting that the constructor does not take.
        """
        known = self.settings(name)
        for setting in settings:
            if setting not in known:
                raise unknown_name(f"setting of {self.kind} {name!r}", setting, known)


def _tree(module: str) -> ast.Module:
    """A module's code; asked for as often as there are models of a type."""
    path = module_source(module)
    return _parsed(path, path.stat().st_mtime_ns)


@cache
def _parsed(path: Path, _mtime_ns: int) -> ast.Module:
    return ast.parse(path.read_text())


def _offers(module: str, name: str, method: str) -> bool | None:
    """Whether a class of a module, or a base of the same package, defines a name; None where that is not known."""
    tree = _tree(module)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    imported = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == module.split(".")[0]
        for alias in node.names
    }
    if name in imported:
        return _offers(*imported[name], method)
    if name not in classes:
        return False if name in ("nn.Module", "object") else None
    for item in classes[name].body:
        if isinstance(item, ast.FunctionDef) and item.name == method:
            return True
        if isinstance(item, ast.Assign) and method in map(ast.unparse, item.targets):
            return ast.unparse(item.value) == "True"
    found = {_offers(module, ast.unparse(base), method) for base in classes[name].bases}
    return True if True in found else None if None in found else False


def _keywords(name: str, classes: dict[str, ast.ClassDef]) -> set[str]:
    """Keyword-only constructor arguments of a class or, where it has no constructor, of its bases."""
    node = classes[name]
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return {argument.arg for argument in item.args.kwonlyargs}
    bases = [base.id for base in node.bases if isinstance(base, ast.Name) and base.id in classes]
    return set().union(*(_keywords(base, classes) for base in bases))
