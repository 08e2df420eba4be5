"""How a command runs, never what a dataset is: flag, then STARCODER_* environment, then git config, then default.

Only the user's own git config is asked (`git config --global starcoder.jobs 4`): the repository that is read is data.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Literal, cast

from git_starcoder import user_paths
from git_starcoder.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_CACHE_MEGABYTES = 2048
"""Megabytes that the cache keeps unless told otherwise."""
Color = Literal["auto", "always", "never"]


def jobs(flag: int | None = None) -> int | None:
    """Worker processes to use; None leaves the choice to the engine.

    Raises:
        UsageError: the environment or the git config holds something else than a whole number above 0.
    """
    if flag is not None:
        return flag
    text, where = _configured("jobs")
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
    text, where = _configured("color")
    if text and text not in {"auto", "always", "never"}:
        raise UsageError(f"'{text}' is not a choice of colour", where=where, hint="auto, always or never")
    return cast("Color", text or "auto")


def cache_folder() -> Path | None:
    """The folder of the cache; None for `off` in the environment or the git config.

    A relative XDG_CACHE_HOME is passed over, as the XDG Base Directory Specification says.

    Raises:
        UsageError: nothing says where it is and no home folder is known, or it is relative and the current folder gone.
    """
    text, _ = _configured("cache")
    if text:
        return None if text == "off" else user_paths.require_reachable(user_paths.expand_user(text))
    folder = user_paths.expand_user(os.environ.get("XDG_CACHE_HOME", ""))
    if not folder.is_absolute():
        home = user_paths.home_folder()
        if home is None:
            raise UsageError("no home folder is known", where="HOME", hint="STARCODER_CACHE may name a folder")
        folder = home / ".cache"
    return folder / "git-starcoder"


def cache_limit_bytes() -> int:
    """Bytes that the cache may keep.

    Raises:
        UsageError: the environment or the git config holds something else than a whole number of megabytes.
    """
    text, where = _configured("cachesize")
    if text and not (text.isascii() and text.isdecimal()):
        raise UsageError(f"'{text}' is not a size in megabytes", where=where, hint="a whole number from 0")
    return int(text or DEFAULT_CACHE_MEGABYTES) << 20


def _configured(name: str) -> tuple[str, str]:
    """What the environment or the user's git config says about a setting, and where."""
    variable = f"STARCODER_{name.upper()}"
    if text := os.environ.get(variable):
        return text, variable
    # From the root folder and without GIT_*: git must not even look at the repository that the user stands in.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "config", "--global", "--get", f"starcoder.{name}"]
    try:
        done = subprocess.run(
            command, cwd="/", env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError:  # no git, or no process can be started: whoever needs one says so
        return "", ""
    return os.fsdecode(done.stdout).strip(), f"git config --global starcoder.{name}"
