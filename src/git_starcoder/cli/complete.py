"""`git starcoder complete`: a model goes on where a text ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import click

from git_starcoder.cli.options import FILE, PATH
from git_starcoder.cli.talk import common

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.cli.talk import Talk
    from git_starcoder.errors import ExitCode


@click.command("complete")
@click.argument("model", type=PATH)
@click.argument("file", type=FILE, default="-")
@click.option("--suffix", type=FILE, help="File with what comes after the gap to fill.")
@click.option("--max-tokens", type=click.IntRange(1), default=128, show_default=True, help="Tokens to write at most.")
@click.option(
    "--temperature",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="How much is left to chance; 0: the likeliest tokens.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of that chance.")
@common
def command(
    talk: Talk,
    model: Path,
    file: BinaryIO,
    suffix: BinaryIO | None,
    max_tokens: int,
    temperature: float,
    seed: int,
) -> ExitCode:
    """Let a model go on where a text ends.

    MODEL is its folder, FILE has the text (default: standard input). Encoding, byte order mark and line ends are read
    as `git starcoder build` reads those of a file.
    """
    from git_starcoder.model.complete import complete

    written = complete(
        model,
        file.read(),
        max_tokens=max_tokens,
        suffix=suffix.read() if suffix else None,
        temperature=temperature,
        seed=seed,
    )
    return talk.answer({"completion": written}, written, exact=True)
