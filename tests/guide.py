"""The settings of the guide for editors, and the programs that they are for."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from checkout import ROOT

USUAL_ADDRESS = "http://127.0.0.1:8012"
USUAL_MODEL = "/path/to/starcoder_run/model"
PLUGINS = os.environ.get("STARCODER_PLUGINS", "")
"""A folder with clones of plugins of editors, which are in none of the registries that we install from."""


def settings(heading, language, address=USUAL_ADDRESS, model=USUAL_MODEL):
    """The one block of the guide under a heading, in a language, with another address and model in it."""
    text = (ROOT / "docs/how-to/editors.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    given = block.replace(USUAL_ADDRESS, address).replace(USUAL_MODEL, str(model))
    assert "/path/to" not in given or str(model) == USUAL_MODEL
    return given


def plugin(name):
    """The folder of a plugin, or a reason to skip a test."""
    folder = Path(PLUGINS) / name
    if not PLUGINS or not folder.is_dir():
        pytest.skip(f"{name} is in no registry: clone it into a folder that STARCODER_PLUGINS names")
    return folder


def program(name):
    """The path of a program. If it is missing, the test is skipped, or fails where all programs must be there."""
    found = shutil.which(name, path=os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])))
    return found or cannot(f"{name} is not installed")


def cannot(reason):
    """End a test that cannot run here: as a failure with `STARCODER_REQUIRE_EDITORS` in the environment."""
    (pytest.fail if os.environ.get("STARCODER_REQUIRE_EDITORS") else pytest.skip)(reason)
