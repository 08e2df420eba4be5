"""`git starcoder recipe`: lists and shows recipes, and checks the user's own."""

from __future__ import annotations

import click
from click.core import ParameterSource

from git_starcoder.cli.console import Console, align_columns
from git_starcoder.cli.shared_options import common_options, override_seed, recipe_options
from git_starcoder.errors import ExitCode, RecipeError, UsageError


@click.group("recipe")
def command() -> None:
    """List, print or check recipes (the settings of builds)."""


@command.command("list")
@common_options
def list_recipes(console: Console) -> ExitCode:
    """List the recipes that come with git-starcoder."""
    from git_starcoder import registry
    from git_starcoder.recipe import Recipe

    recipes = {name: Recipe.load(name).about for name in registry.names("recipes")}
    return console.answer({"recipes": recipes}, "\n".join(align_columns(list(recipes.items()), text_columns=2)))


@command.command()
@click.argument("recipe", metavar="[RECIPE]", required=False)
@recipe_options
@common_options
def show(console: Console, recipe: str | None, name: str, overrides: tuple[str, ...], seed: int | None) -> ExitCode:
    """Print a recipe with all its keys, as a start for your own.

    All keys are printed, also those with default values. RECIPE is the name of a recipe or a YAML file, as for -r.
    """
    from git_starcoder import strict_config
    from git_starcoder.recipe import Recipe

    if recipe and click.get_current_context().get_parameter_source("name") is not ParameterSource.DEFAULT:
        raise UsageError(f"two recipes are named: '{recipe}' and '{name}'", where="-r", hint="leave one of them out")
    loaded = Recipe.load(recipe or name, override_seed(overrides, seed))
    text = loaded.to_yaml()
    return console.answer({"recipe": strict_config.load(text), "fingerprint": loaded.fingerprint()}, text.rstrip())


@command.command()
@click.argument("recipes", metavar="RECIPE...", nargs=-1, required=True)
@common_options
def lint(console: Console, recipes: tuple[str, ...]) -> ExitCode:
    """Check recipes for errors; exit with 1 if there are any.

    Errors are unknown keys and invalid values. RECIPE is the name of a recipe or a YAML file.
    """
    from git_starcoder.recipe import Recipe

    findings: list[dict[str, str]] = []
    lines: list[str] = []
    for name in recipes:
        try:
            Recipe.load(name)
        except RecipeError as error:
            findings.append({"recipe": name, "what": error.what, "where": error.where, "hint": error.hint})
            lines.append(f"{name}: {error.what} (in {error.where})" + (f"; {error.hint}" if error.hint else ""))
        else:
            lines.append(f"{name}: no problems")
    return console.answer({"findings": findings}, "\n".join(lines), ExitCode.FINDINGS if findings else ExitCode.SUCCESS)
