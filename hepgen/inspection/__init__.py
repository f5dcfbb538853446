"""What a file is, what it holds, and a configuration that reads it."""

from hepgen.inspection.identify import Inspection, inspect

__all__ = ["Inspection", "inspect"]
