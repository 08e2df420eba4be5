"""Turns any exception into a message for the user and an exit code, and prints it in the style of git."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from git_starcoder.cli import PROGRAM_NAME
from git_starcoder.cli.console import json_schema, to_json, use_color
from git_starcoder.errors import ExitCode, MachineError, OutputError, StarcoderError, UsageError, as_machine_error
from git_starcoder.text.visible import escape_line
from git_starcoder.user_paths import CURRENT_FOLDER_GONE, current_folder, temporary_folder

if TYPE_CHECKING:
    from pathlib import Path

USER_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG,
               errno.EIO}  # fmt: skip
"""Errors of the operating system that are not bugs of ours: the user can free space, change permissions, and so on."""


def describe_error(error: BaseException) -> tuple[StarcoderError, ExitCode]:
    """The error as the user should see it, and the exit code."""
    if isinstance(error, StarcoderError):
        if (
            current_folder() is None and CURRENT_FOLDER_GONE not in error.what
        ):  # it explains, for example, a relative path in a recipe
            error.hint = f"{CURRENT_FOLDER_GONE}; {error.hint}".removesuffix("; ")
        return error, ExitCode.USAGE_ERROR
    if isinstance(error, click.ClickException):
        return _describe_usage_error(error), ExitCode.USAGE_ERROR
    if isinstance(error, OSError) and error.errno in USER_ERRNOS:
        reason = (error.strerror or "refused").lower()
        return OutputError(reason, where=_file_of(error)), ExitCode.USAGE_ERROR
    if isinstance(error, FileNotFoundError) and current_folder() is None:
        return UsageError(
            CURRENT_FOLDER_GONE, where=_file_of(error), hint="change to a folder that exists"
        ), ExitCode.USAGE_ERROR
    if limit := as_machine_error(error):
        return limit, ExitCode.USAGE_ERROR
    if isinstance(error, ModuleNotFoundError):
        hint = "pip install --force-reinstall git-starcoder"
        return MachineError(f"{error.name} is not installed", hint=hint), ExitCode.USAGE_ERROR
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = f"a bug in git-starcoder: {type(error).__name__}: {error}"
    return StarcoderError(what, where=f"{frame.filename}:{frame.lineno}", hint=_save_traceback(error)), ExitCode.BUG


def print_error(error: StarcoderError, verb: str, *, in_json: bool, code: ExitCode) -> None:
    """Prints an error to standard error, and with `in_json` also as the JSON object that the command promises."""
    if in_json:
        values = {"kind": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}
        with suppress(OSError):  # the error may be that standard output is full
            click.echo(to_json({"schema": json_schema(verb), "exit": int(code), "error": values}))
    color = use_color("auto", sys.stderr)
    click.echo(f"{click.style('error:', fg='red', bold=True)} {escape_line(error.what)}", err=True, color=color)
    if error.where:
        click.echo(f"  in {escape_line(error.where)}", err=True, color=color)
    if error.hint:
        click.echo(f"{click.style('hint:', fg='yellow')} {escape_line(error.hint)}", err=True, color=color)


def _describe_usage_error(error: click.ClickException) -> UsageError:
    context = error.ctx if isinstance(error, click.UsageError) else None
    path = context.command_path if context else PROGRAM_NAME
    what = error.message or error.format_message()
    similar = getattr(error, "possibilities", None)
    hint = f"did you mean '{similar[0]}'?" if similar else f"see `{path} -h`"
    return UsageError(what[:1].lower() + what[1:].rstrip("."), where=path, hint=hint)


def _file_of(error: OSError) -> str:
    name: str | bytes | Path | int | None = error.filename
    return os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else "writing the output"


def _save_traceback(error: BaseException) -> str:
    """Writes the traceback to a temporary file if possible, and returns a hint where it is."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=temporary_folder(), prefix="git-starcoder-", suffix=".log", delete=False, errors="backslashreplace"
        ) as log:
            log.writelines(traceback.format_exception(error))
    except (OSError, MachineError):
        return "STARCODER_TRACEBACK=1 shows the traceback"
    return f"the traceback is in {log.name}; STARCODER_TRACEBACK=1 shows it"
