"""What `import git_starcoder` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import git_starcoder


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
    other = "from git_starcoder.build import build as function; " + one
    assert ask(one) == ask(other) == "build True"


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "git_starcoder", "bild"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: 'bild' is not a command")
