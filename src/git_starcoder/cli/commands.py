"""The command group `git starcoder`, and the options that several commands share."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from git_starcoder import machine, registry, settings, user_paths
from git_starcoder.cli import COMMANDS, PROGRAM_NAME
from git_starcoder.cli.console import Console
from git_starcoder.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from git_starcoder.engine.local import LocalEngine
    from git_starcoder.protocols import Cache, Progress

LIGHTWEIGHT_COMMANDS = {"recipe", "show", "doctor"}
"""Commands that load no large libraries, or check the limits of the machine themselves."""


class CommandGroup(click.Group):
    """The commands, each loaded from the module of its name when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name."""
        return import_module(f"git_starcoder.cli.{cmd_name}").command if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the command that the arguments name.

        Raises:
            UsageError: There is none; the hint suggests the nearest name.
        """
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = f"{registry.suggest(args[0], list(COMMANDS))} `{PROGRAM_NAME} -h` lists all commands"
            raise UsageError(f"'{args[0]}' is not a command", where=PROGRAM_NAME, hint=hint)
        return super().resolve_command(ctx, args)


@click.group(
    PROGRAM_NAME,
    cls=CommandGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 success, 1 a check failed, 2 invalid usage or input, 70 a bug in git-starcoder, "
    "130 interrupted, 141 broken pipe.",
)
@click.version_option(package_name="git-starcoder", prog_name=PROGRAM_NAME, message="%(prog)s %(version)s")
def cli_group() -> None:
    """Turn a Git repository into a leak-free training dataset, and train a small code model on it.

    `git starcoder run` does everything in one go. `git starcoder COMMAND -h` explains a command.
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


PATH_TYPE = _PathType(path_type=Path)
FILE_TYPE = _FileType("rb")


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds -q, -v, --json and --color, which every command has, and passes a `Console` as first argument."""

    @click.option("-q", "--quiet", is_flag=True, help="Print only the result: no progress, no notes.")
    @click.option("-v", "--verbose", is_flag=True, help="Print more details, such as every reason for drops.")
    @click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
    @click.option(
        "--color", type=click.Choice(["auto", "always", "never"]), help="When to use colours (default: auto)."
    )
    @click.pass_context
    @functools.wraps(function)
    def wrapper(
        context: click.Context,
        *arguments: Any,
        quiet: bool,
        verbose: bool,
        as_json: bool,
        color: settings.Color | None,
        **options: Any,
    ) -> Any:
        verb = context.command_path.removeprefix(f"{PROGRAM_NAME} ").partition(" ")[0]
        console = Console(verb, quiet, verbose, as_json, settings.color(color))
        if verb not in LIGHTWEIGHT_COMMANDS:
            machine.require_resources()
        return function(console, *arguments, **options)

    return wrapper


def recipe_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds -r, --set and --seed, which say what to build."""
    options = (
        click.option("-r", "--recipe", "name", default="effectiveness", show_default=True,
                     help="Name of a recipe (see `git starcoder recipe list`) or a YAML file."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
                     help="Override a key of the recipe, for example window.size=512. Repeatable."),
        click.option("--seed", type=int, help="Random seed; short for --set seed=N."),
    )  # fmt: skip
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), function)


def build_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the argument REPO, --rev, the recipe options, --cache and -j, which say what to build from and how."""
    options = (
        click.argument("repo", default=".", type=PATH_TYPE),
        click.option("--rev", default="HEAD", show_default=True, help="Commit, branch or tag to read."),
        recipe_options,
        click.option("--cache/--no-cache", "use_cache", default=True,
                     help="Reuse results of earlier builds, and store new ones (default: yes)."),
        click.option("-j", "--jobs", type=click.IntRange(1), help="Number of worker processes (default: one per CPU)."),
    )  # fmt: skip
    return functools.reduce(lambda decorated, option: option(decorated), reversed(options), function)


def override_seed(overrides: tuple[str, ...], seed: int | None) -> tuple[str, ...]:
    """The overrides of a recipe, with --seed as one of them."""
    return overrides if seed is None else (*overrides, f"seed={seed}")


def open_engine(progress: Progress, jobs: int | None) -> LocalEngine:
    """Starts worker processes; notes if the machine allows fewer than were requested."""
    from git_starcoder.engine.local import LocalEngine

    engine = LocalEngine(settings.jobs(jobs))
    if engine.shortage:
        progress.note(f"using only {engine.jobs} worker{'s' * (engine.jobs != 1)}: {engine.shortage}")
    return engine


def open_cache(progress: Progress, *, wanted: bool) -> AbstractContextManager[Cache]:
    """Opens the cache in the configured folder; notes if it cannot be used. If it is not wanted, nothing is cached."""
    from git_starcoder.engine import cache
    from git_starcoder.protocols import NO_CACHE

    if not wanted:
        return nullcontext(NO_CACHE)
    max_bytes = settings.cache_limit_bytes()
    try:
        folder = settings.cache_folder()
    except UsageError as error:
        progress.note(f"building without a cache: {error.what}; {error.hint}")
        folder = None
    if folder is None:
        return nullcontext(NO_CACHE)
    disk_cache = cache.SqliteCache(folder, max_bytes)
    if disk_cache.problem:
        progress.note(f"building without a cache: {disk_cache.problem}")
    return disk_cache
