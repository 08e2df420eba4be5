"""The command line, `git starcoder <verb>`: one file per verb, loaded when it is asked for.

This is the only place that turns what happened into an exit code: 0 fine, 1 a check found something, 2 wrong use or
input, 70 our bug, 130 interrupted, 141 broken pipe. Nothing is imported before `main` but what comes with Python, so
that a library that is missing or an interrupt while libraries load ends here, too: Python itself would say 1.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from git_starcoder import machine
from git_starcoder.cli import streams
from git_starcoder.errors import ExitCode

if TYPE_CHECKING:
    import click

COMMANDS = ("run", "build", "check", "show", "report", "train", "eval", "complete", "recipe", "doctor")
NAME = "git starcoder"
VERBS = "git_starcoder.cli.verbs:group"
OLDEST = (3, 11)
"""Python that this runs on."""


def main(arguments: list[str] | None = None, command: click.Command | str = VERBS) -> int:
    """Run a command, by default of all verbs, and give its exit code; never raises anything.

    A command may be named, `module:attribute`, to be imported here.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        streams.prepare()
        machine.limit_library_threads()
        return _ended(list(arguments), command)
    except BrokenPipeError:
        return ExitCode.BROKEN_PIPE
    except KeyboardInterrupt:  # a second one, while the first was answered
        return ExitCode.INTERRUPTED
    except BaseException:  # noqa: BLE001 - not even the complaint could be made
        return ExitCode.BUG
    finally:
        streams.let_go()


def _ended(arguments: list[str], command: click.Command | str) -> int:
    try:
        if sys.version_info < OLDEST:
            return _hopeless(
                f"Python {'.'.join(map(str, OLDEST))} or newer is needed, this is {sys.version.split()[0]}"
            )
        code = _invoke(arguments, command)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except BaseException as error:  # noqa: BLE001 - the one place where everything ends
        return _failed(error, arguments)
    return code


def _failed(error: BaseException, arguments: list[str]) -> int:
    """Tell what went wrong; gives the exit code."""
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":  # click's, at a prompt
        sys.stderr.write("interrupted\n")
        return ExitCode.INTERRUPTED
    try:
        from git_starcoder.cli import faults
    except ImportError:  # the command line's own libraries
        reason = f"{error.name} is not installed" if isinstance(error, ModuleNotFoundError) else str(error)
        return _hopeless(f"git-starcoder cannot be loaded by {sys.executable}: {reason}")
    if os.environ.get("STARCODER_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    told, code = faults.told(error)
    verb = next((word for word in arguments if word in COMMANDS), "starcoder")
    faults.complain(told, verb, in_json="--json" in arguments, code=code)
    return code


def _hopeless(what: str) -> int:
    """Tell why nothing works, with nothing but Python."""
    sys.stderr.write(f"error: {what}\nhint: pip install git-starcoder, or from a checkout pip install '.[train]'\n")
    return ExitCode.USAGE_ERROR


def _invoke(arguments: list[str], command: click.Command | str) -> int:
    import click

    command = _loaded(command) if isinstance(command, str) else command
    # Not command.main(): it swallows interrupts and broken pipes in its own way.
    try:
        with command.make_context(command.name, arguments) as context:
            code: Any = command.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.exceptions.NoArgsIsHelpError as alone:
        click.echo(alone.format_message(), err=True)
        return ExitCode.USAGE_ERROR
    return code or ExitCode.SUCCESS


def _loaded(name: str) -> click.Command:
    """The command that is named `module:attribute`."""
    if name != VERBS:  # verbs say themselves what they need
        machine.require_resources()
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
