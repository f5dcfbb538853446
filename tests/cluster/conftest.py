"""A real Slurm of two nodes, where it can be had."""

import pytest

from .slurm import Slurm, Unavailable


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A Slurm of two nodes with two CPUs each; tests are skipped where there can be none."""
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
    except Unavailable as reason:
        pytest.skip(f"no Slurm: {reason}")
    yield cluster
    cluster.stop()
