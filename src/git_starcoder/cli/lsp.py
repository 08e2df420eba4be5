"""`git starcoder lsp`: a language server that completes code in editors."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, BinaryIO

import click

from git_starcoder.cli.shared_options import PATH_TYPE, NumberRange, common_options
from git_starcoder.errors import ExitCode, MissingExtraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from git_starcoder.cli.console import Console


@click.command("lsp")
@click.argument("model", metavar="MODEL")
@click.option(
    "--repo", type=PATH_TYPE, help="Folder of the repository that is edited (default: the one that the editor opens)."
)
@click.option("--threshold", type=NumberRange(0, 1),
              help="Confidence below which nothing is shown (default: the one stored with the model, or else "
              "0.2).")  # fmt: skip
@click.option("--explain", is_flag=True, help="Write into the editor's log why each completion is as it is.")
@common_options
def command(
    console: Console,  # noqa: ARG001 - standard output belongs to the protocol
    model: str, repo: Path | None, threshold: float | None, explain: bool,
) -> ExitCode:  # fmt: skip
    """Complete code in an editor, as a language server.

    The editor starts this command and talks to it over standard input and output. It completes where the cursor is
    (textDocument/inlineCompletion), and opens no port.

    MODEL is the folder of a model, the name of a base, or a Hugging Face id of a causal language model. A model of
    git-starcoder knows its repository as it is on disk now, and the unsaved text of all open files. Files that git
    ignores and files with secrets are never read.
    """
    if sys.stdin.isatty():
        hint = "docs/how-to/editors.md has settings for editors; `git starcoder complete` continues a text here"
        raise UsageError("an editor starts this command; there is none at this terminal", where="lsp", hint=hint)
    for library in ("pygls", "watchfiles"):  # before the model is loaded, which takes seconds
        if find_spec(library) is None:
            raise MissingExtraError(library, "serve")
    from git_starcoder.serve.engine import Engine, keep_collector_short
    from git_starcoder.serve.lsp import EditorServer

    with _protocol_output() as output, Engine.open(model) as engine:
        if threshold is not None:
            engine.threshold = threshold
        keep_collector_short()
        EditorServer(engine, repository=repo, explains=explain).run(sys.stdin.buffer, output)
    return ExitCode.SUCCESS


@contextmanager
def _protocol_output() -> Generator[BinaryIO]:
    """Standard output for the protocol alone: what libraries print there meanwhile goes to standard error."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "wb") as output:
            yield output
    finally:
        os.dup2(kept, 1)
        os.close(kept)
