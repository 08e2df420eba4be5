"""`git starcoder train`: trains a model on a dataset, or explains what a training would do."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from git_starcoder import user_paths
from git_starcoder.cli.progress import show_progress
from git_starcoder.cli.shared_options import PATH_TYPE, common_options
from git_starcoder.errors import ExitCode
from git_starcoder.text.visible import escape_line

if TYPE_CHECKING:
    from git_starcoder.cli.console import Console
    from git_starcoder.model.dry_run import DryRun, ExplainedStep
    from git_starcoder.model.training import TrainResult


@click.command("train")
@click.argument("dataset_folder", metavar="DATASET", type=PATH_TYPE)
@click.option("-o", "--out", type=PATH_TYPE, help="Folder to write (default: model_<recipe>).")
@click.option("--config", type=PATH_TYPE, help="YAML file with training keys; flags override it.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
              help="Override a training key, for example dropout=0.1. You can repeat this flag.")  # fmt: skip
@click.option("--minutes", type=float, help="Training budget in minutes (default: 8, unless another budget is given).")
@click.option("--steps", type=int, help="Training budget in optimizer steps, in place of --minutes.")
@click.option("--epochs", type=float,
              help="Training budget in epochs (passes over the training rows), in place of --minutes.")  # fmt: skip
@click.option("--tokens", type=float, help="Training budget in tokens, in place of --minutes.")
@click.option("--size", help="Size of a model from scratch: tiny, small, medium, large or huge (4, 28, 90, 350 or 1000 "
              "million parameters), or a number of parameters such as 124M (default: tiny).")  # fmt: skip
@click.option("--base", help="Model to start from: a name from `git starcoder base list`, the folder of a causal "
              "model, or a Hugging Face id (default: none, training starts from scratch).")  # fmt: skip
@click.option("--tune", type=click.Choice(["full", "lora", "qlora"]),
              help="How to train the base model: full trains all weights, lora trains only adapters, and qlora does so "
              "with the base weights stored in 4 bits (default: full).")  # fmt: skip
@click.option("--merge", is_flag=True, default=None,
              help="Also write merged weights of adapters and base, so that the model needs no base.")  # fmt: skip
@click.option("--order", type=click.Choice(["curriculum", "shuffled"]),
              help="Order of the rows: curriculum follows the dataset (from simple to complex), shuffled is random "
              "(default: curriculum, if the dataset has one).")  # fmt: skip
@click.option("--device", type=click.Choice(["cuda", "mps", "cpu"]), help="Device to train on (default: the fastest).")
@click.option(
    "--seed", type=click.IntRange(0), help="Random seed of the initial weights and of the order of rows (default: 0)."
)
@click.option("--fresh", is_flag=True, help="Start a new training instead of resuming an interrupted one.")
@click.option("--force", is_flag=True, help="Replace an existing model.")
@click.option("-n", "--dry-run", is_flag=True, help="Check that training can work, print the plan, and train nothing.")
@click.option("--explain-step", type=click.IntRange(1), metavar="N",
              help="Print the rows that optimizer step N (counted from 1) trains on, and train nothing.")  # fmt: skip
@common_options
def command(
    console: Console, dataset_folder: Path, out: Path | None, config: Path | None, overrides: tuple[str, ...],
    fresh: bool, force: bool, dry_run: bool, explain_step: int | None, **flags: Any,
) -> ExitCode:  # fmt: skip
    """Train a model on a dataset.

    DATASET is a folder that `git starcoder build` wrote. The model starts from scratch, or from a pretrained model with
    --base. Run the same command again to resume an interrupted training exactly where it stopped.
    """
    from git_starcoder.bases import find_base
    from git_starcoder.cli.build import recipe_file_name
    from git_starcoder.dataset import Dataset
    from git_starcoder.model.base_model import BaseModel
    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.dry_run import explain_training_step, preview_training
    from git_starcoder.model.processes import read_process_group
    from git_starcoder.model.training import train
    from git_starcoder.recipe import Recipe

    loaded = TrainConfig.load(config, overrides, **flags)
    dataset = Dataset.open(dataset_folder)
    out = out or Path(f"model_{recipe_file_name(Recipe.load(dataset_folder / 'recipe.yaml'))}")
    user_paths.offer_temporary_folder(out)
    if explain_step is not None:
        step = explain_training_step(dataset, loaded, explain_step)
        return console.answer(step.as_values(), _describe_step(step))
    if dry_run:
        rehearsal = preview_training(dataset, out, loaded)
        values = {"out": str(out), "config": asdict(loaded), **rehearsal.as_values()}
        code = ExitCode.SUCCESS if rehearsal.budget else ExitCode.USAGE_ERROR
        return console.answer(values, _describe_rehearsal(rehearsal), code)
    is_first = read_process_group().is_first  # only one of the processes that torchrun started says anything
    if is_first and loaded.base is not None and find_base(loaded.base) is None:
        for note in BaseModel.open(loaded.base).notes():
            console.print_message(note)
    with show_progress(console) as progress:
        progress.begin("prepare", None)  # reading the rows, preflight and batch-size search take a while
        result = train(dataset, out, loaded, progress=progress, force=force, fresh=fresh)
    if not is_first:
        return ExitCode.SUCCESS
    return console.answer(asdict(result), describe_training(result))


def describe_training(result: TrainResult) -> str:
    """The result of a training as text."""
    held_out = "not known" if result.held_out is None else f"{result.held_out:.3f} bits per byte"
    return "\n".join((
        escape_line(str(result.folder)),
        f"  steps     {result.steps:,} over {result.rows:,} rows and {result.tokens:,} tokens",
        f"  time      {result.seconds:.0f} s, ended by {result.stopped}",
        f"  loss      {result.loss:.3f} bits per token",
        f"  held out  {held_out}",
    ))  # fmt: skip


def _describe_rehearsal(rehearsal: DryRun) -> str:
    """The preflight checks, and the token budget of the plan, as text."""
    lines: list[str] = []
    for line in rehearsal.preflight:
        lines.append(f"{line.what:15} {line.result:6} {escape_line(line.figure)}")
        if line.hint:
            lines.append(f"{'':22} {escape_line(line.hint)}")
    budget = rehearsal.budget
    if budget is None:
        return "\n".join((*lines, "", "this training cannot work"))
    measured = ", estimated from trial steps" if rehearsal.is_measured else ""
    return "\n".join((
        *lines,
        "",
        f"steps    {budget.steps:,}{measured}: {rehearsal.epochs:.2f} epochs",
        f"rows     {budget.draws:,} drawn, {budget.fills:,} of them as fill-in-the-middle",
        f"tokens   {budget.drawn + budget.control:,} read: {budget.drawn:,} of rows, {budget.control:,} control;",
        f"         {budget.trained:,} in the loss, {budget.shown:,} only as context",
    ))  # fmt: skip


def _describe_step(step: ExplainedStep) -> str:
    """The rows of a step as text, one per line."""
    stage = f", stage {step.stage} of {step.stages}" if step.stages > 1 else ""
    lines = [f"step {step.step:,} of {step.steps:,}{stage}: {len(step.rows):,} rows, {step.tokens:,} tokens"]
    for row in step.rows:
        context = f", {row.given:,} of them only context" if row.given > 1 else ""
        fill = f" ({row.fill})" if row.fill else ""
        lines.append(
            f"  {row.place:34} {row.tokens:>6,} tokens{context}, weight {row.weight:g}, "
            f"draw {row.draw} of {row.draws}, {row.technique}{fill}, {escape_line(row.source_file)}"
        )
    return "\n".join(lines)
