"""Figures of merit: arrays in, numbers out, with weights and uncertainties."""
