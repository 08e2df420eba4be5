"""Output of a command: the result goes to standard output, messages and progress to standard error.

Control characters are written out, because texts and names from a repository could otherwise command the terminal.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from git_starcoder.errors import ExitCode
from git_starcoder.protocols import NO_PROGRESS
from git_starcoder.text.visible import escape_surrogates, escape_unsafe

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from git_starcoder import settings
    from git_starcoder.protocols import Progress


@dataclass(frozen=True, slots=True)
class Console:
    """Prints the output of one command in the way that the user's flags request."""

    verb: str
    quiet: bool = False
    verbose: bool = False
    as_json: bool = False
    color: settings.Color = "auto"

    def answer(
        self,
        values: Mapping[str, Any],
        text: str,
        code: ExitCode = ExitCode.SUCCESS,
        *,
        exact: bool = False,
        styled: bool = False,
    ) -> ExitCode:
        """Prints the result of the command and returns `code`.

        Args:
            values: The result for `--json`.
            text: The result for a person.
            code: The exit code of the command.
            exact: Whether a pipe or file gets the text unchanged: control characters stay, no newline is added.
            styled: Whether the text is made of parts that `style` returned, which are already safe for a terminal.
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
        from git_starcoder.cli.progress import ProgressBars, ProgressLines

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


def use_color(choice: settings.Color, stream: TextIO) -> bool:
    """Whether to write colours to a stream; `auto` follows `NO_COLOR`, `FORCE_COLOR`, `TERM` and the stream."""
    if choice != "auto" or os.environ.get("NO_COLOR"):
        return choice == "always"
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


def align_columns(rows: Sequence[Sequence[str]], *, text_columns: int = 1) -> list[str]:
    """Lines of a table: the first `text_columns` columns are aligned to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            f"{cell:{'<' if index < text_columns else '>'}{width}}"
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
