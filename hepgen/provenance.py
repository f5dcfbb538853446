"""What a product was made from: the code, the settings and the versions, as short reproducible strings."""

import ast
import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

import hepgen
from hepgen.errors import HepgenError
from hepgen.registry import module_source

__all__ = ["PACKAGES", "digest", "digests", "fingerprint", "seed_for", "stamp", "versions"]

PACKAGES = (
    "torch", "nflows", "numpy", "scipy", "awkward", "vector", "h5py", "hdf5plugin", "uproot", "pyarrow", "pylhe",
    "fastjet", "energyflow", "wasserstein", "pythia8mc", "lightgbm", "scikit-learn", "vegas", "pyhf", "pyBumpHunter",
    "simpleeval", "safetensors", "onnx", "matplotlib", "snakemake",
)  # fmt: skip


# Read when a run is planned; what they decide reaches a job through its card and its model's module.
PLANNING = {f"hepgen.{name}" for name in ("config", "datasets", "models", "plan", "samples", "sources", "unfolding")}


def digest(value: Any) -> str:
    """A 16-digit hash of a JSON-like value; equal values give equal digests on every machine."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def seed_for(*parts: int | str) -> int:
    """A random seed in [1, 9e8] (Pythia's range) that depends on every part and nothing else."""
    return 1 + int(digest(parts), 16) % 900_000_000


def digests(*modules: str) -> dict[str, str]:
    """A hash of each module that the named ones run: of themselves and whatever they import, directly or not.

    Only modules of each one's own top-level package count, without comments, docstrings and layout, and no module is
    imported to find out.
    """
    code: dict[str, str] = {}
    for module in modules:
        _collect(module, code)
    return code


def fingerprint(*modules: str) -> str:
    """A hash of the code that the named modules run."""
    return digest(digests(*modules))


@cache
def versions() -> Mapping[str, str]:
    """Versions of Python, hepgen and the installed packages that results depend on."""
    found = {"python": platform.python_version(), "hepgen": hepgen.__version__}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def stamp(card: Any, modules: Iterable[str]) -> str:
    """The provenance written into a product: settings, code and versions as JSON, no time and no host."""
    record = {"card": card, "code": fingerprint(*modules), "versions": versions()}
    return json.dumps(record, sort_keys=True, default=str)


def _collect(module: str, code: dict[str, str]) -> None:
    if module in code or module in PLANNING:
        return
    path = module_source(module)
    code[module], imports = _parse(path, path.stat().st_mtime_ns, module)
    for name in imports:
        _collect(name, code)


@cache
def _parse(path: Path, _mtime_ns: int, module: str) -> tuple[str, tuple[str, ...]]:
    """A hash of a file's code without comments and docstrings, and the modules of its own package that it imports."""
    tree = ast.parse(path.read_text())
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    imports: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = resolve_name("." * node.level + (node.module or ""), package)
            imports.update([parent, *(f"{parent}.{alias.name}" for alias in node.names)])
        elif isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body = node.body[1:]
    own = module.partition(".")[0]
    return digest(ast.dump(tree)), tuple(sorted(n for n in imports if n.partition(".")[0] == own and _is_module(n)))


def _is_module(name: str) -> bool:
    """Whether a name in one's own package is a module, rather than something inside one."""
    try:
        module_source(name)
    except HepgenError:
        return False
    return True
