"""hepgen: anomaly detection, fast simulation and unfolding for collider physics, in one workflow."""

__version__ = "0.1.0"
