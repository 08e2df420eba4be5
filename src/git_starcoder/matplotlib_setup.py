"""Loads matplotlib, quietly and with a folder for its font cache."""

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


def require_matplotlib(extra: str) -> None:
    """Loads matplotlib. Its font cache goes to a temporary folder where the user's cache folder cannot be used.

    Args:
        extra: The extra of this package that needs matplotlib, for the error message.

    Raises:
        MissingExtraError: matplotlib is not installed.
        MachineError: It cannot be loaded, or there is no folder for temporary files.
    """
    folder = temporary_folder()  # also makes sure that matplotlib itself finds a temporary folder
    has_relative_folder = any(map(_is_relative_folder, ("XDG_CONFIG_HOME", "XDG_CACHE_HOME")))
    if "MPLCONFIGDIR" not in os.environ and (home_folder() is None or has_relative_folder):
        os.environ["MPLCONFIGDIR"] = cache = tempfile.mkdtemp(prefix="git-starcoder-", dir=folder)
        atexit.register(shutil.rmtree, cache, ignore_errors=True)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns at length where it cannot write its cache
    try:
        import_module("matplotlib.figure")
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, error.name or "matplotlib", extra) from error


def _is_relative_folder(variable: str) -> bool:
    """Whether an environment variable has a relative path: it leads into the current folder, maybe a repository."""
    value = os.environ.get(variable)
    return value is not None and not Path(value).is_absolute()
