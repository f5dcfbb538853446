"""Jobs, Snakemake and nodes are killed, the disk fills up: one plain run later every product is as it should be."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..workflow.conftest import finished  # noqa: F401 - a fixture

SCRIPT = Path(__file__).with_name("faults.py")
SKIPPED = 77


def torment(*arguments):
    """What the script said, and how many faults hit."""
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout + done.stderr
    return int(re.search(r"^(\d+) faults", done.stdout, re.MULTILINE)[1])


@pytest.mark.slow
def test_products_survive_fifty_faults(finished):  # noqa: F811 - the fixture
    assert torment("--faults", 50, "--reference", finished.root / "results") == 50


@pytest.mark.slow
def test_products_survive_lost_nodes():
    assert torment("samples", "--faults", 8, "--executor", "slurm") == 8
