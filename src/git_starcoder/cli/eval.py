"""`git starcoder eval`: a model beside the references that a sceptic asks for."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

import click

from git_starcoder.cli.options import PATH
from git_starcoder.cli.talk import common, escape_line

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.cli.talk import Talk
    from git_starcoder.errors import ExitCode


@click.command("eval")
@click.argument("model", type=PATH)
@click.argument("dataset", type=PATH)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of what is drawn from the held-out text.")
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=3.0,
    show_default=True,
    help="How long at most, about; in less time less is asked. `inf`: as long as it takes.",
)
@common
def command(talk: Talk, model: Path, dataset: Path, seed: int, minutes: float) -> ExitCode:
    """Score a model on what was held out, beside xz, PPM and others.

    MODEL and DATASET are their folders. The scores are also written to MODEL/scores.json, where
    `git starcoder report` finds them.
    """
    from git_starcoder.dataset import Dataset
    from git_starcoder.model.evaluate import SCORES_FILE, evaluate, format_scores, save_scores

    opened = Dataset.open(dataset)
    with talk.watch() as watch:
        scores = evaluate(model, opened, seconds=60 * minutes if isfinite(minutes) else None, seed=seed, progress=watch)
    kept = save_scores(scores, model)
    if not kept:
        talk.tell(f"the scores could not be written to {escape_line(str(model / SCORES_FILE))}")
    return talk.answer(
        {**scores.as_values(), "kept": str(model / SCORES_FILE) if kept else None}, format_scores(scores)
    )
