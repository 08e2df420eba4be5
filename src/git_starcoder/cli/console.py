"""Output of a command: the result goes to standard output, messages and errors to standard error.

Control characters are written out, because texts and names from a repository could otherwise command the terminal.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO, cast

import click

from git_starcoder.cli import PROGRAM_NAME
from git_starcoder.errors import ExitCode, MachineError, OutputError, StarcoderError, UsageError, as_machine_error
from git_starcoder.installation import install_command
from git_starcoder.text.visible import escape_line, escape_surrogates, escape_unsafe
from git_starcoder.user_paths import CURRENT_FOLDER_GONE, current_folder, temporary_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


Color = Literal["auto", "always", "never"]
USER_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG,
               errno.EIO}  # fmt: skip
"""Errors of the operating system that the user can fix: free space, change permissions, and so on."""


@dataclass(frozen=True, slots=True)
class Console:
    """Prints the output of one command in the way that the user's flags request."""

    verb: str
    quiet: bool = False
    verbose: bool = False
    as_json: bool = False
    color: Color = "auto"

    def answer(
        self, values: Mapping[str, Any], text: str, code: ExitCode = ExitCode.SUCCESS, *, exact: bool = False,
        styled: bool = False,
    ) -> ExitCode:  # fmt: skip
        """Prints the result of the command, `values` with `--json` and otherwise `text`, and returns `code`.

        `exact` text is not changed for a pipe or file: control characters stay, no newline is added. `styled` text is
        made of parts that `style` returned, which are already safe for a terminal.
        """
        if self.as_json:
            click.echo(to_json({"schema": json_schema(self.verb), "exit": int(code), **values}))
        elif exact and not sys.stdout.isatty():
            click.echo(text, nl=False)
        elif styled:
            click.echo(text, color=use_color(self.color, sys.stdout))
        else:
            click.echo(escape_unsafe(text))
        return code

    def style(self, text: str, **style: Any) -> str:
        """The text without control characters, in a style of `click.style` if standard output has colours."""
        return click.style(escape_unsafe(text), **style) if use_color(self.color, sys.stdout) else escape_unsafe(text)

    def print_section(self, text: str) -> None:
        """Prints a section of a long result as soon as it is known. With `--json`, `answer` prints all at the end."""
        if not self.as_json:
            click.echo(escape_unsafe(text) + "\n")

    def print_message(self, text: str) -> None:
        """Prints a line to standard error."""
        if not self.quiet:
            click.echo(escape_unsafe(text), err=True)


def json_schema(verb: str) -> str:
    """The `schema` of a command's JSON output. Its number grows when the meaning of a key changes."""
    return f"git-starcoder/{verb}/1"


def to_json(values: Mapping[str, Any], indent: int | None = None) -> str:
    """Values as JSON that every program can read: file names that are not UTF-8 are escaped."""
    return json.dumps(_make_encodable(values), indent=indent)


def _make_encodable(value: Any) -> Any:
    if isinstance(value, dict):
        items = cast("dict[Any, Any]", value).items()
        return {_make_encodable(key): _make_encodable(item) for key, item in items}
    if isinstance(value, list | tuple):
        return [_make_encodable(item) for item in cast("list[Any]", value)]
    return value if isinstance(value, int | float | bool | None) else escape_surrogates(str(value))


def use_color(choice: Color, stream: TextIO) -> bool:
    """Whether to write colours to a stream; `auto` follows `NO_COLOR`, `FORCE_COLOR`, `TERM` and the stream."""
    if choice != "auto" or os.environ.get("NO_COLOR"):
        return choice == "always"
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


def align_columns(rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> list[str]:
    """Lines of a table: the first `text_columns` columns are aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    formats = [f"{'<' if index < text_columns else '>'}{width}" for index, width in enumerate(widths)]
    return ["  ".join(map(format, row, formats)).rstrip() for row in rows]


def describe_error(error: BaseException) -> tuple[StarcoderError, ExitCode]:
    """The error as the user should see it, and the exit code."""
    if user_error := _as_user_error(error):
        return user_error, ExitCode.USAGE_ERROR
    frame = traceback.extract_tb(error.__traceback__)[-1]
    what = f"a bug in git-starcoder: {type(error).__name__}: {error}"
    return StarcoderError(what, where=f"{frame.filename}:{frame.lineno}", hint=_save_traceback(error)), ExitCode.BUG


def _as_user_error(error: BaseException) -> StarcoderError | None:
    """The error if the user can fix it; None if it is a bug."""
    if isinstance(error, StarcoderError):
        # This explains, for example, that a relative path in a recipe does not exist.
        if current_folder() is None and CURRENT_FOLDER_GONE not in error.what:
            error.hint = f"{CURRENT_FOLDER_GONE}; {error.hint}".removesuffix("; ")
        return error
    if isinstance(error, click.ClickException):
        context = error.ctx if isinstance(error, click.UsageError) else None
        path = context.command_path if context else PROGRAM_NAME
        what = " ".join((error.message or error.format_message()).split())
        similar = getattr(error, "possibilities", None)
        hint = f"did you mean '{similar[0]}'?" if similar else f"see `{path} -h`"
        where = path
        if isinstance(error, click.BadParameter) and isinstance(error.param, click.Option):
            where = max(error.param.opts, key=len)
        return UsageError(what[:1].lower() + what[1:].rstrip("."), where=where, hint=hint)
    if isinstance(error, OSError):
        is_path = isinstance(error.filename, str | bytes | os.PathLike)
        where = os.fsdecode(error.filename) if is_path else "writing the output"
        if error.errno in USER_ERRNOS:
            return OutputError((error.strerror or "refused").lower(), where=where)
        if isinstance(error, FileNotFoundError) and current_folder() is None:
            return UsageError(CURRENT_FOLDER_GONE, where=where, hint="change to a folder that exists")
    if isinstance(error, ModuleNotFoundError):
        return MachineError(f"{error.name} is not installed", hint=f"{install_command()} --force-reinstall")
    return as_machine_error(error)


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


def _save_traceback(error: BaseException) -> str:
    """Writes the traceback to a temporary file if possible, and returns a hint where it is."""
    try:
        handle, path = tempfile.mkstemp(".log", "git-starcoder-", temporary_folder())
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as log:
            log.writelines(traceback.format_exception(error))
    except (OSError, MachineError):
        return "STARCODER_TRACEBACK=1 shows the traceback"
    return f"the traceback is in {path}; STARCODER_TRACEBACK=1 shows it"
