"""All verbs as one command: `git starcoder VERB`."""

from __future__ import annotations

from importlib import import_module

import click

from git_starcoder import registry
from git_starcoder.cli import COMMANDS, NAME
from git_starcoder.errors import UsageError


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
            hint = f"{registry.suggest(args[0], list(COMMANDS))} `{NAME} -h` shows all"
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
