"""What `import git_starcoder` offers, and what it costs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import git_starcoder
from git_starcoder.cli import COMMANDS
from toy import code_base


def test_every_public_name_is_there_and_sorted():
    assert git_starcoder.__all__ == sorted(git_starcoder.__all__, key=lambda name: (name.islower(), name))
    for name in git_starcoder.__all__:
        assert getattr(git_starcoder, name).__doc__, name
    assert dir(git_starcoder) == git_starcoder.__all__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'buidl'"):
        _ = git_starcoder.buidl


def ask(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_the_import_is_light():
    assert ask("import sys, git_starcoder; print({'numpy', 'click', 'yaml', 'torch'} & set(sys.modules))") == "set()"


def test_build_is_the_function_whatever_was_imported_before():
    one = "from git_starcoder import build; print(build.__name__, callable(build))"
    other = "from git_starcoder.pipeline import build as function; " + one
    assert ask(one) == ask(other) == "build True"


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "git_starcoder", "bild"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: 'bild' is not a command")


README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_example_of_the_readme_runs(repo_maker, monkeypatch):
    repo = repo_maker(code_base(12))
    monkeypatch.chdir(repo)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(code, {})
    assert (repo / "dataset" / "manifest.json").is_file()


def test_the_readme_names_every_command():
    assert [name for name in COMMANDS if f"git starcoder {name}" not in README] == []
