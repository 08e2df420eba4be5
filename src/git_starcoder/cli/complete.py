"""`git starcoder complete`: a model continues a text or fills a gap."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import click

from git_starcoder.cli.shared_options import FILE_TYPE, PATH_TYPE, common_options

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.cli.console import Console
    from git_starcoder.errors import ExitCode


@click.command("complete")
@click.argument("model_folder", metavar="MODEL", type=PATH_TYPE)
@click.argument("file", type=FILE_TYPE, default="-")
@click.option("--suffix", type=FILE_TYPE, help="File with the text after the gap that the model fills.")
@click.option(
    "--max-tokens", type=click.IntRange(1), default=128, show_default=True, help="Largest number of tokens to write."
)
@click.option("--temperature", type=click.FloatRange(0), default=0.0, show_default=True,
              help="Randomness of sampling; 0 always takes the most likely token.")  # fmt: skip
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Random seed of sampling, which has no effect at temperature 0.",
)
@common_options
def command(
    console: Console, model_folder: Path, file: BinaryIO, suffix: BinaryIO | None, max_tokens: int, temperature: float,
    seed: int,
) -> ExitCode:  # fmt: skip
    """Continue a text with a model, or fill a gap in it.

    MODEL is the folder of the model. FILE contains the text (default: standard input). Encodings, byte order marks and
    line endings are handled as in `git starcoder build`.
    """
    from git_starcoder.model.complete import complete

    prefix, end = file.read(), suffix.read() if suffix else None
    completion = complete(model_folder, prefix, max_tokens=max_tokens, suffix=end, temperature=temperature, seed=seed)
    return console.answer({"completion": completion}, completion, exact=True)
