"""`git starcoder eval`: measures a model on held-out files, next to simple baselines."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import click

from git_starcoder.cli.progress import show_progress
from git_starcoder.cli.shared_options import PATH_TYPE, NumberRange, common_options
from git_starcoder.text.visible import escape_line

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.cli.console import Console
    from git_starcoder.errors import ExitCode


@click.command("eval")
@click.argument("model_folder", metavar="MODEL", type=PATH_TYPE)
@click.argument("dataset_folder", metavar="DATASET", type=PATH_TYPE)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Random seed for the confidence intervals and for the untrained network.")  # fmt: skip
@click.option("--minutes", type=NumberRange(0, min_open=True), default=3.0, show_default=True,
              help="Approximate time limit in minutes. With less time, fewer samples are scored; `inf` scores "
              "all.")  # fmt: skip
@common_options
def command(console: Console, model_folder: Path, dataset_folder: Path, seed: int, minutes: float) -> ExitCode:
    """Score a model on held-out files, next to simple baselines.

    MODEL is the folder of the model, and DATASET is the folder of the dataset. The baselines are the untrained network
    (for a tuned model, its base), the compressors xz and PPM, and the most frequent next line. The scores are also
    written to MODEL/scores.json, where `git starcoder report` finds them.
    """
    from git_starcoder.dataset import Dataset
    from git_starcoder.model.evaluate import SCORES_FILE, evaluate, format_scores, save_scores

    dataset = Dataset.open(dataset_folder)
    max_seconds = 60 * minutes if isfinite(minutes) else None
    with show_progress(console) as progress:
        scores = evaluate(model_folder, dataset, seconds=max_seconds, seed=seed, progress=progress)
    is_saved = save_scores(scores, model_folder)
    path = str(model_folder / SCORES_FILE)
    if not is_saved:
        console.print_message(f"the scores could not be written to {escape_line(path)}")
    return console.answer({**scores.as_values(), "kept": path if is_saved else None}, format_scores(scores))
