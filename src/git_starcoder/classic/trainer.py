"""`training/model_trainer_unified.py`: train, go on with a training or a model, or evaluate, with the seeds' flags."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from git_starcoder.cli.options import PATH
from git_starcoder.errors import UsageError
from git_starcoder.places import expanded
from git_starcoder.text.visible import clean, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_starcoder.classic.config import Loaded, Seeds
    from git_starcoder.dataset import Dataset
    from git_starcoder.records import Split

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
@click.option("--checkpoint", type=PATH, help="A model to go on from or to score, or the output of an unfinished one.")
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
    """Train a model on the rows of a dataset, or score one."""
    from git_starcoder.classic.config import Loaded

    base = None
    if checkpoint and not eval_only:
        if _unfinished(checkpoint):
            if output and output.resolve() != checkpoint.resolve():
                what = f"the training of '{checkpoint}' is not finished, so there is nothing to go on from elsewhere"
                raise UsageError(what, where="--output", hint=f"--output {checkpoint} goes on with it")
            output = checkpoint
        else:
            base = str(checkpoint)
    loaded = Loaded.load(config, base=base, device=device)
    seeds = loaded.seeds
    dataset, split = _rows(sequences or expanded(seeds.test_path if eval_only else seeds.train_path), seeds)
    wanted = "test" if eval_only else "train"
    if split != wanted:
        what = f"the trainer {'scores test' if eval_only else 'learns from training'} rows only"
        raise UsageError(
            what, where=f"--sequences {sequences}", hint=f"training_data_{wanted}.jsonl of the same folder"
        )
    if not (eval_only or output):
        raise UsageError("a training needs a folder for its model", where="--output", hint="--output models/NAME")
    _settle(device)
    if eval_only:
        _score(dataset, checkpoint or output or _newest(dataset))
    else:
        _train(dataset, loaded, epochs or seeds.max_epochs, output or Path(), force=force)


def _rows(sequences: Path, config: Seeds) -> tuple[Dataset, Split]:
    """The dataset that a file of rows lies in, and its split; the config must not name rows of another one."""
    from git_starcoder.dataset import Dataset

    if sequences.name not in NAMES:
        hint = f"one of {', '.join(NAMES)} in a dataset's folder"
        raise UsageError(f"'{sequences}' is no file of rows", where="--sequences", hint=hint)
    for key in ("val_path", "test_path"):
        named = getattr(config, key)
        if named and expanded(named).resolve() != sequences.resolve().parent / f"training_data_{key[:-5]}.jsonl":
            what = f"{key} is '{named}', which is not of the dataset of '{sequences}'"
            hint = "what is held out of one dataset may be in the training rows of another: name one dataset"
            raise UsageError(what, where="--config", hint=hint)
    return Dataset.open(sequences.parent), NAMES[sequences.name]


def _settle(wanted: Literal["cuda", "mps", "cpu"] | None) -> None:
    """Make sure that a model, which takes the best device that it sees, takes the one that is wanted."""
    from git_starcoder.model.network import device

    if wanted == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # torch is not loaded yet
    there = device()
    if wanted and there != wanted:
        hint = f"this machine would compute on '{there}'"
        raise UsageError(f"'{wanted}' cannot be used here", where="--device", hint=hint)


def _unfinished(checkpoint: Path) -> bool:
    """Whether a model is not there yet, but checkpoints of its training are: it is gone on with."""
    from git_starcoder.model.checkpoint import place
    from git_starcoder.model.load import TRAINING

    return not (checkpoint / TRAINING).exists() and place(checkpoint).is_dir()


def _train(dataset: Dataset, loaded: Loaded, epochs: int, output: Path, *, force: bool) -> None:
    import numpy as np

    from git_starcoder.model.train import train

    drawn = np.array([(about["length"], about["weight"]) for about in dataset.row_metadata("train")]).reshape(-1, 2)
    config = loaded.config_for(drawn, epochs)
    once = float(drawn[:, 1].sum()) or 1.0
    click.echo(f"[STEP 1/3] Reading {len(drawn):,} rows of {one_line(str(dataset.folder))}...")
    click.echo(f"[STEP 2/3] Training: {epochs:,} epochs of {once:,.0f} rows, about {config.batch:,} tokens a step...")
    result = train(dataset, output, config, progress=Told(), force=force)
    click.echo(f"[STEP 3/3] Saved {one_line(str(output))}")
    held_out = "not known: nothing is held out" if result.held_out is None else f"{result.held_out:.3f} bits/byte"
    click.echo(f"  Steps: {result.steps:,} over {result.rows:,} rows ({result.rows / once:.1f} epochs)")
    click.echo(f"  Train Loss: {result.loss:.3f} bits/token\n  Val Loss: {held_out}\n  Ended by: {result.stopped}")
    if result.stopped != "budget":
        click.echo(f"  Note: the rest of the {epochs:,} epochs would have made it worse; the best weights are kept")


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
    from git_starcoder.model.evaluate import evaluate, keep, table

    click.echo(f"[STEP 1/1] Scoring {one_line(str(model))} on the test rows...")
    scores = evaluate(model, dataset)
    keep(scores, model)
    if scores.split == "test":
        own = next(score for score in scores.scores if score.measure == "bits per byte")
        click.echo(f"  Test Loss: {own.value:.3f} bits/byte")
    click.echo(clean(table(scores)))
