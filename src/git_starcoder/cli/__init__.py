"""The command line, `git starcoder <verb>`: one file per verb, loaded when it is asked for.

This is the only place that turns what happened into an exit code: 0 fine, 1 a check found something, 2 wrong use or
input, 70 our bug, 130 interrupted, 141 broken pipe.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import tempfile
import traceback
from importlib import import_module
from typing import Any

import click

from git_starcoder import shelf
from git_starcoder.cli.talk import complain
from git_starcoder.errors import ExitCode, OutputError, StarcoderError, UsageError

COMMANDS = ("run", "build", "check", "show", "report", "train", "eval", "complete", "recipe", "doctor")
NAME = "git starcoder"
HEARD = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG}
"""What the operating system refuses for reasons that are the user's to mend."""


class Verbs(click.Group):
    """Commands by their file's name."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All verbs, in the order in which one meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command in the file of that name."""
        return import_module(f"git_starcoder.cli.{cmd_name}").command if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb, or an error that names the nearest one."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = f"{shelf.nearest(args[0], list(COMMANDS))} `{NAME} -h` shows all"
            raise UsageError(f"'{args[0]}' is not a command", where=NAME, hint=hint)
        return super().resolve_command(ctx, args)


@click.group(
    NAME,
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 fine, 1 a check found something, 2 wrong use or input, 70 a bug of ours, 130 interrupted, "
    "141 broken pipe.",
)
@click.version_option(package_name="git-starcoder", prog_name=NAME, message="%(prog)s %(version)s")
def group() -> None:
    """Turn a Git repository into a leak-free training dataset and a small code model that knows it.

    `git starcoder run` does all of it; `git starcoder COMMAND -h` explains a command.
    """


def main(arguments: list[str] | None = None, command: click.Command = group) -> int:
    """Run a command, by default of all verbs, and give its exit code; never raises an `Exception`."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that is not UTF-8 gets escapes, not a traceback
            stream.reconfigure(errors="backslashreplace")
    try:
        return _ended(arguments, command)
    except BrokenPipeError:
        return ExitCode.BROKEN_PIPE
    finally:
        _let_go()


def _let_go() -> None:
    """Give up what nobody can read any more: the interpreter must not fail when it flushes once again at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _ended(arguments: list[str], command: click.Command) -> int:
    try:
        code = _invoke(list(arguments), command)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the one place where everything ends
        if os.environ.get("STARCODER_TRACEBACK"):
            traceback.print_exception(error)
        told, code = _told(error)
        verb = next((word for word in arguments if word in COMMANDS), "starcoder")
        complain(told, verb, as_json="--json" in arguments, code=code)
    return code


def _invoke(arguments: list[str], command: click.Command) -> int:
    # Not command.main(): it swallows interrupts and broken pipes in its own way.
    try:
        with command.make_context(command.name, arguments) as context:
            code: Any = command.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as alone:
        click.echo(alone.format_message(), err=True)
        return ExitCode.USAGE
    return code or ExitCode.FINE


def _told(error: Exception) -> tuple[StarcoderError, ExitCode]:
    """The error as its user should hear it, and the exit code."""
    if isinstance(error, StarcoderError):
        return error, ExitCode.USAGE
    if isinstance(error, click.UsageError):
        path = error.ctx.command_path if error.ctx else NAME
        what = error.message or error.format_message()
        close = getattr(error, "possibilities", None)
        hint = f"did you mean '{close[0]}'?" if close else f"`{path} -h` shows how"
        return UsageError(what[:1].lower() + what[1:].rstrip("."), where=path, hint=hint), ExitCode.USAGE
    if isinstance(error, OSError) and error.errno in HEARD:
        reason = (error.strerror or "refused").lower()
        return OutputError(reason, where=str(error.filename or "writing the output")), ExitCode.USAGE
    with tempfile.NamedTemporaryFile("w", prefix="git-starcoder-", suffix=".log", delete=False) as log:
        log.writelines(traceback.format_exception(error))
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = f"a bug in git-starcoder: {type(error).__name__}: {error}"
    hint = f"the traceback is in {log.name}; STARCODER_TRACEBACK=1 shows it"
    return StarcoderError(what, where=f"{place.filename}:{place.lineno}", hint=hint), ExitCode.BUG
