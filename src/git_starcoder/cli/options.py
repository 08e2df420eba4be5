"""Options that several commands share, with one meaning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = click.Path(path_type=Path)


def of_recipe(function: Callable[..., Any]) -> Callable[..., Any]:
    """-r, --set and --seed: what to build."""
    for option in (
        click.option("--seed", type=int, help="Shorthand for --set seed=N."),
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key, such as window.size=512."
        ),
        click.option(
            "-r", "--recipe", "name", default="effectiveness", show_default=True, help="A recipe, or a YAML file."
        ),
    ):
        function = option(function)
    return function


def of_build(function: Callable[..., Any]) -> Callable[..., Any]:
    """REPO, --rev, -j and the recipe: what to read and how."""
    for option in (
        click.option("-j", "--jobs", type=click.IntRange(1), help="Worker processes (default: one per processor)."),
        of_recipe,
        click.option("--rev", default="HEAD", show_default=True, help="Commit to read."),
        click.argument("repo", default=".", type=PATH),
    ):
        function = option(function)
    return function


def with_seed(overrides: tuple[str, ...], seed: int | None) -> tuple[str, ...]:
    """The overrides of the recipe, --seed among them."""
    return overrides if seed is None else (*overrides, f"seed={seed}")
