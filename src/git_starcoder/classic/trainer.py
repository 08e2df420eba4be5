"""Implements `training/model_trainer_unified.py`: train, resume, continue from a model, or evaluate."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from git_starcoder.cli.commands import PATH_TYPE
from git_starcoder.errors import UsageError
from git_starcoder.protocols import NoProgress
from git_starcoder.text.visible import escape_line, escape_unsafe
from git_starcoder.user_paths import expand_user

if TYPE_CHECKING:
    from git_starcoder.classic.config import SeedConfig, SeedKeys
    from git_starcoder.dataset import Dataset
    from git_starcoder.records import Split

SPLIT_OF_FILE: dict[str, Split] = {
    "training_data_train.jsonl": "train",
    "training_data_val.jsonl": "val",
    "training_data_test.jsonl": "test",
}
MODELS_FOLDER = Path("models")
"""The folder in which `--eval_only` looks for a model if none is named."""


class SeedProgress(NoProgress):
    """Prints the messages of a training in the words of the seeds (`Val Loss`)."""

    def note(self, text: str) -> None:
        """Print the message; the seeds call the loss on held-out text `Val Loss`."""
        click.echo(escape_unsafe("    " + text.replace("held-out ", "Val Loss: ")))


@click.command("model_trainer_unified.py")
@click.option("--config", type=PATH_TYPE, required=True, help="YAML file: training_config_metal_cuda_universal.yaml.")
@click.option("--sequences", type=PATH_TYPE, help="File of rows in a dataset's folder (default: the config's path).")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the rows (default: the config's max_epochs).")
@click.option("--output", type=PATH_TYPE, help="Folder of the model.")
@click.option(
    "--device", type=click.Choice(["cuda", "mps", "cpu"]), help="Where to compute (default: the best device)."
)
@click.option("--eval_only", is_flag=True, help="Train nothing; score a model on the test rows.")
@click.option(
    "--checkpoint",
    type=PATH_TYPE,
    help="A model to continue from or to score, or the output of an unfinished training to resume.",
)
@click.option("--force", is_flag=True, help="Replace an existing model.")
def command(
    config: Path,
    sequences: Path | None,
    epochs: int | None,
    output: Path | None,
    device: Literal["cuda", "mps", "cpu"] | None,
    eval_only: bool,
    checkpoint: Path | None,
    force: bool,
) -> None:
    """Train a model on the rows of a dataset, or score one."""
    from git_starcoder.classic.config import SeedConfig

    base = None
    if checkpoint and not eval_only:
        if _is_unfinished(checkpoint):
            if output and output.resolve() != checkpoint.resolve():
                what = f"the training of '{checkpoint}' is not finished, so no other training can continue from it"
                raise UsageError(what, where="--output", hint=f"--output {checkpoint} resumes it")
            output = checkpoint
        else:
            base = str(checkpoint)
    loaded = SeedConfig.load(config, base=base, device=device)
    seeds = loaded.seeds
    dataset, split = _dataset_and_split(
        sequences or expand_user(seeds.test_path if eval_only else seeds.train_path), seeds
    )
    wanted = "test" if eval_only else "train"
    if split != wanted:
        what = f"the trainer {'scores test' if eval_only else 'learns from training'} rows only"
        raise UsageError(
            what, where=f"--sequences {sequences}", hint=f"training_data_{wanted}.jsonl of the same folder"
        )
    if not (eval_only or output):
        raise UsageError("a training needs a folder for its model", where="--output", hint="--output models/NAME")
    _select_device(device)
    if eval_only:
        _score(dataset, checkpoint or output or _newest_model(dataset))
    else:
        _train(dataset, loaded, epochs or seeds.max_epochs, output or Path(), force=force)


def _dataset_and_split(sequences: Path, config: SeedKeys) -> tuple[Dataset, Split]:
    """The dataset and the split of a split file.

    Raises:
        UsageError: it is not a split file, or the config names rows of another dataset.

    """
    from git_starcoder.dataset import Dataset

    if sequences.name not in SPLIT_OF_FILE:
        hint = f"one of {', '.join(SPLIT_OF_FILE)} in a dataset's folder"
        raise UsageError(f"'{sequences}' is not a split file", where="--sequences", hint=hint)
    for key in ("val_path", "test_path"):
        named = getattr(config, key)
        if named and expand_user(named).resolve() != sequences.resolve().parent / f"training_data_{key[:-5]}.jsonl":
            what = f"{key} is '{named}', which is not of the dataset of '{sequences}'"
            hint = "use files of one dataset: held-out text of one may be in the training rows of another"
            raise UsageError(what, where="--config", hint=hint)
    return Dataset.open(sequences.parent), SPLIT_OF_FILE[sequences.name]


def _select_device(wanted: Literal["cuda", "mps", "cpu"] | None) -> None:
    """Make the model, which takes the best visible device, take the wanted one.

    Raises:
        UsageError: this machine does not have the device.

    """
    from git_starcoder.model.network import best_device

    if wanted == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # torch is not loaded yet
    best = best_device()
    if wanted and best != wanted:
        hint = f"the best device of this machine is '{best}'"
        raise UsageError(f"'{wanted}' cannot be used here", where="--device", hint=hint)


def _is_unfinished(checkpoint: Path) -> bool:
    """Whether there is no model yet, but checkpoints of its training, which can be resumed."""
    from git_starcoder.model.checkpoint import checkpoint_folder
    from git_starcoder.model.loading import TRAINING_RECORD

    return not (checkpoint / TRAINING_RECORD).exists() and checkpoint_folder(checkpoint).is_dir()


def _train(dataset: Dataset, loaded: SeedConfig, epochs: int, output: Path, *, force: bool) -> None:
    """Train a model, and print the result in the words of the seeds."""
    import numpy as np

    from git_starcoder.model.training import train

    rows = np.array([(about["length"], about["weight"]) for about in dataset.row_metadata("train")]).reshape(-1, 2)
    config = loaded.config_for(rows, epochs)
    rows_per_epoch = float(rows[:, 1].sum()) or 1.0
    click.echo(f"[STEP 1/3] Reading {len(rows):,} rows of {escape_line(str(dataset.folder))}...")
    click.echo(
        f"[STEP 2/3] Training: {epochs:,} epochs of {rows_per_epoch:,.0f} rows, about {config.batch:,} tokens a step..."
    )
    result = train(dataset, output, config, progress=SeedProgress(), force=force)
    click.echo(f"[STEP 3/3] Saved {escape_line(str(output))}")
    held_out = "not known: nothing is held out" if result.held_out is None else f"{result.held_out:.3f} bits/byte"
    click.echo(f"  Steps: {result.steps:,} over {result.rows:,} rows ({result.rows / rows_per_epoch:.1f} epochs)")
    click.echo(f"  Train Loss: {result.loss:.3f} bits/token\n  Val Loss: {held_out}\n  Ended by: {result.stopped}")
    if result.stopped != "budget":
        click.echo(f"  Note: training ended before {epochs:,} epochs; the best weights are kept")


def _newest_model(dataset: Dataset) -> Path:
    """The newest model in `models/` that was trained on this dataset.

    Raises:
        UsageError: there is none.

    """
    found = [path for path in MODELS_FOLDER.glob("*/training.json") if _dataset_digest(path) == dataset.digest]
    if not found:
        what = f"no model in '{MODELS_FOLDER}' was trained on '{dataset.folder}'"
        raise UsageError(what, where="--eval_only", hint="--checkpoint names one")
    folder = max(found, key=lambda path: (path.stat().st_mtime_ns, path)).parent
    click.echo(f"No --checkpoint: {escape_line(str(folder))} is the newest model of this dataset")
    return folder


def _dataset_digest(training: Path) -> Any:
    """The digest of the dataset of a model; None if the file is not `training.json` of a git-starcoder model."""
    try:
        return json.loads(training.read_text(encoding="utf-8")).get("dataset")
    except (OSError, ValueError, AttributeError):
        return None


def _score(dataset: Dataset, model: Path) -> None:
    """Evaluate a model, and print the scores in the words of the seeds."""
    from git_starcoder.model.evaluate import evaluate, format_scores, save_scores

    click.echo(f"[STEP 1/1] Scoring {escape_line(str(model))} on the test rows...")
    scores = evaluate(model, dataset)
    save_scores(scores, model)
    if scores.split == "test":
        own = next(score for score in scores.scores if score.measure == "bits per byte")
        click.echo(f"  Test Loss: {own.value:.3f} bits/byte")
    click.echo(escape_unsafe(format_scores(scores)))
