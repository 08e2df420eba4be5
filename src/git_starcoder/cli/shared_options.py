"""The command group `git starcoder`, the options that several commands share, and the settings behind them.

A setting comes from a flag, else a STARCODER_* variable, else the git config, else a default. Settings never change the
bytes of a dataset. Only the user's own git config is read (`git config --global starcoder.jobs 4`), never that of the
repository, which is untrusted. A wrong setting is a `UsageError`.
"""

from __future__ import annotations

import functools
import os
import subprocess
from contextlib import nullcontext
from importlib import import_module
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import click

from git_starcoder import machine, registry, user_paths
from git_starcoder.cli import COMMANDS, PROGRAM_NAME
from git_starcoder.cli.console import Color, Console
from git_starcoder.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from git_starcoder.engine.local import LocalEngine
    from git_starcoder.protocols import Cache, Progress

LIGHTWEIGHT_COMMANDS = {"base", "recipe", "show", "doctor"}
"""Commands that load no large libraries, or check the limits of the machine themselves."""
MAX_DIGITS = 18
"""Digits of the largest number that a setting may have."""
MAX_SHOWN = 40
"""Characters of a setting that an error shows."""
DEFAULT_CACHE_MEGABYTES = 2048
"""Default size limit of the cache, in megabytes."""


class _CommandGroup(click.Group):
    """The commands, each loaded from the module of its name when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        return import_module(f"git_starcoder.cli.{cmd_name}").command if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the arguments name; an error about an unknown one suggests the nearest name."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = f"{registry.suggest(args[0], list(COMMANDS))} `{PROGRAM_NAME} -h` lists all commands"
            raise UsageError(f"'{args[0]}' is not a command", where=PROGRAM_NAME, hint=hint)
        return super().resolve_command(ctx, args)


@click.group(
    PROGRAM_NAME,
    cls=_CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 success, 1 a check failed, 2 invalid usage or input, 70 a bug in git-starcoder, "
    "130 interrupted, 141 broken pipe, 143 terminated.",
)
@click.version_option(package_name="git-starcoder", prog_name=PROGRAM_NAME, message="%(prog)s %(version)s")
def cli_group() -> None:
    """Turn a Git repository into a leak-free training dataset, and train a small code model on it.

    `git starcoder run` does all steps with one command. `git starcoder COMMAND -h` explains a command.
    """


class _PathType(click.Path):
    """A path in which `~` is expanded. An empty path is refused: it is probably a shell variable that is not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(user_paths.require_reachable(user_paths.expand_user(value)), param, ctx)


class _FileType(click.File):
    """A file to read, by a path in which `~` is expanded; `-` is standard input."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and value != "-":
            value = str(user_paths.require_reachable(user_paths.expand_user(value)))
        return super().convert(value, param, ctx)


class NumberRange(click.FloatRange):
    """A number within bounds; `nan`, which every comparison lets through, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Turn text into a number."""
        number: float = super().convert(value, param, ctx)
        if isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


PATH_TYPE = _PathType(path_type=Path)
FILE_TYPE = _FileType("rb")


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds -q, -v, --json and --color, which every command has, and passes a `Console` as first argument."""

    @click.option("-q", "--quiet", is_flag=True, help="Print only the result, without progress and notes.")
    @click.option(
        "-v",
        "--verbose",
        is_flag=True,
        help="Print more details where there are any, such as all reasons for dropped files.",
    )
    @click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
    @click.option("--color", type=click.Choice(get_args(Color)), help="When to use colours (default: auto).")
    @click.pass_context
    @functools.wraps(function)
    def wrapper(
        context: click.Context, *arguments: Any, quiet: bool, verbose: bool, as_json: bool, color: Color | None,
        **options: Any,
    ) -> Any:  # fmt: skip
        verb = context.command_path.removeprefix(f"{PROGRAM_NAME} ").partition(" ")[0]
        console = Console(verb, quiet, verbose, as_json, resolve_color(color))
        if verb not in LIGHTWEIGHT_COMMANDS:
            machine.require_resources()
        return function(console, *arguments, **options)

    return wrapper


def recipe_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds -r, --set and --seed, which say what to build."""
    options = (
        click.option("-r", "--recipe", "name", default=registry.DEFAULT_RECIPE, show_default=True,
                     help="Name of a recipe (see `git starcoder recipe list`), or path of a YAML file."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
                     help="Override a key of the recipe, for example window.size=512. You can repeat this flag."),
        click.option("--seed", type=int, help="Random seed of the recipe; the same as --set seed=N."),
    )  # fmt: skip
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), function)


def build_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the argument REPO and the options of `settings_options`."""
    return click.argument("repo", default=".", type=PATH_TYPE)(settings_options(function))


def settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --rev, the recipe options, --cache and -j, which say what to build and how."""
    options = (
        click.option("--rev", default="HEAD", show_default=True, help="Commit, branch or tag to read."),
        recipe_options,
        click.option("--cache/--no-cache", "use_cache", default=True,
                     help="Read and write the cache, which makes later builds faster (default: yes; `git starcoder "
                     "doctor` prints its folder)."),
        click.option("-j", "--jobs", type=click.IntRange(1), help="Number of worker processes (default: one per CPU)."),
    )  # fmt: skip
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), function)


def override_seed(overrides: tuple[str, ...], seed: int | None) -> tuple[str, ...]:
    """The overrides of a recipe, with --seed as one of them."""
    return overrides if seed is None else (*overrides, f"seed={seed}")


def open_engine(progress: Progress, jobs: int | None) -> LocalEngine:
    """Starts worker processes; notes if the machine allows fewer than were requested."""
    from git_starcoder.engine.local import LocalEngine

    engine = LocalEngine(resolve_jobs(jobs))
    if engine.shortage:
        progress.note(f"using only {engine.jobs} worker{'s' * (engine.jobs != 1)}: {engine.shortage}")
    return engine


def open_cache(progress: Progress, *, wanted: bool) -> AbstractContextManager[Cache]:
    """Opens the cache in the configured folder; notes if it cannot be used. If it is not wanted, nothing is cached."""
    from git_starcoder.engine.cache import SqliteCache
    from git_starcoder.protocols import NO_CACHE

    found = find_cache(progress, wanted=wanted)
    if found is None:
        return nullcontext(NO_CACHE)
    disk_cache = SqliteCache(*found)
    if disk_cache.problem:
        progress.note(f"building without a cache: {disk_cache.problem}")
    return disk_cache


def find_cache(progress: Progress, *, wanted: bool) -> tuple[Path, int] | None:
    """The configured folder of the cache and its limit in bytes; None if it is not wanted, or none is known."""
    if not wanted:
        return None
    max_bytes = cache_limit_bytes()
    try:
        folder = cache_folder()
    except UsageError as error:
        progress.note(f"building without a cache: {error.what}; {error.hint}")
        return None
    return None if folder is None else (folder, max_bytes)


def resolve_jobs(flag: int | None = None) -> int | None:
    """The number of worker processes: the flag, else the setting; None leaves the choice to the engine."""
    if flag is not None:
        return flag
    text, where = _configured("jobs")
    if text and (not _is_count(text) or int(text) == 0):
        raise UsageError(f"'{text[:MAX_SHOWN]}' is not a number of jobs", where=where, hint="a whole number from 1")
    return int(text) if text else None


def resolve_color(flag: Color | None = None) -> Color:
    """Whether output is coloured: the flag, else the setting; `auto` colours on a terminal only."""
    if flag is not None:
        return flag
    text, where = _configured("color")
    if text and text not in get_args(Color):
        raise UsageError(f"'{text}' is not a choice of colour", where=where, hint="auto, always or never")
    return cast("Color", text or "auto")


def cache_folder() -> Path | None:
    """The folder of the cache; None if the environment or the git config says `off`.

    A relative XDG_CACHE_HOME is ignored, as the XDG Base Directory Specification demands.
    """
    text, _ = _configured("cache")
    if text:
        return None if text == "off" else user_paths.require_reachable(user_paths.expand_user(text))
    folder = user_paths.expand_user(os.environ.get("XDG_CACHE_HOME", ""))
    if not folder.is_absolute():
        home = user_paths.home_folder()
        if home is None:
            raise UsageError("no home folder is known", where="HOME", hint="set STARCODER_CACHE to a folder, or to off")
        folder = home / ".cache"
    return folder / "git-starcoder"


def cache_limit_bytes() -> int:
    """The size limit of the cache, in bytes; the setting is in megabytes."""
    text, where = _configured("cachesize")
    if text and not _is_count(text):
        raise UsageError(f"'{text[:MAX_SHOWN]}' is not a size in megabytes", where=where, hint="a whole number from 0")
    return int(text or DEFAULT_CACHE_MEGABYTES) << 20


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS


def _configured(name: str) -> tuple[str, str]:
    """The text of a setting in the environment or in the user's git config, and its place; empty if it is not set."""
    variable = f"STARCODER_{name.upper()}"
    if text := os.environ.get(variable):
        return text, variable
    # From the root folder and without GIT_*, so that git does not read the repository of the current folder.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "config", "--global", "--get", f"starcoder.{name}"]
    try:
        done = subprocess.run(
            command, cwd="/", env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except OSError:  # no git, or no more processes: code that needs them reports it
        return "", ""
    return os.fsdecode(done.stdout).strip(), f"git config --global starcoder.{name}"
