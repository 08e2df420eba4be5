"""`git starcoder replay`: how much typing a model would have saved on the commits that came after it was trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from git_starcoder.cli.progress import show_progress
from git_starcoder.cli.shared_options import PATH_TYPE, common_options

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.cli.console import Console
    from git_starcoder.errors import ExitCode


@click.command("replay")
@click.argument("model_folder", metavar="MODEL", type=PATH_TYPE)
@click.argument("repo", metavar="[REPO]", default=".", type=PATH_TYPE)
@click.option("--since", metavar="REV",
              help="Replay what was added after this commit (default: the commit that the training saw).")  # fmt: skip
@click.option("--rev", default="HEAD", show_default=True, help="The last commit to replay.")
@click.option("--characters", type=click.IntRange(1), default=10_000, show_default=True,
              help="About how many characters are typed. They are drawn from all commits.")  # fmt: skip
@common_options
def command(console: Console, model_folder: Path, repo: Path, since: str | None, rev: str, characters: int) -> ExitCode:
    """Count the keystrokes that a model saves on later commits.

    MODEL is the folder of the model, and REPO is the folder of its repository, with later commits (default: the
    current folder). A simulated person types the lines that these commits added, pauses before each word, sees at most
    one suggestion, and accepts the correct words at its beginning, if there are any. The suggestions are those of an
    editor. Three baselines are asked at the same pauses: the memory alone, the most frequent line, and the words of the
    buffer, which is the text of the file before the cursor.
    """
    from git_starcoder.git.objects import Repo
    from git_starcoder.replay.replay import format_replay, replay

    repository = Repo.open(repo, rev)
    with show_progress(console) as progress:
        result = replay(model_folder, repository, since=since, characters=characters, progress=progress)
    return console.answer(result.as_values(), format_replay(result))
