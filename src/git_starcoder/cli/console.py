"""Output of a command: the result goes to standard output, messages, progress and errors to standard error.

Control characters are written out, because texts and names from a repository could otherwise command the terminal.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self, TextIO, cast

import click

from git_starcoder.cli import PROGRAM_NAME
from git_starcoder.errors import ExitCode, MachineError, OutputError, StarcoderError, UsageError, as_machine_error
from git_starcoder.protocols import NO_PROGRESS, Progress
from git_starcoder.text.visible import escape_line, escape_surrogates, escape_unsafe
from git_starcoder.user_paths import CURRENT_FOLDER_GONE, current_folder, temporary_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence


Color = Literal["auto", "always", "never"]
MAX_REASONS = 3
"""The number of reasons for drops that a line names without --verbose."""
REDRAW_SECONDS = 0.05
"""The minimum time between two updates of a bar: more than an eye can see would cost time."""
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

    @contextmanager
    def show_progress(self) -> Generator[Progress]:
        """Shows progress: bars in a terminal, otherwise a line per step; nothing with `--quiet`."""
        if self.quiet:
            yield NO_PROGRESS
        elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            with ProgressBars(self) as bars:
                yield bars
        else:
            yield ProgressLines(self)


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


def step_line(step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int], *, verbose: bool) -> str:
    """The line of a finished step: `read  2,643 seen  2,401 kept  242 dropped (binary 120, …)  0.4 s`."""
    parts = [f"{step:8}", f"{seen:,} seen"]
    if dropped:
        parts += [f"{kept:,} kept", f"{seen - kept:,} dropped ({drop_reasons(dropped, verbose=verbose)})"]
    return "  ".join((*parts, f"{seconds:.1f} s"))


def drop_reasons(dropped: Mapping[str, int], *, verbose: bool) -> str:
    """The reasons for drops with their counts, largest first; without `verbose` only the first few."""
    reasons = [f"{reason} {count:,}" for reason, count in sorted(dropped.items(), key=lambda item: (-item[1], item[0]))]
    return ", ".join(reasons if verbose or len(reasons) <= MAX_REASONS else [*reasons[:MAX_REASONS], "…"])


class ProgressLines(Progress):
    """Prints one line per step when the step ends."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def end(self, step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int]) -> None:
        """Prints the line of the step."""
        self.note(step_line(step, seconds, seen, kept, dropped, verbose=self._console.verbose))

    def note(self, text: str) -> None:
        """Prints a line."""
        self._console.print_message(text)


class ProgressBars(ProgressLines):
    """Shows a bar for the current step, below the lines of the finished ones. Only for terminals."""

    def __init__(self, console: Console) -> None:
        import rich.console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        super().__init__(console)
        no_color = not use_color(console.color, sys.stderr)
        self._terminal = rich.console.Console(stderr=True, no_color=no_color, highlight=False)
        columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=self._terminal, transient=True)
        self._task = self._progress.add_task("", visible=False)
        self._undrawn_count = 0
        self._last_drawn = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, step: str, total: int | None) -> None:
        """Shows the bar of a step."""
        self._undrawn_count = 0
        self._progress.remove_task(self._task)  # reset() would keep the previous total if this one is unknown
        self._task = self._progress.add_task(step, total=total)

    def advance(self, count: int) -> None:
        """Moves the bar."""
        self._undrawn_count += count
        now = time.monotonic()
        if now - self._last_drawn >= REDRAW_SECONDS:
            self._progress.advance(self._task, self._undrawn_count)
            self._undrawn_count, self._last_drawn = 0, now

    def end(self, step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int]) -> None:
        """Replaces the bar by the line of the step."""
        self._progress.update(self._task, visible=False)
        super().end(step, seconds, seen, kept, dropped)

    def note(self, text: str) -> None:
        """Prints a line above the bar."""
        self._terminal.print(escape_unsafe(text), markup=False, soft_wrap=True)


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
        what = error.message or error.format_message()
        similar = getattr(error, "possibilities", None)
        hint = f"did you mean '{similar[0]}'?" if similar else f"see `{path} -h`"
        return UsageError(what[:1].lower() + what[1:].rstrip("."), where=path, hint=hint)
    if isinstance(error, OSError):
        is_path = isinstance(error.filename, str | bytes | os.PathLike)
        where = os.fsdecode(error.filename) if is_path else "writing the output"
        if error.errno in USER_ERRNOS:
            return OutputError((error.strerror or "refused").lower(), where=where)
        if isinstance(error, FileNotFoundError) and current_folder() is None:
            return UsageError(CURRENT_FOLDER_GONE, where=where, hint="change to a folder that exists")
    if isinstance(error, ModuleNotFoundError):
        return MachineError(f"{error.name} is not installed", hint="pip install --force-reinstall git-starcoder")
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
