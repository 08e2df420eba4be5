"""Implements `training/model_trainer_unified.py`: train, resume, continue from a model, or evaluate.

Its config, `training_config_metal_cuda_universal.yaml`, has the keys of the seeds, and other trainers' names of ours.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

import click
import numpy as np
from msgspec import Meta

from git_starcoder.cli.shared_options import PATH_TYPE
from git_starcoder.errors import UsageError
from git_starcoder.model.config import BUDGET_KEYS, Count, TrainConfig
from git_starcoder.protocols import Progress
from git_starcoder.records import SPLITS
from git_starcoder.registry import suggest
from git_starcoder.strict_config import Places, StrictConfig, field_types, from_values, read_mapping
from git_starcoder.text.visible import escape_line, escape_unsafe
from git_starcoder.user_paths import expand_user

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset
    from git_starcoder.records import Split

SPLIT_OF_FILE: dict[str, Split] = {f"training_data_{split}.jsonl": split for split in SPLITS}
MODELS_FOLDER = Path("models")
"""The folder in which `--eval_only` looks for a model if none is named."""
RENAMED_KEYS = {"base_model": "base", "model_size": "size", "lora_r": "lora_rank", "max_grad_norm": "clip"}
"""Keys of other trainers, and the keys of `TrainConfig` with the same meaning."""
DERIVED_KEYS = {
    "batch": "batch_size", "warmup": "warmup_steps", "tune": "use_lora", **dict.fromkeys(BUDGET_KEYS, "max_epochs")
}  # fmt: skip
"""Keys of `TrainConfig` that this file may not have, because one of its own keys decides them."""
MAX_WARMUP_SHARE = 0.5
"""Largest share of the steps that is warmup: the seeds' 1,000 steps of warmup may be more than there are."""


@dataclass(frozen=True, slots=True)
class SeedKeys(StrictConfig):
    """The keys of the file that depend on the rows, or that `model.config.TrainConfig` does not have."""

    train_path: str = "training_data_effectiveness/training_data_train.jsonl"
    """File with the training rows, in the folder of a dataset. The flag `--sequences` overrides it."""
    val_path: str = ""
    """File with the validation rows of the same dataset. The weights with the lowest validation loss are kept."""
    test_path: str = ""
    """File with the test rows of the same dataset, which `--eval_only` scores."""
    batch_size: Count = 2
    """Average number of rows in a micro-batch."""
    gradient_accumulation_steps: Count = 1
    """Number of micro-batches in an optimizer step."""
    warmup_steps: Annotated[int, Meta(ge=0)] = 20
    """Steps in which the learning rate rises."""
    max_epochs: Count = 1
    """Passes over the rows, unless `--epochs` sets them."""
    use_lora: bool = False
    """Whether adapters of the base model are trained instead of all its weights."""


class SeedConfig(NamedTuple):
    """What a file of the seeds' trainer says: `config` has the keys that are not the seeds', under our names."""

    seeds: SeedKeys
    config: TrainConfig

    @classmethod
    def load(cls, path: Path, **flags: str | None) -> Self:
        """Read a file, and put flags over it; a flag of None is not set."""
        values = read_mapping(path, f"'{path}'", f"--config {path}")
        seed_keys, our_keys = field_types(SeedKeys), field_types(TrainConfig)
        known = [*seed_keys, *RENAMED_KEYS, *(key for key in our_keys if key not in DERIVED_KEYS)]
        for key in values:
            if key not in known:
                hint = f"here it is '{DERIVED_KEYS[key]}'" if key in DERIVED_KEYS else suggest(key, known)
                raise UsageError(f"unknown key '{key}'", where=str(path), hint=hint)
            if key in RENAMED_KEYS and RENAMED_KEYS[key] in values:
                raise UsageError(f"'{key}' and '{RENAMED_KEYS[key]}' are the same key", where=str(path))
        places = Places(str(path))
        seeds = from_values(SeedKeys, {key: value for key, value in values.items() if key in seed_keys}, places)
        ours: dict[str, Any] = {"tune": "lora"} if seeds.use_lora else {}
        ours |= {RENAMED_KEYS.get(key, key): value for key, value in values.items() if key not in seed_keys}
        for key, value in flags.items():
            if value is not None:
                ours[key], places.of_keys[key] = value, f"--{key}"
        return cls(seeds, from_values(TrainConfig, ours, places))

    def config_for(self, rows: NDArray[np.float64], epochs: int) -> TrainConfig:
        """The training config for the rows of a dataset.

        The average step has `batch_size` x `gradient_accumulation_steps` rows, each drawn as often as its weight says.
        `rows` has the tokens and the weight of each, shape (rows, 2).
        """
        tokens, weights = rows.T if len(rows) else np.ones((2, 1))  # an empty dataset is reported by the training
        rows_per_step = self.seeds.batch_size * self.seeds.gradient_accumulation_steps
        batch = max(1, round(rows_per_step * float(np.average(tokens, weights=weights))))
        steps = max(1.0, epochs * float(tokens @ weights) / max(batch, float(tokens.max())))
        warmup = min(MAX_WARMUP_SHARE, self.seeds.warmup_steps / steps)
        return replace(self.config, batch=batch, warmup=warmup, epochs=float(epochs))


class SeedProgress(Progress):
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
    base = None
    if checkpoint and not eval_only:
        from git_starcoder.model.checkpoint import checkpoint_folder
        from git_starcoder.model.loading import TRAINING_RECORD

        if (checkpoint / TRAINING_RECORD).exists() or not checkpoint_folder(checkpoint).is_dir():
            base = str(checkpoint)
        elif output and output.resolve() != checkpoint.resolve():
            what = f"the training of '{checkpoint}' is not finished, so no other training can continue from it"
            raise UsageError(what, where="--output", hint=f"--output {checkpoint} resumes it")
        else:
            output = checkpoint
    loaded = SeedConfig.load(config, base=base, device=device)
    seeds = loaded.seeds
    path = sequences or expand_user(seeds.test_path if eval_only else seeds.train_path)
    dataset, split = _dataset_and_split(path, seeds)
    wanted = "test" if eval_only else "train"
    if split != wanted:
        what = f"the trainer {'scores test' if eval_only else 'learns from training'} rows only"
        hint = f"training_data_{wanted}.jsonl of the same folder"
        raise UsageError(what, where=f"--sequences {sequences}", hint=hint)
    if not (eval_only or output):
        raise UsageError("a training needs a folder for its model", where="--output", hint="--output models/NAME")
    _select_device(device)
    if eval_only:
        _score(dataset, checkpoint or output or _newest_model(dataset))
    else:
        _train(dataset, loaded, epochs or seeds.max_epochs, output or Path(), force=force)


def _dataset_and_split(sequences: Path, config: SeedKeys) -> tuple[Dataset, Split]:
    """The dataset and the split of a split file, if the config names rows of the same dataset."""
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
    """Make the model, which takes the best visible device, take the wanted one."""
    from git_starcoder.model.devices import best_device

    if wanted == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # torch is not loaded yet
    best = best_device()
    if wanted and best != wanted:
        hint = f"the best device of this machine is '{best}'"
        raise UsageError(f"'{wanted}' cannot be used here", where="--device", hint=hint)


def _train(dataset: Dataset, loaded: SeedConfig, epochs: int, output: Path, *, force: bool) -> None:
    """Train a model, and print the result in the words of the seeds."""
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
    """The newest model in `models/` that was trained on this dataset."""
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
