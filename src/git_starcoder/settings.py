"""How a command runs, never what a dataset is: flag, then STARCODER_* environment, then git config, then default.

Only the user's own git config is asked (`git config --global starcoder.jobs 4`): the repository that is read is data.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Literal, cast

from git_starcoder.errors import UsageError

CACHE_SIZE = 2048
"""Megabytes that the cache keeps unless told otherwise."""
Color = Literal["auto", "always", "never"]


def jobs(flag: int | None = None) -> int | None:
    """Worker processes to use; None leaves the choice to the engine.

    Raises:
        UsageError: the environment or the git config holds something else than a whole number above 0.
    """
    if flag is not None:
        return flag
    text, where = _said("jobs")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise UsageError(f"'{text}' is not a number of jobs", where=where, hint="a whole number from 1")
    return int(text)


def color(flag: Color | None = None) -> Color:
    """Whether to colour: `auto` follows the terminal.

    Raises:
        UsageError: the environment or the git config holds an unknown word.
    """
    if flag is not None:
        return flag
    text, where = _said("color")
    if text and text not in {"auto", "always", "never"}:
        raise UsageError(f"'{text}' is not a choice of colour", where=where, hint="auto, always or never")
    return cast("Color", text or "auto")


def cache(*, wanted: bool = True) -> Path | None:
    """The folder of the cache; None for no cache. `off` in the environment or the git config means none, too."""
    text, _ = _said("cache") if wanted else ("off", "")
    if text == "off":
        return None
    return Path(text) if text else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "git-starcoder"


def cache_limit() -> int:
    """Bytes that the cache may keep.

    Raises:
        UsageError: the environment or the git config holds something else than a whole number of megabytes.
    """
    text, where = _said("cachesize")
    if text and not (text.isascii() and text.isdecimal()):
        raise UsageError(f"'{text}' is not a size in megabytes", where=where, hint="a whole number from 0")
    return int(text or CACHE_SIZE) << 20


def _said(name: str) -> tuple[str, str]:
    """What the environment or the user's git config says about a setting, and where."""
    variable = f"STARCODER_{name.upper()}"
    if text := os.environ.get(variable):
        return text, variable
    # From the root folder and without GIT_*: git must not even look at the repository that the user stands in.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "config", "--global", "--get", f"starcoder.{name}"]
    try:
        done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # no git: whoever needs it says so
        return "", ""
    return done.stdout.strip(), f"git config --global starcoder.{name}"
