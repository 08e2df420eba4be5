"""What went wrong, as its user should hear it, and the exit code."""

from __future__ import annotations

import errno
import os
import tempfile
import traceback
from typing import TYPE_CHECKING

import click

from git_starcoder.cli import NAME
from git_starcoder.cli.talk import complain
from git_starcoder.errors import ExitCode, MachineError, OutputError, StarcoderError, UsageError, as_machine_error
from git_starcoder.user_paths import CURRENT_FOLDER_GONE, current_folder, temporary_folder

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["complain", "told"]
HEARD = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG,
         errno.EIO}  # fmt: skip
"""What the operating system refuses for reasons that are the user's to mend."""


def told(error: BaseException) -> tuple[StarcoderError, ExitCode]:
    """The error as its user should hear it, and the exit code."""
    if isinstance(error, StarcoderError):
        if (
            current_folder() is None and CURRENT_FOLDER_GONE not in error.what
        ):  # a relative path in a recipe, for example
            error.hint = f"{CURRENT_FOLDER_GONE}; {error.hint}".removesuffix("; ")
        return error, ExitCode.USAGE_ERROR
    if isinstance(error, click.ClickException):
        return _of_click(error), ExitCode.USAGE_ERROR
    if isinstance(error, OSError) and error.errno in HEARD:
        reason = (error.strerror or "refused").lower()
        return OutputError(reason, where=_named(error)), ExitCode.USAGE_ERROR
    if isinstance(error, FileNotFoundError) and current_folder() is None:
        return UsageError(
            CURRENT_FOLDER_GONE, where=_named(error), hint="go to a folder that is there"
        ), ExitCode.USAGE_ERROR
    if limit := as_machine_error(error):
        return limit, ExitCode.USAGE_ERROR
    if isinstance(error, ModuleNotFoundError):
        hint = "pip install --force-reinstall git-starcoder"
        return MachineError(f"{error.name} is not installed", hint=hint), ExitCode.USAGE_ERROR
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = f"a bug in git-starcoder: {type(error).__name__}: {error}"
    return StarcoderError(what, where=f"{place.filename}:{place.lineno}", hint=_logged(error)), ExitCode.BUG


def _of_click(error: click.ClickException) -> UsageError:
    """Wrong use of the command line."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else NAME
    what = error.message or error.format_message()
    close = getattr(error, "possibilities", None)
    hint = f"did you mean '{close[0]}'?" if close else f"`{path} -h` shows how"
    return UsageError(what[:1].lower() + what[1:].rstrip("."), where=path, hint=hint)


def _named(error: OSError) -> str:
    name: str | bytes | Path | int | None = error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else "writing the output"


def _logged(error: BaseException) -> str:
    """Where the traceback is: in a file, if one can be made."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=temporary_folder(), prefix="git-starcoder-", suffix=".log", delete=False, errors="backslashreplace"
        ) as log:
            log.writelines(traceback.format_exception(error))
    except (OSError, MachineError):
        return "STARCODER_TRACEBACK=1 shows the traceback"
    return f"the traceback is in {log.name}; STARCODER_TRACEBACK=1 shows it"
