"""Options that several commands share, with one meaning."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from git_starcoder import settings, user_paths
from git_starcoder.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from git_starcoder.engine.local import LocalEngine
    from git_starcoder.protocols import Cache, Progress


class _Path(click.Path):
    """A path as a user writes it: `~` is replaced, and a relative one needs a current folder.

    An empty one is refused: a variable that is not set would otherwise mean the current folder.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(user_paths.require_reachable(user_paths.expand_user(value)), param, ctx)


class _File(click.File):
    """A file to read, by a path as a user writes it; `-` is standard input."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and value != "-":
            value = str(user_paths.require_reachable(user_paths.expand_user(value)))
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path)
FILE = _File("rb")


def of_recipe(function: Callable[..., Any]) -> Callable[..., Any]:
    """-r, --set and --seed: what to build."""
    for option in (
        click.option("--seed", type=int, help="Shorthand for --set seed=N."),
        click.option(
            "--set",
            "overrides",
            multiple=True,
            metavar="KEY=VALUE",
            help="Change a key of the recipe, such as window.size=512.",
        ),
        click.option(
            "-r",
            "--recipe",
            "name",
            default="effectiveness",
            show_default=True,
            help="A recipe's name (`recipe list` shows all), or a YAML file.",
        ),
    ):
        function = option(function)
    return function


def of_build(function: Callable[..., Any]) -> Callable[..., Any]:
    """REPO, --rev, -j, --no-cache and the recipe: what to read and how."""
    for option in (
        click.option("-j", "--jobs", type=click.IntRange(1), help="Worker processes (default: one per processor)."),
        click.option(
            "--cache/--no-cache", "cached", default=True, help="Use and keep what builds work out (default: yes)."
        ),
        of_recipe,
        click.option("--rev", default="HEAD", show_default=True, help="Commit, branch or tag to read."),
        click.argument("repo", default=".", type=PATH),
    ):
        function = option(function)
    return function


def opened_engine(watch: Progress, jobs: int | None) -> LocalEngine:
    """As many workers as were asked for; where the machine gives fewer, a note says so."""
    from git_starcoder.engine.local import LocalEngine

    engine = LocalEngine(settings.jobs(jobs))
    if engine.shortage:
        watch.note(f"only {engine.jobs} worker{'s' * (engine.jobs != 1)}: {engine.shortage}")
    return engine


def opened_cache(watch: Progress, *, wanted: bool) -> AbstractContextManager[Cache]:
    """The cache that the user's settings name, or one that keeps nothing; where there can be none, a note says so."""
    from git_starcoder.engine import cache
    from git_starcoder.protocols import NO_CACHE

    if not wanted:
        return nullcontext(NO_CACHE)
    limit = settings.cache_limit_bytes()
    try:
        folder = settings.cache_folder()
    except UsageError as error:
        watch.note(f"without a cache: {error.what}; {error.hint}")
        folder = None
    if folder is None:
        return nullcontext(NO_CACHE)
    opened = cache.SqliteCache(folder, limit)
    if opened.problem:
        watch.note(f"without a cache: {opened.problem}")
    return opened


def with_seed(overrides: tuple[str, ...], seed: int | None) -> tuple[str, ...]:
    """The overrides of the recipe, --seed among them."""
    return overrides if seed is None else (*overrides, f"seed={seed}")
