"""Unfolding: correct a measured sample for the detector with simulated truth-reco pairs."""
