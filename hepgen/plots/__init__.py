"""Figures from saved numbers; nothing is computed here and no model is imported."""
