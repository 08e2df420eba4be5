"""The command line through the real `git starcoder`, as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toy import code_base

SMALL = ("--set", "window.size=64", "--set", "window.vocab_size=600")
"""A recipe that builds in a second."""


def environment(**changes: str) -> dict[str, str]:
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**os.environ, "PATH": path, **changes}


@pytest.fixture
def starcoder(tmp_path):
    """Run `git starcoder …` in an empty folder; gives the finished process with stdout and stderr as text."""
    place = tmp_path / "here"
    place.mkdir()

    def run(*arguments, cwd=place, env=None, **options):
        command = ["git", "starcoder", *map(str, arguments)]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run(command, cwd=cwd, env=environment(**(env or {})), text=True, check=False, **options)

    run.place = place
    return run


@pytest.fixture(scope="session")
def repo(repo_maker):
    return repo_maker(code_base(60))
