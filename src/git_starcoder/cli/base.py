"""`git starcoder base`: lists and shows the models that training can start from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from git_starcoder.cli.console import Console, align_columns
from git_starcoder.cli.shared_options import common_options

if TYPE_CHECKING:
    from git_starcoder.errors import ExitCode


@click.group("base")
def command() -> None:
    """List or show bases (models that training can start from)."""


@command.command("list")
@common_options
def list_bases(console: Console) -> ExitCode:
    """List the bases that come with git-starcoder."""
    from git_starcoder import registry
    from git_starcoder.bases import NO_SHIPPED_BASE, find_base

    found = [base for name in registry.names("bases") if (base := find_base(name))]
    values = {"bases": {base.name: base.about for base in found}}
    rows = [(base.name, f"{base.record['parameters']:,} parameters", base.about) for base in found]
    lines = align_columns(rows, text_columns=3) if rows else [NO_SHIPPED_BASE]
    return console.answer(values, "\n".join(lines))


@command.command()
@click.argument("name", metavar="NAME")
@common_options
def show(console: Console, name: str) -> ExitCode:
    """Print what a base was trained on, and how.

    NAME is a name from `git starcoder base list`, or the folder of a base.
    """
    from git_starcoder.bases import require_base

    base = require_base(name, where="base show")
    record, sources = base.record, base.sources
    facts = [
        ("about", base.about),
        ("parameters", f"{record['parameters']:,}"),
        ("trained", f"{record['steps']:,} steps, {record['tokens']:,} tokens in the loss"),
        ("rows", f"up to {base.window:,} tokens"),
        ("held out", f"{record['held_out']:.3f} bits per byte" if record["held_out"] is not None else "not known"),
        ("newest commit", record["date"]),
        ("weights", base.weights_digest),
        ("files read", f"{record['blobs']['files']:,}; another file is found among them in {_share(record)}"),
        ("sources", f"{len(sources):,} repositories, {sum(source.bytes for source in sources):,} bytes"),
    ]
    lines = align_columns(facts, text_columns=2)
    lines.append("")
    table = [(source.repository, source.licence, source.commit[:12], f"{source.bytes:,}") for source in sources]
    lines += align_columns(table, text_columns=3)
    return console.answer({"base": record, "folder": str(base.folder)}, "\n".join(lines))


def _share(record: dict[str, dict[str, float]]) -> str:
    rate = record["blobs"]["false_positive_rate"]
    return f"{100 * rate:.4f} % of all cases"
