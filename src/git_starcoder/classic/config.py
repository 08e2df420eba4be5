"""Reads `training_config_metal_cuda_universal.yaml`: the keys of the seeds, and other trainers' names of our keys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Self

import numpy as np
from msgspec import Meta

from git_starcoder.errors import UsageError
from git_starcoder.model.config import BUDGET_KEYS, Count, TrainConfig
from git_starcoder.registry import suggest
from git_starcoder.strict_config import Places, StrictConfig, field_types, from_values, read_mapping

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RENAMED_KEYS = {"base_model": "base", "model_size": "size", "lora_r": "lora_rank", "max_grad_norm": "clip"}
"""Keys of other trainers, and the keys of `TrainConfig` with the same meaning."""
DERIVED_KEYS = {
    "batch": "batch_size",
    "warmup": "warmup_steps",
    "tune": "use_lora",
    **dict.fromkeys(BUDGET_KEYS, "max_epochs"),
}
"""Keys of `TrainConfig` that this file may not have, because one of its own keys decides them."""
MAX_WARMUP_SHARE = 0.5
"""Largest share of the steps that is warmup: the seeds' 1,000 steps of warmup may be more than there are."""


@dataclass(frozen=True, slots=True)
class SeedKeys(StrictConfig):
    """The keys of the file that depend on the rows, or that `model.config.TrainConfig` does not have."""

    train_path: str = "training_data_effectiveness/training_data_train.jsonl"
    """The rows to train on, unless `--sequences` names others; a file in the folder of a dataset."""
    val_path: str = ""
    """Rows of the same dataset that choose the weights to keep."""
    test_path: str = ""
    """Rows of the same dataset that `--eval_only` scores."""
    batch_size: Count = 2
    """Average rows of a micro-batch."""
    gradient_accumulation_steps: Count = 1
    """Micro-batches of an optimizer step."""
    warmup_steps: Annotated[int, Meta(ge=0)] = 20
    """Steps in which the learning rate rises."""
    max_epochs: Count = 1
    """Passes over the rows, unless `--epochs` sets them."""
    use_lora: bool = False
    """Whether adapters of the base model are trained instead of all its weights."""


class SeedConfig(NamedTuple):
    """What a file of the seeds' trainer says."""

    seeds: SeedKeys
    config: TrainConfig
    """The other keys, under our names."""

    @classmethod
    def load(cls, path: Path, **flags: str | None) -> Self:
        """Read a file, and put flags over it; a flag of None is not set.

        Raises:
            UsageError: there is no such file, it is not YAML, a key is unknown, or a value is invalid.

        """
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

        Args:
            rows: Tokens and weight of each row, shape (rows, 2).
            epochs: Passes over the rows.

        """
        tokens, weights = rows.T if len(rows) else np.ones((2, 1))  # an empty dataset is reported by the training
        rows_per_step = self.seeds.batch_size * self.seeds.gradient_accumulation_steps
        batch = max(1, round(rows_per_step * float(np.average(tokens, weights=weights))))
        steps = max(1.0, epochs * float(tokens @ weights) / max(batch, float(tokens.max())))
        warmup = min(MAX_WARMUP_SHARE, self.seeds.warmup_steps / steps)
        return replace(self.config, batch=batch, warmup=warmup, epochs=float(epochs))
