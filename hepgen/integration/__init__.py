"""Integrals and events of a matrix element: adaptive samplers side by side."""
