"""The command line through the real `git starcoder`, as a user types it."""

from __future__ import annotations

import subprocess

import pytest

from shell import environment
from toy import code_base


@pytest.fixture
def starcoder(tmp_path):
    """Run `git starcoder …` in an empty folder; gives the finished process with stdout and stderr as text."""
    folder = tmp_path / "here"
    folder.mkdir()

    def run(*arguments, cwd=folder, env=None, **options):
        command = ["git", "starcoder", *map(str, arguments)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run(command, cwd=cwd, env=environment(**(env or {})), text=True, check=False, **options)

    run.place = folder
    return run


@pytest.fixture(scope="session")
def repo(repo_maker):
    return repo_maker(code_base(60))
