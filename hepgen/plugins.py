"""Modules of a user's own that register sources, observables and models."""

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path

from hepgen.errors import HepgenError
from hepgen.registry import module_source

__all__ = ["load_plugins"]


def load_plugins(modules: Iterable[str]) -> None:
    """Import the modules that a configuration names, from installed packages or from the current folder.

    Raises:
        HepgenError: if a module is not found, or fails when it is imported.
    """
    for module in modules:
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        module_source(module)
        try:
            importlib.import_module(module)
        except HepgenError:
            raise
        except Exception as error:  # what a user's module may raise is not known
            msg = f"plugins: {module!r} fails when it is imported ({type(error).__name__}: {error})"
            raise HepgenError(msg) from error
