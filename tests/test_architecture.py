"""Imports point one way only."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "hepgen"
# Each room may import from rooms of a lower floor, never from its own floor's others or above.
FLOORS = [
    {"errors", "text"},
    {"registry", "progress", "observables", "runs"},
    {"provenance", "storage", "sources", "models", "unfolding", "expressions", "download"},
    {"samples", "datasets", "plugins"},
    {"config", "events", "table", "inputs"},
    {"plan", "preprocessing"},
    {"jets", "images", "simulation", "checkpoints", "record"},
    {"ready_jets", "constituents", "head"},
    {"training", "metrics", "plots"},
    {"tagging", "generation", "overview", "inspection", "integration"},
    {"search"},
    {"summary", "export"},
    {"lineage"},
    {"account", "status"},
    {"cli"},
]
# Packages whose own __init__ holds only a registry: their modules stand on a higher floor than the registry.
MODULES = {"sources": 8, "models": 5, "unfolding": 9}


def floor_of(module: str) -> int:
    parts = module.split(".")[1:]
    if not parts:
        return -1
    if parts[0] in MODULES and len(parts) > 1:
        return MODULES[parts[0]]
    return next(level for level, rooms in enumerate(FLOORS) if parts[0] in rooms)


def imports(path: Path) -> set[str]:
    """The hepgen modules that a file imports when it runs, wherever in the file."""
    found = set()
    nodes = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("hepgen"):
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("hepgen")}
        nodes.extend(ast.iter_child_nodes(node))
    return found


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for imported in imports(path):
        if room(imported) != room(module):
            assert floor_of(imported) < floor_of(module), f"{module} must not import {imported}"
