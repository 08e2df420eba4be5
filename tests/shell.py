"""What the tests of the command line share: a recipe that builds in a second, and an environment with our command."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HUNG = 600.0
"""Seconds after which a command counts as hung, however busy the machine is."""
SMALL = ("--set", "window.size=64", "--set", "window.vocab_size=600")


def environment(**changes: str) -> dict[str, str]:
    """The environment in which git finds `git-starcoder`."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**os.environ, "PATH": path, **changes}
