"""Reads settings of how commands run: from a flag, else STARCODER_* variables, else the git config, else a default.

They never change the bytes of a dataset. Only the user's own git config is read (`git config --global starcoder.jobs
4`), never that of the repository, which is untrusted.
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
"""Default size limit of the cache, in megabytes."""
Color = Literal["auto", "always", "never"]


def jobs(flag: int | None = None) -> int | None:
    """The number of worker processes; None leaves the choice to the engine.

    Raises:
        UsageError: the environment or the git config has something other than a whole number above 0.
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
    """Whether output is coloured; `auto` colours on a terminal only.

    Raises:
        UsageError: the environment or the git config has an unknown word.
    """
    if flag is not None:
        return flag
    text, where = _configured("color")
    if text and text not in {"auto", "always", "never"}:
        raise UsageError(f"'{text}' is not a choice of colour", where=where, hint="auto, always or never")
    return cast("Color", text or "auto")


def cache_folder() -> Path | None:
    """The folder of the cache; None if the environment or the git config says `off`.

    A relative XDG_CACHE_HOME is ignored, as the XDG Base Directory Specification demands.

    Raises:
        UsageError: no folder is configured and no home folder is known, or the folder is relative and the current
            folder was deleted.
    """
    text, _ = _configured("cache")
    if text:
        return None if text == "off" else user_paths.require_reachable(user_paths.expand_user(text))
    folder = user_paths.expand_user(os.environ.get("XDG_CACHE_HOME", ""))
    if not folder.is_absolute():
        home = user_paths.home_folder()
        if home is None:
            raise UsageError("no home folder is known", where="HOME", hint="set STARCODER_CACHE to a folder, or to off")
        folder = home / ".cache"
    return folder / "git-starcoder"


def cache_limit_bytes() -> int:
    """The size limit of the cache, in bytes.

    Raises:
        UsageError: the environment or the git config has something other than a whole number of megabytes.
    """
    text, where = _configured("cachesize")
    if text and not (text.isascii() and text.isdecimal()):
        raise UsageError(f"'{text}' is not a size in megabytes", where=where, hint="a whole number from 0")
    return int(text or DEFAULT_CACHE_MEGABYTES) << 20


def _configured(name: str) -> tuple[str, str]:
    """The text of a setting in the environment or in the user's git config, and its place; empty if it is not set."""
    variable = f"STARCODER_{name.upper()}"
    if text := os.environ.get(variable):
        return text, variable
    # From the root folder and without GIT_*, so that git does not read the repository of the current folder.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "config", "--global", "--get", f"starcoder.{name}"]
    try:
        done = subprocess.run(
            command, cwd="/", env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError:  # no git, or no more processes: code that needs them reports it
        return "", ""
    return os.fsdecode(done.stdout).strip(), f"git config --global starcoder.{name}"
