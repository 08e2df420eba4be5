"""Matplotlib, which keeps a cache of fonts in a folder of the user's and says so in many words where it cannot."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from importlib import import_module
from pathlib import Path

from git_starcoder.errors import MissingExtraError
from git_starcoder.user_paths import home_folder, temporary_folder

XDG = ("XDG_CONFIG_HOME", "XDG_CACHE_HOME")


def require(extra: str) -> None:
    """Load matplotlib, quietly, with a folder for its cache.

    Raises:
        MissingExtraError: it is not installed; it belongs to an extra.
        MachineError: it cannot be loaded, or there is no folder for temporary files.
    """
    place = temporary_folder()  # where its cache goes if the home folder cannot be written
    if "MPLCONFIGDIR" not in os.environ and (home_folder() is None or any(map(_is_relative, XDG))):
        os.environ["MPLCONFIGDIR"] = folder = tempfile.mkdtemp(prefix="git-starcoder-", dir=place)
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    try:
        import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, error.name or "matplotlib", extra) from error


def _is_relative(name: str) -> bool:
    """Whether a variable names a folder that matplotlib would make below the current one: maybe the repository."""
    said = os.environ.get(name)
    return said is not None and not Path(said).is_absolute()
