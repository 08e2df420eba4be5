"""`git starcoder serve`: a server that completes code in editors."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from git_starcoder.cli.progress import show_progress
from git_starcoder.cli.shared_options import PATH_TYPE, NumberRange, common_options
from git_starcoder.errors import DatasetError, ExitCode, MissingExtraError, RepositoryError, UsageError
from git_starcoder.text.visible import escape_unsafe
from git_starcoder.user_paths import expand_user

if TYPE_CHECKING:
    from collections.abc import Iterator

    from git_starcoder.cli.console import Console
    from git_starcoder.serve.engine import Engine

TOKEN_VARIABLE = "STARCODER_TOKEN"  # noqa: S105 - the name of the variable
MIN_TOKEN_CHARACTERS = 16
DEFAULT_PORT = 8012
"""The port that llama.vim and llama.vscode ask for completions by default."""


@click.command("serve")
@click.argument("model", metavar="MODEL")
@click.option(
    "--repo",
    type=PATH_TYPE,
    help="Folder of the repository that is edited (default: the repository of the current folder).",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="Port; 0 chooses a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True,
              help=f"Address to listen at. If other machines can reach it, {TOKEN_VARIABLE} must be set.")  # fmt: skip
@click.option("--threshold", type=NumberRange(0, 1),
              help="Confidence below which nothing is shown (default: the one stored with the model, or else "
              "0.2).")  # fmt: skip
@click.option("--calibrate", "dataset_folder", type=PATH_TYPE, metavar="DATASET",
              help="Choose the threshold, and whether the text after the cursor is used, on the held-out code of "
              "the model's dataset, store both with the model, and end.")  # fmt: skip
@common_options
def command(
    console: Console,
    model: str,
    repo: Path | None,
    port: int,
    host: str,
    threshold: float | None,
    dataset_folder: Path | None,
) -> ExitCode:
    """Complete code in editors, as a server on this machine.

    MODEL is the folder of a model, the name of a base, or a Hugging Face id of a causal language model. A model of
    git-starcoder knows its repository as it is on disk now: saved files, another branch and pulled commits are known
    at once. Files that git ignores and files with secrets are never read.

    Editors speak to it as to OpenAI (`/v1/completions`), llama.cpp (`/infill`) or Ollama. The page at `/` has settings
    to copy. Ctrl-C ends the server.
    """
    from git_starcoder.serve.guard import is_loopback

    if dataset_folder is not None:
        return _calibrate(console, expand_user(model), dataset_folder)
    token = os.environ.get(TOKEN_VARIABLE, "")
    if token and (len(token) < MIN_TOKEN_CHARACTERS or not token.isascii() or token != token.strip()):
        what = f"the token must have at least {MIN_TOKEN_CHARACTERS} ASCII characters"
        raise UsageError(what, where=TOKEN_VARIABLE, hint="make one with `openssl rand -hex 16`")
    if not token and not is_loopback(host):
        hint = f"set {TOKEN_VARIABLE}, for example to the output of `openssl rand -hex 16`"
        raise UsageError(f"other machines can reach {host}, so a token is needed", where="--host", hint=hint)
    for library in ("starlette", "uvicorn", "watchfiles"):  # before the model is loaded, which takes seconds
        if find_spec(library) is None:
            raise MissingExtraError(library, "serve")
    from git_starcoder.serve.app import Server
    from git_starcoder.serve.disk import WorkTree
    from git_starcoder.serve.engine import Engine, keep_collector_short
    from git_starcoder.serve.listen import bind, run_server

    if repo is not None:
        WorkTree(repo)  # better to fail now than after loading the model
    with bind(host, port) as listener:
        address = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        with show_progress(console) as progress:
            progress.begin("read the model", None)
            engine = Engine.open(model, repository=repo or _current_work_tree())
        with engine:
            if threshold is not None:
                engine.threshold = threshold

            keep_collector_short()

            def tell(_: object) -> None:
                # The address is the result, also with --quiet: port 0 is any free port.
                click.echo(escape_unsafe(f"{address} serves {engine.name}; Ctrl-C ends it"), err=True)
                for note in _notes(expand_user(model), engine, host):
                    console.print_message(f"note: {note}")

            run_server(Server(engine, host=host, token=token), listener, tell)
    return ExitCode.SUCCESS


def _notes(folder: Path, engine: Engine, host: str) -> Iterator[str]:
    """What may surprise people about a server that has started."""
    from git_starcoder.git.objects import Repo
    from git_starcoder.model.loading import TRAINING_RECORD, read_training_record
    from git_starcoder.serve.guard import is_loopback

    if not is_loopback(host):
        yield "other machines ask for an IP address of this machine, not for its name"
    if engine.model.memory is None:
        return
    if (tree := engine.follower.tree) is None:
        yield "no repository is followed: start it in one, or name one with --repo"
    elif (folder / TRAINING_RECORD).is_file() and (commit := read_training_record(folder).get("commit")):
        try:
            Repo.open(tree.root, commit)
        except RepositoryError:
            yield f"'{tree.root.name}' lacks the commit from which the model was trained: is it another repository?"


def _calibrate(console: Console, model: Path, dataset_folder: Path) -> ExitCode:
    """Choose the threshold of a model and print it."""
    from git_starcoder.dataset import Dataset
    from git_starcoder.serve.confidence import MIN_SHOWN, choose_threshold

    with show_progress(console) as progress:
        progress.begin("calibrate", None)
        choice = choose_threshold(model, Dataset.open(dataset_folder))
    if choice is None:
        what = f"the val split has fewer than {MIN_SHOWN} lines to complete"
        raise DatasetError(what, where=str(dataset_folder), hint="give a threshold with --threshold")
    return console.answer(choice._asdict(), str(choice))


def _current_work_tree() -> Path | None:
    """The current folder, if it is in a work tree."""
    from git_starcoder.serve.disk import WorkTree

    try:
        return WorkTree(Path()).root
    except RepositoryError:
        return None
