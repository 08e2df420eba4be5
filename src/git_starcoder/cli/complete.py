"""`git starcoder complete`: a model continues a text or fills a gap."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from git_starcoder.cli.shared_options import FILE_TYPE, PATH_TYPE, NumberRange, common_options
from git_starcoder.errors import RepositoryError

if TYPE_CHECKING:
    from git_starcoder.cli.console import Console
    from git_starcoder.errors import ExitCode
    from git_starcoder.serve.cursor import Cursor, Wishes
    from git_starcoder.serve.disk import WorkTree


@click.command("complete")
@click.argument("model_folder", metavar="MODEL", type=PATH_TYPE)
@click.argument("file", type=FILE_TYPE, default="-")
@click.option("--suffix", type=FILE_TYPE, help="File with the text after the gap that the model fills.")
@click.option("--path",
              help="Path of FILE in its repository, which the model reads first (default: from the folder that has "
              "`.git`).")  # fmt: skip
@click.option(
    "--max-tokens", type=click.IntRange(1), default=128, show_default=True, help="Largest number of tokens to write."
)
@click.option("--temperature", type=NumberRange(0), default=0.0, show_default=True,
              help="Randomness of sampling; 0 always takes the most likely token.")  # fmt: skip
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Random seed of sampling, which has no effect at temperature 0.",
)
@click.option(
    "--explain", is_flag=True, help="Complete as `git starcoder serve` does, and say why it ends or shows nothing."
)
@common_options
def command(
    console: Console, model_folder: Path, file: BinaryIO, suffix: BinaryIO | None, path: str | None, max_tokens: int,
    temperature: float, seed: int, explain: bool,
) -> ExitCode:  # fmt: skip
    """Continue a text with a model, or fill a gap in it.

    MODEL is the folder of the model. FILE contains the text (default: standard input). Encodings, byte order marks and
    line endings are handled as in `git starcoder build`.

    The model continues exactly the tokens of the text. A text that ends inside a word or with a blank is divided into
    other tokens than code is, so the model goes on worse there. With --explain, the last tokens are taken back and
    written again, as `git starcoder serve` does for an editor.
    """
    from git_starcoder.model.complete import complete
    from git_starcoder.model.generation import Sampling
    from git_starcoder.serve.cursor import Wishes

    prefix, end = file.read(), suffix.read() if suffix else None
    name = str(getattr(file, "name", ""))
    if path is None:
        path = _path_in_repository(name)
    if explain:
        wishes = Wishes(max_tokens, Sampling(temperature, seed=seed))
        return _explain(console, model_folder, _cursor(prefix, end, path), wishes, _work_tree(name))
    completion = complete(
        model_folder, prefix, suffix=end, path=path, max_tokens=max_tokens, temperature=temperature, seed=seed
    )
    if not completion:
        console.print_message("nothing to write: the model expects the text to end here")
    return console.answer({"completion": completion}, completion, exact=True)


def _cursor(prefix: bytes, suffix: bytes | None, path: str) -> Cursor:
    from git_starcoder.model.complete import clean_prompts
    from git_starcoder.serve.cursor import Cursor

    before, after = clean_prompts(prefix, suffix)
    return Cursor(before.decode(), (after or b"").decode(), path)


def _explain(console: Console, model_folder: Path, cursor: Cursor, wishes: Wishes, tree: WorkTree | None) -> ExitCode:
    """Prints what `serve` would show at a cursor in a file of a work tree, and why."""
    from git_starcoder.serve.engine import Engine

    with Engine.open(model_folder) as engine:
        if tree is not None:
            engine.follower.read_once(tree)
        found = engine.complete(cursor, wishes)
    console.print_message(found.explain())
    values = {"reason": found.reason, "confidence": found.confidence, "threshold": found.threshold}
    return console.answer({"completion": found.text, **values}, found.text, exact=True)


def _work_tree(name: str) -> WorkTree | None:
    """The work tree that contains a file; None if there is none, or for standard input."""
    from git_starcoder.serve.disk import WorkTree

    try:
        return WorkTree(Path(name).parent) if Path(name).is_file() else None
    except RepositoryError:  # `serve` follows none either
        return None


def _path_in_repository(name: str) -> str:
    """The path of a file from the top of the work tree around it; empty if there is none, or for standard input."""
    file = Path(name).absolute()
    file = Path(os.path.realpath(file.parent), file.name)  # git knows the folder without symbolic links
    top = next((folder for folder in file.parents if file.is_file() and (folder / ".git").exists()), None)
    return "" if top is None else file.relative_to(top).as_posix()
