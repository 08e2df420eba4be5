"""`git starcoder update`: brings a model up to date after new commits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from git_starcoder import user_paths
from git_starcoder.cli.progress import show_progress
from git_starcoder.cli.shared_options import PATH_TYPE, NumberRange, common_options, open_cache, open_engine
from git_starcoder.errors import UsageError
from git_starcoder.text.visible import escape_line

if TYPE_CHECKING:
    from git_starcoder.cli.console import Console
    from git_starcoder.errors import ExitCode
    from git_starcoder.update import Update

SIBLING_DATASET = "dataset"
"""The folder beside a model in which `run` puts its dataset."""


@click.command("update")
@click.argument("model_folder", metavar="MODEL", type=PATH_TYPE)
@click.argument("repo", metavar="[REPO]", default=".", type=PATH_TYPE)
@click.option("--dataset", "dataset_folder", type=PATH_TYPE,
              help="Dataset of the model, which is updated, too (default: `dataset` beside the model).")  # fmt: skip
@click.option("--rev", default="HEAD", show_default=True, help="Commit, branch or tag to update to.")
@click.option("--minutes", type=NumberRange(0, min_open=True),
              help="Also train the network, for this many minutes (default: no training).")  # fmt: skip
@click.option("--tokens", type=NumberRange(1),
              help="Also train the network, on this many tokens (default: no training).")  # fmt: skip
@click.option("--score/--no-score", "scored", default=True,
              help="Score held-out files before and after (default: yes).")  # fmt: skip
@click.option("--cache/--no-cache", "use_cache", default=True,
              help="Read and write the cache of builds (default: yes).")  # fmt: skip
@click.option("-j", "--jobs", type=click.IntRange(1), help="Number of worker processes (default: one per CPU).")
@click.option("--force", is_flag=True,
              help="Replace edited files, and update from a repository without the old commit.")  # fmt: skip
@common_options
def command(
    console: Console, model_folder: Path, repo: Path, dataset_folder: Path | None, rev: str, minutes: float | None,
    tokens: float | None, scored: bool, use_cache: bool, jobs: int | None, force: bool,
) -> ExitCode:  # fmt: skip
    """Bring a model up to date after new commits.

    MODEL is the folder of the model, and REPO that of its repository (default: the current folder). The dataset and the
    memory are always updated. With --minutes or --tokens, the network is trained on new and old rows, too. Files that
    were held out stay held out.
    """
    from git_starcoder.git.objects import Repo
    from git_starcoder.model.loading import require_model
    from git_starcoder.update import update

    if minutes is not None and tokens is not None:
        raise UsageError("only one budget may be set", where="--minutes, --tokens")
    budget = {"minutes": minutes} if minutes is not None else {"tokens": tokens} if tokens is not None else None
    require_model(model_folder)
    if dataset_folder is None:
        dataset_folder = Path(os.path.realpath(model_folder)).with_name(SIBLING_DATASET)
        if not dataset_folder.is_dir():
            what = f"no dataset is beside '{model_folder}'"
            raise UsageError(what, where="--dataset", hint="name the dataset of the model with --dataset")
    user_paths.offer_temporary_folder(model_folder)
    repository = Repo.open(repo, rev)
    with (
        show_progress(console) as progress,
        open_engine(progress, jobs) as engine,
        open_cache(progress, wanted=use_cache) as cache,
    ):
        result = update(
            model_folder, dataset_folder, repository, budget=budget, scored=scored, force=force, engine=engine,
            cache=cache, progress=progress,
        )  # fmt: skip
    return console.answer(result.as_values(), describe_update(result))


def describe_update(result: Update) -> str:
    """The result of an update as text."""
    if not result.is_changed:
        return f"{escape_line(str(result.model))} is up to date with {result.new_commit[:12]}"
    seconds = result.seconds
    lines = [
        f"{escape_line(str(result.model))}: from commit {result.old_commit[:12]} to {result.new_commit[:12]}",
        f"  dataset  {result.rows:,} training rows, {result.new_rows:,} of them new; {seconds['dataset']:.1f} s",
    ]
    if result.training is None:
        lines.append(f"  memory   {result.memory_tokens:,} tokens; {seconds['memory']:.2f} s")
        lines.append("  network  unchanged; --minutes or --tokens trains it")
    else:
        steps, tokens = result.training.steps, result.training.tokens
        lines.append(f"  network  {steps:,} steps on {tokens:,} tokens, and the memory; {seconds['network']:.1f} s")
    header = ("bits per byte of held-out files", "before", "after", "after / before")
    if result.scores:
        lines.append(f"{header[0]:48} {header[1]:>8} {header[2]:>8}  {header[3]}")
    for kind in dict.fromkeys(score.text for score in result.scores):
        scores = [score for score in result.scores if score.text == kind]
        lines.append(f"{kind}: {scores[0].files:,} files, {scores[0].bytes:,} bytes")
        for score in scores:
            interval = "" if score.low is None else f"  {score.low:.3f} to {score.high:.3f}"
            lines.append(f"  {score.subject:46} {score.before:8.3f} {score.after:8.3f}  {score.ratio:.3f}{interval}")
    return "\n".join(lines)
