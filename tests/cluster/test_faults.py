"""Jobs, Snakemake and nodes are killed, the disk fills up: one plain run later every product is as it should be."""

import re
import subprocess
import sys

import pytest

from ..project import ROOT
from .faults import SKIPPED


def torment(*arguments):
    """What the script said, and how many faults hit."""
    command = [sys.executable, "-m", "tests.cluster.faults", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    return int(re.search(r"^(\d+) faults", done.stdout, re.MULTILINE)[1])


@pytest.mark.slow
def test_products_survive_fifty_faults(finished):
    assert torment("--faults", 50, "--reference", finished.root / "results") == 50


@pytest.mark.slow
def test_products_survive_lost_nodes():
    assert torment("samples", "--faults", 8, "--executor", "slurm") == 8
