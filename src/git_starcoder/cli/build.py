"""`git starcoder build`: a repository in, a dataset out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from git_starcoder import places
from git_starcoder.cli.options import PATH, of_build, opened_cache, opened_engine, with_seed
from git_starcoder.cli.progress import reasons
from git_starcoder.cli.talk import common, one_line

if TYPE_CHECKING:
    from git_starcoder.cli.talk import Talk
    from git_starcoder.dataset import Dataset
    from git_starcoder.errors import ExitCode
    from git_starcoder.recipe import Recipe


@click.command("build")
@of_build
@click.option("--format", "form", type=click.Choice(["jsonl", "parquet"]), help="Shorthand for --set write.format=F.")
@click.option("--copies", is_flag=True, help="Write training rows as often as they weigh.")
@click.option("--labels", is_flag=True, help="Write input_ids, attention_mask and labels, too.")
@click.option("-o", "--out", type=PATH, help="Folder to make (default: training_data_<recipe>).")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be built; write nothing.")
@click.option("--force", is_flag=True, help="Build again, also where the dataset is up to date.")
@common
def command(
    talk: Talk,
    repo: Path,
    rev: str,
    name: str,
    overrides: tuple[str, ...],
    seed: int | None,
    jobs: int | None,
    cached: bool,
    form: str | None,
    copies: bool,
    labels: bool,
    out: Path | None,
    dry_run: bool,
    force: bool,
) -> ExitCode:
    """Build a training dataset from a Git repository.

    REPO is its folder (default: the current one). Its code is only read, never run.
    """
    from git_starcoder.dataset.read_rows import import_pyarrow
    from git_starcoder.git.objects import Repo
    from git_starcoder.pipeline import build
    from git_starcoder.recipe import Recipe

    short = {"write.format": form, "write.copies": copies and "true", "write.labels": labels and "true"}
    overrides = (*overrides, *(f"{key}={value}" for key, value in short.items() if value))
    recipe = Recipe.load(name, with_seed(overrides, seed))
    if recipe.write.format == "parquet":
        import_pyarrow()  # missing, it should be missed now and not after all the work
    out = out or Path(f"training_data_{file_name(recipe)}")
    if not dry_run:
        places.prefer(out)
    opened = Repo.open(repo, rev)
    with talk.watch() as watch, opened_engine(watch, jobs) as engine, opened_cache(watch, wanted=cached) as cache:
        if dry_run:
            from git_starcoder.cli.plan import plan

            planned = plan(opened, recipe, engine, watch)
            return talk.answer({"plan": planned.values(), "out": str(out)}, planned.text(out))
        dataset = build(opened, recipe, out, engine=engine, progress=watch, cache=cache, force=force)
    return talk.answer({"out": str(out), **as_values(dataset), "notes": opened.notes}, text(dataset, out))


def file_name(recipe: Recipe) -> str:
    """The recipe's name as part of a folder's name."""
    return re.sub(r"[^\w.-]+", "_", recipe.name)


def as_values(dataset: Dataset) -> dict[str, Any]:
    """The dataset for `--json`."""
    return {"digest": dataset.digest, "metadata": dataset.metadata, "steps": dataset.manifest["steps"]}


def text(dataset: Dataset, out: Path) -> str:
    """The folder, its rows by split, its size, and what was dropped."""
    from git_starcoder.records import SPLITS

    said = dataset.metadata
    size = sum(file["bytes"] for file in dataset.manifest["files"].values())
    rows = ", ".join(f"{split} {said[f'{split}_sequences']:,}" for split in SPLITS)
    windows = ", ".join(f"{size:,}" for size in said["context_windows"])
    lines = [
        one_line(str(out)),
        f"  rows    {said['total_sequences']:,}: {rows}",
        f"  tokens  {said['total_tokens']:,} in windows of {windows}",
        f"  bytes   {size:,}",
    ]
    for step in dataset.manifest["steps"]:
        if step["dropped"]:
            lines.append(
                f"  {step['step']:8}kept {step['kept']:,} of {step['seen']:,}; "
                f"dropped {reasons(step['dropped'], verbose=True)}"
            )
        if step["figures"].get("fallback", "none") != "none":
            lines.append(f"  {step['step']:8}the files cannot be parted as asked: {step['figures']['fallback']}")
    return "\n".join(lines)
