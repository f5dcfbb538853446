"""Fixtures and paths shared by the tests."""

import os
from pathlib import Path

import pytest
from filelock import FileLock

from .project import Project, copy_code

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


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A project whose run has finished, with its report; do not change it. All test processes share one."""
    folder = tmp_path_factory.getbasetemp()
    project = Project((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "finished")
    with FileLock(f"{project.root}.lock"):
        if not (project.root / "results/report.html").exists():
            copy_code(project.root)
            project.snakemake("--report-after-run", "--report", "results/report.html")
    return project


@pytest.fixture
def empty(tmp_path) -> Project:
    """A project in which nothing was run."""
    project = Project(tmp_path / "empty")
    copy_code(project.root)
    return project
