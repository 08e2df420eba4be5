"""The command line `git starcoder COMMAND`: one module per command, imported when the command is used.

Only this module turns outcomes into exit codes. Before `main` runs, it imports only the standard library, so that a
missing library, or Ctrl-C while libraries load, also ends with one clear line and not with a traceback and exit code 1.
"""

from __future__ import annotations

import fcntl
import io
import os
import signal
import sys
import threading
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn, cast

from git_starcoder import machine
from git_starcoder.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Generator

    import click

COMMANDS = (
    "run", "build", "check", "show", "report", "train", "eval", "compare", "update", "replay",
    "complete", "serve", "lsp", "export", "recipe", "base", "doctor",
)  # fmt: skip
"""The commands in the order of the help text, which is the order in which a user meets them."""
PROGRAM_NAME = "git starcoder"
"""The command as a user types it."""
COMMAND_GROUP = "git_starcoder.cli.shared_options:cli_group"
"""The click command that `main` runs by default, as `module:attribute`."""
MIN_PYTHON = (3, 11)
"""The oldest version of Python that is supported."""


class TerminatedError(KeyboardInterrupt):
    """SIGTERM was received. Everything that cleans up after Ctrl-C also cleans up after this."""


def main(arguments: list[str] | None = None, command: click.Command | str = COMMAND_GROUP) -> int:
    """Runs a command, by default `git starcoder`, and returns its exit code. Never raises.

    `command` may be given as `module:attribute`, so that errors of its import are reported here, too.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _open_streams()
        machine.limit_library_threads()  # before any library is loaded: see there
        return _run_and_report(list(arguments), command)
    except BrokenPipeError:
        return ExitCode.BROKEN_PIPE
    except KeyboardInterrupt:  # a second one, while the first was handled
        return ExitCode.INTERRUPTED
    except BaseException:  # noqa: BLE001 - the error could not even be printed
        return ExitCode.BUG
    finally:
        _release_streams()


@contextmanager
def _raise_on_sigterm() -> Generator[None]:
    """Lets SIGTERM raise `TerminatedError`, so that half-written output is removed.

    A handler that the caller has set stays. A thread other than the main one cannot set any.
    """
    is_received = False

    def end(*_: object) -> NoReturn:
        nonlocal is_received
        is_received = True
        raise TerminatedError

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    except KeyboardInterrupt as error:  # Ray raises a new one
        raise TerminatedError if is_received else error from None
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _run_and_report(arguments: list[str], command: click.Command | str) -> int:
    try:
        if sys.version_info < MIN_PYTHON:
            needed = ".".join(map(str, MIN_PYTHON))
            return _print_installation_error(f"Python {needed} or newer is needed, this is {sys.version.split()[0]}")
        with _raise_on_sigterm():
            code = _run(arguments, command)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except BaseException as error:  # noqa: BLE001 - every error ends here
        return _report_error(error, arguments)
    return code


def _run(arguments: list[str], command: click.Command | str) -> int:
    import click

    if isinstance(command, str):
        if command != COMMAND_GROUP:  # our own commands check the machine themselves
            machine.require_resources()
        module, _, attribute = command.partition(":")
        command = cast("click.Command", getattr(import_module(module), attribute))
    try:  # without command.main(), which handles interrupts and broken pipes in its own way
        with command.make_context(command.name, arguments) as context:
            code: Any = command.invoke(context)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return ExitCode.USAGE_ERROR
    return code or ExitCode.SUCCESS


def _report_error(error: BaseException, arguments: list[str]) -> int:
    if isinstance(error, TerminatedError):
        sys.stderr.write("terminated\n")
        return ExitCode.TERMINATED
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":  # click's, at a prompt
        sys.stderr.write("interrupted\n")
        return ExitCode.INTERRUPTED
    try:
        from git_starcoder.cli import console
    except ImportError as missing:
        reason = f"{missing.name} is not installed" if isinstance(missing, ModuleNotFoundError) else str(missing)
        return _print_installation_error(f"{sys.executable} cannot load git-starcoder: {reason}")
    if os.environ.get("STARCODER_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    described, code = console.describe_error(error)
    verb = next((word for word in arguments if word in COMMANDS), "starcoder")
    console.print_error(described, verb, in_json="--json" in arguments, code=code)
    return code


def _print_installation_error(message: str) -> int:
    """Prints why nothing can work, without any library."""
    from git_starcoder.installation import install_command

    sys.stderr.write(f"error: {message}\nhint: {install_command('train')}\n")
    return ExitCode.USAGE_ERROR


class _LossyStderr(io.FileIO):
    """Standard error that ignores full disks and closed terminals; a broken pipe still ends the work."""

    def write(self, data: object, /) -> int:
        byte_count = memoryview(data).nbytes  # pyright: ignore[reportArgumentType]
        try:
            return super().write(data) or byte_count  # pyright: ignore[reportArgumentType]
        except BrokenPipeError:
            raise
        except OSError:
            return byte_count


def _open_streams() -> None:
    """Opens standard streams that are closed or open in the wrong direction, and lets both outputs take any text.

    A closed stream becomes `/dev/null`. Otherwise the next file to be opened would get its number, and output for the
    stream would be written into that file.
    """
    for number, wrong_mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_RDONLY)):
        try:
            is_usable = fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE != wrong_mode
        except OSError:
            is_usable = False
        if not is_usable:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        encoding = sys.stderr.encoding if sys.stderr else "utf-8"
        raw = _LossyStderr(2, "w", closefd=False)
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that is not UTF-8 gets escapes instead of an error
            stream.reconfigure(errors="backslashreplace")


def _release_streams() -> None:
    """Flushes both outputs, or discards what cannot be written: the interpreter flushes again at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            try:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            except (OSError, ValueError, AttributeError):
                continue
