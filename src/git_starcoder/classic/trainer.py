"""`training/model_trainer_unified.py`: train or evaluate with the seeds' flags, as far as the trainer of today can."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np

from git_starcoder.classic.config import Config
from git_starcoder.cli.options import PATH
from git_starcoder.errors import UsageError
from git_starcoder.text.visible import clean, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset
    from git_starcoder.rows import Split

NAMES: dict[str, Split] = {
    "training_data_train.jsonl": "train",
    "training_data_val.jsonl": "val",
    "training_data_test.jsonl": "test",
}
MODELS = Path("models")
"""Where `--eval_only` looks for a model that nobody named."""


class Told:
    """A watch that tells what a training says of itself in the words of the seeds: `Val Loss`."""

    def begin(self, step: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, count: int) -> None:
        """Nothing: a log is written, not a terminal."""

    def end(self, step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int]) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """A line; what is asked of held-out text is the loss that the seeds call `Val Loss`."""
        click.echo(clean("    " + text.replace("held-out ", "Val Loss: ")))


@click.command("model_trainer_unified.py")
@click.option("--config", type=PATH, required=True, help="YAML file: training_config_metal_cuda_universal.yaml.")
@click.option("--sequences", type=PATH, help="File of rows in a dataset's folder (default: the config's path).")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the rows (default: the config's max_epochs).")
@click.option("--output", type=PATH, help="Folder of the model to make.")
@click.option("--device", type=click.Choice(["cuda", "mps", "cpu"]), help="Where to compute (default: the best).")
@click.option("--eval_only", is_flag=True, help="Train nothing; score a model on the test rows.")
@click.option("--checkpoint", type=PATH, help="The model to score.")
@click.option("--force", is_flag=True, help="Replace a model that is there.")
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
    """Train a small model from scratch on the rows of a dataset, or score one."""
    loaded = Config.load(config)
    dataset, split = _rows(sequences or Path(loaded.test_path if eval_only else loaded.train_path), loaded)
    wanted = "test" if eval_only else "train"
    if split != wanted:
        what = f"the trainer {'scores test' if eval_only else 'learns from training'} rows only"
        raise UsageError(
            what, where=f"--sequences {sequences}", hint=f"training_data_{wanted}.jsonl of the same folder"
        )
    if checkpoint and not eval_only:
        what = "the trainer cannot continue from a model yet"
        raise UsageError(what, where="--checkpoint", hint="without --checkpoint it trains from scratch")
    if not (eval_only or output):
        raise UsageError("a training needs a folder for its model", where="--output", hint="--output models/NAME")
    _settle(device)
    if eval_only:
        _score(dataset, checkpoint or output or _newest(dataset))
    else:
        _train(dataset, loaded, epochs or loaded.max_epochs, output or Path(), force=force)


def _rows(sequences: Path, config: Config) -> tuple[Dataset, Split]:
    """The dataset that a file of rows lies in, and its split; the config must not name rows of another one."""
    from git_starcoder.dataset import Dataset

    if sequences.name not in NAMES:
        hint = f"one of {', '.join(NAMES)} in a dataset's folder"
        raise UsageError(f"'{sequences}' is no file of rows", where="--sequences", hint=hint)
    for key in ("val_path", "test_path"):
        named = getattr(config, key)
        if named and Path(named).resolve() != sequences.resolve().parent / f"training_data_{key[:-5]}.jsonl":
            what = f"{key} is '{named}', which is not of the dataset of '{sequences}'"
            hint = "what is held out of one dataset may be in the training rows of another: name one dataset"
            raise UsageError(what, where="--config", hint=hint)
    return Dataset.open(sequences.parent), NAMES[sequences.name]


def _settle(wanted: Literal["cuda", "mps", "cpu"] | None) -> None:
    """Make sure that the trainer, which takes the best device that it sees, takes the one that is wanted."""
    from git_starcoder.model.network import device

    if wanted == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # torch is not loaded yet
    there = device()
    if wanted and there != wanted:
        hint = f"this machine would compute on '{there}'"
        raise UsageError(f"'{wanted}' cannot be used here", where="--device", hint=hint)


def _train(dataset: Dataset, config: Config, epochs: int, output: Path, *, force: bool) -> None:
    from git_starcoder.model.optimise import Settings
    from git_starcoder.model.train import train

    drawn = np.array([(about["length"], about["weight"]) for about in dataset.about("train")]).reshape(-1, 2)
    rows = len(drawn)
    steps = max(1, round(epochs * rows / config.batch_size))
    settings = Settings(
        batch=_tokens(drawn, config.batch_size), learning_rate=config.learning_rate, warmup=config.warmup_steps / steps
    )
    click.echo(f"[STEP 1/3] Reading {rows:,} rows of {one_line(str(dataset.folder))}...")
    click.echo(f"[STEP 2/3] Training: {epochs:,} epochs, {steps:,} steps of about {settings.batch:,} tokens...")
    size, seed = config.model_size, config.seed
    result = train(dataset, output, steps=steps, size=size, seed=seed, settings=settings, watch=Told(), force=force)
    click.echo(f"[STEP 3/3] Saved {one_line(str(output))}")
    held_out = "not known: nothing is held out" if result.held_out is None else f"{result.held_out:.3f} bits/byte"
    click.echo(f"  Steps: {result.steps:,} over {result.rows:,} rows ({result.rows / max(1, rows):.1f} epochs)")
    click.echo(f"  Train Loss: {result.loss:.3f} bits/token\n  Val Loss: {held_out}\n  Ended by: {result.stopped}")


def _tokens(drawn: NDArray[np.float64], rows: int) -> int:
    """Tokens of a step, at least, that make it have so many rows on average.

    `drawn` has shape (rows, 2): tokens of a row, and how often it is drawn. A step ends with a whole row, which goes
    beyond its tokens by half a row as they are met there, where long ones are met more often.
    """
    if not len(drawn):
        return 1  # the training says what is wrong
    tokens, weights = drawn.T
    mean = np.average(tokens, weights=weights)
    beyond = np.average(tokens**2, weights=weights) / (2 * mean)
    return max(1, round(rows * mean - beyond))


def _newest(dataset: Dataset) -> Path:
    """The model in `models/` that was trained on this dataset last."""
    found = [path for path in MODELS.glob("*/training.json") if _dataset_of(path) == dataset.digest]
    if not found:
        what = f"no model in '{MODELS}' was trained on '{dataset.folder}'"
        raise UsageError(what, where="--eval_only", hint="--checkpoint names one")
    folder = max(found, key=lambda path: (path.stat().st_mtime_ns, path)).parent
    click.echo(f"No --checkpoint: {one_line(str(folder))} is the newest model of this dataset")
    return folder


def _dataset_of(training: Path) -> Any:
    try:
        return json.loads(training.read_text(encoding="utf-8")).get("dataset")
    except (OSError, ValueError, AttributeError):
        return None  # not a model of ours


def _score(dataset: Dataset, model: Path) -> None:
    from git_starcoder.model.evaluate import evaluate, table

    click.echo(f"[STEP 1/1] Scoring {one_line(str(model))} on the test rows...")
    scores = evaluate(model, dataset)
    if scores.split == "test":
        own = next(score for score in scores.scores if score.measure == "bits per byte")
        click.echo(f"  Test Loss: {own.value:.3f} bits/byte")
    click.echo(clean(table(scores)))
