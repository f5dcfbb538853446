"""Anomaly tagging: train on background, score everything, compare with cuts and a supervised reference."""
