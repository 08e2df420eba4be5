"""How a command speaks: stdout is the answer, stderr is the talk, and nothing reaches a terminal unsanitised."""

from __future__ import annotations

import functools
import json
import os
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from git_starcoder import machine, settings
from git_starcoder.errors import ExitCode
from git_starcoder.protocols import NO_PROGRESS
from git_starcoder.text.visible import escape_line, escape_surrogates, escape_unsafe

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from git_starcoder.errors import StarcoderError
    from git_starcoder.protocols import Progress


LIGHT = {"recipe", "show", "doctor"}
"""Verbs that do not load what takes much of the machine, or say themselves what it lacks."""


def schema(verb: str) -> str:
    """The name of what `--json` prints; the number grows when the meaning of a key changes."""
    return f"git-starcoder/{verb}/1"


def as_json(values: Mapping[str, Any], indent: int | None = None) -> str:
    """Values as JSON that every program reads: names that are not UTF-8 are written out."""
    return json.dumps(_encodable(values), indent=indent)


def _encodable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_encodable(key): _encodable(each) for key, each in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_encodable(each) for each in cast("list[Any]", value)]
    return value if isinstance(value, int | float | bool | None) else escape_surrogates(str(value))


@dataclass(frozen=True, slots=True)
class Talk:
    """One command speaking."""

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
        """Print the answer, for a program or for a person; gives back `code`, to return from the command.

        An `exact` text goes into a pipe or a file as it is, without a newline of ours. All of a `styled` text went
        through `style`.
        """
        if self.as_json:
            click.echo(as_json({"schema": schema(self.verb), "exit": int(code), **values}))
        elif exact and not sys.stdout.isatty():
            click.echo(text, nl=False)
        elif styled:
            click.echo(text, color=coloured(self.color, sys.stdout))
        else:
            click.echo(escape_unsafe(text))
        return code

    def style(self, text: str, **style: Any) -> str:
        """The text made safe for a terminal, in the style of `click.style` if there is colour."""
        return click.style(escape_unsafe(text), **style) if coloured(self.color, sys.stdout) else escape_unsafe(text)

    def part(self, text: str) -> None:
        """A part of a long answer, told when it is known and followed by an empty line; `--json` waits for all."""
        if not self.as_json:
            click.echo(escape_unsafe(text) + "\n")

    def tell(self, text: str) -> None:
        """A line for the person at the terminal."""
        if not self.quiet:
            click.echo(escape_unsafe(text), err=True)

    @contextmanager
    def watch(self) -> Generator[Progress]:
        """Who is told how the work goes: bars on a terminal, else a plain line for each step, else nobody."""
        from git_starcoder.cli.progress import Live, Plain

        if self.quiet:
            yield NO_PROGRESS
        elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
            with Live(self) as live:
                yield live
        else:
            yield Plain(self)


def coloured(choice: settings.Color, stream: TextIO) -> bool:
    """Whether to write colours to a stream; `NO_COLOR`, `FORCE_COLOR` and `TERM=dumb` are heard under `auto`."""
    if choice != "auto" or os.environ.get("NO_COLOR"):
        return choice == "always"
    return bool(os.environ.get("FORCE_COLOR")) or (stream.isatty() and os.environ.get("TERM") != "dumb")


def complain(error: StarcoderError, verb: str, *, in_json: bool, code: ExitCode) -> None:
    """Tell what went wrong, in git's way; with `--json` also as the one object on stdout."""
    if in_json:
        what = {"kind": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint}
        with suppress(OSError):  # it may be standard output that is full
            click.echo(as_json({"schema": schema(verb), "exit": int(code), "error": what}))
    colour = coloured("auto", sys.stderr)
    lines = [(click.style("error:", fg="red", bold=True), escape_line(error.what))]
    if error.where:
        lines.append(("  in", escape_line(error.where)))
    if error.hint:
        lines.append((click.style("hint:", fg="yellow"), escape_line(error.hint)))
    for word, line in lines:
        click.echo(f"{word} {line}", err=True, color=colour)


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command -q, -v, --json and --color, and hand it a `Talk` first."""

    @click.option("-q", "--quiet", is_flag=True, help="Say nothing but the answer.")
    @click.option("-v", "--verbose", is_flag=True, help="Say more, such as every reason for a drop.")
    @click.option("--json", "as_json", is_flag=True, help="Answer with one JSON object.")
    @click.option("--color", type=click.Choice(["auto", "always", "never"]), help="Colour (default: auto).")
    @click.pass_context
    @functools.wraps(function)
    def wrapped(
        context: click.Context,
        *arguments: Any,
        quiet: bool,
        verbose: bool,
        as_json: bool,
        color: settings.Color | None,
        **options: Any,
    ) -> Any:
        verb = context.command_path.removeprefix("git starcoder ").partition(" ")[0]
        talk = Talk(verb, quiet, verbose, as_json, settings.color(color))
        if verb not in LIGHT:
            machine.require_resources()
        return function(talk, *arguments, **options)

    return wrapped
