"""Options that several commands share, with one meaning."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from git_starcoder import settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from git_starcoder.seams import Cache


class _Path(click.Path):
    """A path that is not empty: a variable that is not set would otherwise mean the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path.

        Raises:
            click.BadParameter: it is empty.
        """
        if value == "":
            self.fail("the path is empty", param, ctx)
        return super().convert(value, param, ctx)


PATH = _Path(path_type=Path)


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


def opened_cache(*, wanted: bool) -> AbstractContextManager[Cache]:
    """The cache that the user's settings name, or one that keeps nothing."""
    from git_starcoder.engine import cache
    from git_starcoder.seams import NO_CACHE

    folder = settings.cache(wanted=wanted)
    return nullcontext(NO_CACHE) if folder is None else cache.Cache(folder, settings.cache_limit())


def with_seed(overrides: tuple[str, ...], seed: int | None) -> tuple[str, ...]:
    """The overrides of the recipe, --seed among them."""
    return overrides if seed is None else (*overrides, f"seed={seed}")
