"""The tables that the benchmark of the joins makes are like those of real repositories, and forks are found in them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from git_starcoder.engine.local import LocalEngine
from git_starcoder.many.build import build_many
from git_starcoder.many.tasks import RepositorySource
from git_starcoder.recipe import Recipe
from shell import HUNG, SMALL
from toy import code_base

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "join.py"


@pytest.fixture(scope="module")
def work(repo_maker, tmp_path_factory):
    """The work folder of two repositories."""
    folder = tmp_path_factory.mktemp("work")
    sources = [RepositorySource(repo_maker(code_base(12, start)), name=f"r{start}") for start in (0, 500)]
    with LocalEngine(1) as engine:
        build_many(sources, Recipe.load("natural", SMALL[1::2]), folder / "out", engine=engine, work=folder / "work")
    return folder / "work"


def found(work, forks):
    command = [sys.executable, SCRIPT, work, "--repositories", "20", "--forks", forks]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=HUNG)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_forks_are_found_and_nothing_else(work):
    files, rows = found(work, "0")
    assert (files["repositories"], files["join"], rows["join"]) == (20, "files", "rows")
    assert (files["figures"]["equal_texts"], rows["dropped"]) == (0, 0)
    forks, rows_of_forks = found(work, "1")
    assert forks["files"] == files["files"]
    assert forks["figures"]["equal_texts"] > 0.8 * files["files"]
    assert rows_of_forks["dropped"] > 0.8 * rows["rows"]
    assert forks["figures"]["groups"] < files["figures"]["groups"] / 5
