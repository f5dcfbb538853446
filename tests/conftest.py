"""Fixtures and paths shared by the tests."""

import os
from pathlib import Path

import pytest

# One thread a test, as one thread a job: many small networks are trained side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Snakemake loads all its executors, and HTCondor's library warns where it has no configuration.
os.environ.setdefault("CONDOR_CONFIG", os.devnull)

REFERENCE = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def reference():
    """The folder of real input files; the test is skipped where it is absent."""
    if not REFERENCE.is_dir():
        pytest.skip(f"no reference inputs at {REFERENCE}")
    return REFERENCE
