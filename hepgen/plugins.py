"""Modules of a user's own that register sources, observables and models."""

import importlib
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from hepgen.errors import HepgenError
from hepgen.models import CLASSIFIERS, GENERATORS, TAGGERS
from hepgen.observables import plugin_modules
from hepgen.registry import module_source
from hepgen.sources import SOURCES

__all__ = ["load_plugins"]


def load_plugins(modules: Iterable[str]) -> None:
    """Import the modules that a configuration names, from installed packages or from the current folder.

    Raises:
        HepgenError: if a module is not found, fails when it is imported, or registers nothing.
    """
    for module in modules:
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", module):
            msg = f"plugins: {module!r} is no module's name; write my_module or my_package.module, without .py"
            raise HepgenError(msg)
        try:
            source = module_source(module)
            importlib.import_module(module)
        except HepgenError:
            raise
        except Exception as error:  # what a user's module may raise is not known
            msg = f"plugins: {module!r} fails when it is imported ({type(error).__name__}: {error})"
            raise HepgenError(msg) from error
        if not any(f"{registered}.".startswith(f"{module}.") for registered in _registered()):
            msg = f"plugins: {module!r} ({source}) registers no source, observable or model; is it the one you mean?"
            raise HepgenError(msg)


def _registered() -> Iterator[str]:
    """The modules that have registered something."""
    yield from plugin_modules()
    for registry in (SOURCES, TAGGERS, GENERATORS, CLASSIFIERS):
        yield from (registry.target(name)[0] for name in registry)
