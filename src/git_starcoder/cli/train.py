"""`git starcoder train`: a dataset in, a small model out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from git_starcoder.cli.options import PATH
from git_starcoder.cli.talk import common, one_line

if TYPE_CHECKING:
    from git_starcoder.cli.talk import Talk
    from git_starcoder.errors import ExitCode
    from git_starcoder.model.train import Order, TrainResult


@click.command("train")
@click.argument("dataset", type=PATH)
@click.option("-o", "--out", type=PATH, help="Folder to make (default: model_<recipe>).")
@click.option("--minutes", type=float, default=8.0, show_default=True, help="How long to train.")
@click.option("--steps", type=int, help="How many steps to train, instead of --minutes.")
@click.option("--size", default="tiny", show_default=True, help="tiny, or small for a GPU.")
@click.option(
    "--order",
    type=click.Choice(["curriculum", "shuffled"]),
    help="Of the rows: as the dataset says (default), or shuffled, the control for a curriculum.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the first weights and of the order of rows.")
@click.option("--force", is_flag=True, help="Replace a model that is there.")
@common
def command(
    talk: Talk,
    dataset: Path,
    out: Path | None,
    minutes: float,
    steps: int | None,
    size: str,
    order: Order | None,
    seed: int,
    force: bool,
) -> ExitCode:
    """Train a small model from scratch on the dataset in the folder DATASET."""
    from git_starcoder.cli.build import file_name
    from git_starcoder.dataset import Dataset
    from git_starcoder.model.train import train
    from git_starcoder.recipe import Recipe

    opened = Dataset.open(dataset)
    out = out or Path(f"model_{file_name(Recipe.load(dataset / 'recipe.yaml'))}")
    with talk.watch() as watch:
        result = train(
            opened, out, minutes=minutes, steps=steps, size=size, order=order, seed=seed, watch=watch, force=force
        )
    return talk.answer(as_values(result), text(result))


def as_values(result: TrainResult) -> dict[str, Any]:
    """The training for `--json`."""
    return asdict(result)


def text(result: TrainResult) -> str:
    """The folder, and what the training came to."""
    held_out = "not known" if result.held_out is None else f"{result.held_out:.3f} bits per byte"
    return "\n".join((
        one_line(str(result.folder)),
        f"  steps     {result.steps:,} over {result.rows:,} rows and {result.tokens:,} tokens",
        f"  time      {result.seconds:.0f} s, ended by {result.stopped}",
        f"  loss      {result.loss:.3f} bits per token",
        f"  held out  {held_out}",
    ))  # fmt: skip
