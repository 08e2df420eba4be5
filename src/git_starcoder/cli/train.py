"""`git starcoder train`: a dataset in, a model out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from git_starcoder import user_paths
from git_starcoder.cli.options import PATH
from git_starcoder.cli.talk import common, escape_line
from git_starcoder.errors import ExitCode

if TYPE_CHECKING:
    from git_starcoder.cli.talk import Talk
    from git_starcoder.model.train.dry_run import DryRun, ExplainedStep
    from git_starcoder.model.train.training import TrainResult


@click.command("train")
@click.argument("dataset", type=PATH)
@click.option("-o", "--out", type=PATH, help="Folder to make (default: model_<recipe>).")
@click.option("--config", type=PATH, help="YAML file with training keys; flags go over it.")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a training key, such as dropout=0.1."
)
@click.option("--minutes", type=float, help="How long to train (default: 8, unless another budget is given).")
@click.option("--steps", type=int, help="How many steps to train.")
@click.option("--epochs", type=float, help="How many passes over the rows.")
@click.option("--tokens", type=float, help="How many tokens to train on.")
@click.option(
    "--size",
    help="Of a model from scratch: tiny, small, medium, large, huge (4M, 28M, 90M, 350M, 1B parameters), or a number "
    "such as 124M (default: tiny).",
)
@click.option("--base", help="A causal model to go on from: a folder, or a Hugging Face id.")
@click.option(
    "--tune",
    type=click.Choice(["full", "lora", "qlora"]),
    help="What of the base is trained: all, or adapters beside it; qlora keeps it in 4 bits (default: full).",
)
@click.option(
    "--order",
    type=click.Choice(["curriculum", "shuffled"]),
    help="Order of the rows: from simple to complex as the dataset says (default), or shuffled.",
)
@click.option("--device", type=click.Choice(["cuda", "mps", "cpu"]), help="Where to compute (default: the best).")
@click.option("--seed", type=int, help="Seed of the first weights and of the order of rows (default: 0).")
@click.option("--fresh", is_flag=True, help="Begin at the beginning, also where an unfinished training could go on.")
@click.option("--force", is_flag=True, help="Replace a model that is there.")
@click.option("-n", "--dry-run", is_flag=True, help="Look whether it can work, and say what would be trained on.")
@click.option("--explain-step", type=click.IntRange(1), metavar="N", help="Show what step N trains on; train nothing.")
@common
def command(
    talk: Talk,
    dataset: Path,
    out: Path | None,
    config: Path | None,
    overrides: tuple[str, ...],
    fresh: bool,
    force: bool,
    dry_run: bool,
    explain_step: int | None,
    **flags: Any,
) -> ExitCode:
    """Train a model on a dataset: from scratch, or on from another.

    DATASET is the folder that `build` made. A training that was interrupted goes on where it was, exactly, when
    the same command is given again.
    """
    from git_starcoder.cli.build import file_name
    from git_starcoder.dataset import Dataset
    from git_starcoder.model.config import TrainConfig
    from git_starcoder.recipe import Recipe

    loaded = TrainConfig.load(config, overrides, **flags)
    opened = Dataset.open(dataset)
    out = out or Path(f"model_{file_name(Recipe.load(dataset / 'recipe.yaml'))}")
    user_paths.offer_temporary_folder(out)
    if explain_step is not None:
        from git_starcoder.model.train.dry_run import explain_training_step

        step = explain_training_step(opened, loaded, explain_step)
        return talk.answer(step.as_values(), _rows(step))
    if dry_run:
        from git_starcoder.model.train.dry_run import preview_training

        found = preview_training(opened, out, loaded)
        values = {"out": str(out), "config": asdict(loaded), **found.as_values()}
        return talk.answer(values, _planned(found), ExitCode.SUCCESS if found.budget else ExitCode.USAGE_ERROR)
    from git_starcoder.model.train.distributed import read_process_group
    from git_starcoder.model.train.training import train

    with talk.watch() as watch:
        watch.begin("prepare", None)  # reading, looking before it and trying steps take their time
        result = train(opened, out, loaded, progress=watch, force=force, fresh=fresh)
    if not read_process_group().is_first:  # of those that torchrun started, one tells
        return ExitCode.SUCCESS
    return talk.answer(as_values(result), text(result))


def as_values(result: TrainResult) -> dict[str, Any]:
    """The training for `--json`."""
    return asdict(result)


def text(result: TrainResult) -> str:
    """The folder, and what the training came to."""
    held_out = "not known" if result.held_out is None else f"{result.held_out:.3f} bits per byte"
    return "\n".join((
        escape_line(str(result.folder)),
        f"  steps     {result.steps:,} over {result.rows:,} rows and {result.tokens:,} tokens",
        f"  time      {result.seconds:.0f} s, ended by {result.stopped}",
        f"  loss      {result.loss:.3f} bits per token",
        f"  held out  {held_out}",
    ))  # fmt: skip


def _planned(found: DryRun) -> str:
    """What was looked at, and where the tokens would go."""
    lines: list[str] = []
    for line in found.preflight:
        lines.append(f"{line.what:15} {line.result:6} {escape_line(line.figure)}")
        if line.hint:
            lines.append(f"{'':22} {escape_line(line.hint)}")
    ledger = found.budget
    if ledger is None:
        return "\n".join((*lines, "", "nothing can be trained"))
    about = ", as measured now" if found.is_measured else ""
    read = ledger.drawn + ledger.control
    return "\n".join((
        *lines,
        "",
        f"steps    {ledger.steps:,}{about}: {found.epochs:.2f} epochs",
        f"rows     {ledger.draws:,} drawn, {ledger.fills:,} of them to fill in a middle",
        f"tokens   {ledger.drawn:,} drawn and {ledger.control:,} of control added, read {read:,},",
        f"         of which {ledger.trained:,} are trained on and {ledger.shown:,} only shown",
    ))  # fmt: skip


def _rows(step: ExplainedStep) -> str:
    """A line for each row of a step."""
    stage = f", stage {step.stage} of {step.stages}" if step.stages > 1 else ""
    lines = [f"step {step.step:,} of {step.steps:,}{stage}: {len(step.rows):,} rows, {step.tokens:,} tokens"]
    for row in step.rows:
        shown = f", {row.given:,} of them only shown" if row.given > 1 else ""
        lines.append(
            f"  {row.place:34} {row.tokens:>6,} tokens{shown}, weight {row.weight:g}, draw {row.draw} of {row.draws}, "
            f"{row.technique}{f' ({row.fill})' if row.fill else ''}, {escape_line(row.source_file)}"
        )
    return "\n".join(lines)
