"""Projects in which a tiny run of everything has finished."""

import shutil

import pytest

from ..project import Project


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A copy of the finished project to be changed at will."""
    root = tmp_path / "project"
    shutil.copytree(finished.root, root, symlinks=True)
    return Project(root)
