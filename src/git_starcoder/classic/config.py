"""`training_config_metal_cuda_universal.yaml`: the keys of the seeds, and what other trainers call the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple, Self

import numpy as np
from pydantic import Field

from git_starcoder.errors import UsageError
from git_starcoder.model.config import BUDGET_KEYS, Count, Strict, TrainConfig, read
from git_starcoder.registry import suggest

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RENAMED_KEYS = {"base_model": "base", "model_size": "size", "lora_r": "lora_rank", "max_grad_norm": "clip"}
"""Keys of other trainers, and what they are called with us."""
DERIVED_KEYS = {
    "batch": "batch_size",
    "warmup": "warmup_steps",
    "tune": "use_lora",
    **dict.fromkeys(BUDGET_KEYS, "max_epochs"),
}
"""Keys of ours that a key of this file decides."""
MAX_WARMUP_SHARE = 0.5
"""Share of the steps: the seeds' 1,000 steps of warmup may be more than there are."""


class SeedKeys(Strict):
    """The keys of the file that the rows are needed for, or that have no like in `model.config.Config`."""

    train_path: str = "training_data_effectiveness/training_data_train.jsonl"
    """Rows to learn from, unless `--sequences` names others. They lie in a dataset's folder."""
    val_path: str = ""
    """Rows of the same dataset by which the kept weights are chosen."""
    test_path: str = ""
    """Rows of the same dataset on which `--eval_only` scores."""
    batch_size: Count = 2
    """Rows that go through together, on average."""
    gradient_accumulation_steps: Count = 1
    """How often they do in a step."""
    warmup_steps: Annotated[int, Field(ge=0)] = 20
    """Steps in which the learning rate rises."""
    max_epochs: Count = 1
    """Passes over the rows, unless `--epochs` says."""
    use_lora: bool = False
    """Whether adapters of the base model are trained, not all of it."""


class SeedConfig(NamedTuple):
    """What a file says."""

    seeds: SeedKeys
    config: TrainConfig
    """The rest of it, in our words."""

    @classmethod
    def load(cls, path: Path, **flags: str | None) -> Self:
        """Read a file, and let flags go over it; one of None says nothing.

        Raises:
            UsageError: no file, not YAML, an unknown key, or a value that cannot be.

        """
        values = read(path)
        known = [
            *SeedKeys.model_fields,
            *RENAMED_KEYS,
            *(key for key in TrainConfig.model_fields if key not in DERIVED_KEYS),
        ]
        for key in values:
            if key not in known:
                hint = f"here it is '{DERIVED_KEYS[key]}'" if key in DERIVED_KEYS else suggest(key, known)
                raise UsageError(f"unknown key '{key}'", where=str(path), hint=hint)
        own = {key: value for key, value in values.items() if key in SeedKeys.model_fields}
        ours = {RENAMED_KEYS.get(key, key): value for key, value in values.items() if key not in own}
        if len(ours) < len(values) - len(own):
            twice = next(key for key in RENAMED_KEYS if key in values and RENAMED_KEYS[key] in values)
            raise UsageError(f"'{twice}' and '{RENAMED_KEYS[twice]}' are the same key", where=str(path))
        seeds = SeedKeys.of(own, dict.fromkeys(own, str(path)))
        if seeds.use_lora:
            ours["tune"] = "lora"
        places = dict.fromkeys(ours, str(path))
        for key, value in flags.items():
            if value is not None:
                ours[key], places[key] = value, f"--{key}"
        return cls(seeds, TrainConfig.of(ours, places))

    def config_for(self, drawn: NDArray[np.float64], epochs: int) -> TrainConfig:
        """The training that the file means for rows, of which `drawn` has tokens and weights, shape (rows, 2).

        A step gets so many tokens that it has `batch_size` rows on average, each met as often as its weight says.
        """
        tokens, weights = drawn.T if len(drawn) else np.ones((2, 1))  # without rows the training says what is wrong
        rows = self.seeds.batch_size * self.seeds.gradient_accumulation_steps
        batch = max(1, round(rows * float(np.average(tokens, weights=weights))))
        steps = max(1.0, epochs * float(tokens @ weights) / max(batch, float(tokens.max())))
        warmup = min(MAX_WARMUP_SHARE, self.seeds.warmup_steps / steps)
        return self.config.model_copy(update={"batch": batch, "warmup": warmup, "epochs": float(epochs)})
