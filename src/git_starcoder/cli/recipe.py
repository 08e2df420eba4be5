"""`git starcoder recipe`: look at recipes and check one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from git_starcoder.cli.options import of_recipe, with_seed
from git_starcoder.cli.talk import common
from git_starcoder.errors import ExitCode, RecipeError

if TYPE_CHECKING:
    from git_starcoder.cli.talk import Talk


@click.group("recipe")
def command() -> None:
    """List recipes, show one, or check your own."""


@command.command("list")
@common
def every(talk: Talk) -> ExitCode:
    """List the recipes that come with git-starcoder."""
    from git_starcoder import registry
    from git_starcoder.recipe import Recipe

    about = {name: Recipe.load(name).about for name in registry.names("recipes")}
    width = max(map(len, about))
    return talk.answer({"recipes": about}, "\n".join(f"{name:{width}}  {text}" for name, text in about.items()))


@command.command()
@click.argument("recipe", metavar="[RECIPE]", required=False)
@of_recipe
@common
def show(talk: Talk, recipe: str | None, name: str, overrides: tuple[str, ...], seed: int | None) -> ExitCode:
    """Show a recipe in full: a file to start your own from.

    Every default is written out. RECIPE is a name or a YAML file, as -r takes it.
    """
    from git_starcoder import strict_config
    from git_starcoder.recipe import Recipe

    loaded = Recipe.load(recipe or name, with_seed(overrides, seed))
    text = loaded.to_yaml()
    return talk.answer({"recipe": strict_config.load(text), "fingerprint": loaded.fingerprint()}, text.rstrip())


@command.command()
@click.argument("recipes", metavar="RECIPE...", nargs=-1, required=True)
@common
def lint(talk: Talk, recipes: tuple[str, ...]) -> ExitCode:
    """Check recipes; exit 1 for unknown keys and values that cannot be."""
    from git_starcoder.recipe import Recipe

    found: list[dict[str, str]] = []
    lines: list[str] = []
    for name in recipes:
        try:
            Recipe.load(name)
        except RecipeError as error:
            found.append({"recipe": name, "what": error.what, "where": error.where, "hint": error.hint})
            lines.append(f"{name}: {error.what} (in {error.where})" + (f"; {error.hint}" if error.hint else ""))
        else:
            lines.append(f"{name}: fine")
    code = ExitCode.FINDINGS if found else ExitCode.SUCCESS
    return talk.answer({"findings": found}, "\n".join(lines), code)
