"""`training_config_metal_cuda_universal.yaml`: the keys of the seeds, as far as the trainer of today has them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

import yaml

from git_starcoder.errors import UsageError
from git_starcoder.shelf import nearest

if TYPE_CHECKING:
    from pathlib import Path

LATER = (
    "lora",
    "use_lora",
    "base_model",
    "gradient_",
    "fp16",
    "bf16",
    "resume",
    "optimizer",
    "scheduler",
    "num_workers",
)
"""How keys of other trainers begin that ours does not have."""


@dataclass(frozen=True, slots=True)
class Config:
    """What a training is, but for what the flags say."""

    train_path: str = "training_data_effectiveness/training_data_train.jsonl"
    """Rows to learn from, unless `--sequences` names others. They lie in a dataset's folder."""
    val_path: str = ""
    """Rows of the same dataset by which the kept weights are chosen."""
    test_path: str = ""
    """Rows of the same dataset on which `--eval_only` scores."""
    batch_size: int = 2
    """Rows of a step, on average."""
    learning_rate: float = 0.01
    """At its highest."""
    warmup_steps: int = 20
    """Steps in which the learning rate rises; after them it falls to zero in a straight line."""
    max_epochs: int = 1
    """Passes over the rows, unless `--epochs` says."""
    model_size: str = "tiny"
    """`tiny`, or `small` for a GPU."""
    seed: int = 0
    """Of the first weights and of the order of rows."""

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read a file.

        Raises:
            UsageError: no file, not YAML, an unknown key, or a value that cannot be.

        """
        try:
            values: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise UsageError(f"'{path}' cannot be read: {error.strerror}", where="--config") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UsageError(f"'{path}' is not YAML: {' '.join(str(error).split())}", where="--config") from error
        if not isinstance(values, dict):
            raise UsageError(f"'{path}' is not a mapping", where="--config")
        kinds = {field.name: str(field.type) for field in fields(cls)}
        made: dict[str, Any] = {}
        for key, value in cast("dict[Any, Any]", values).items():
            if str(key).startswith(LATER):
                raise UsageError(f"the trainer cannot do '{key}' yet", where=str(path), hint="leave the key out")
            if key not in kinds:
                raise UsageError(f"unknown key '{key}'", where=str(path), hint=nearest(str(key), list(kinds)))
            made[key] = _value(key, value, kinds[key], str(path))
        return cls(**made)


def _value(key: str, value: Any, kind: str, where: str) -> Any:
    """The value as its key wants it. YAML 1.1 reads `1e-5`, as the seeds write it, as text."""
    if kind == "str" and isinstance(value, str):
        return value
    if kind == "int" and type(value) is int and value >= (0 if key in {"warmup_steps", "seed"} else 1):
        return value
    if kind == "float" and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)
        except ValueError:
            number = 0.0
        if number > 0 and isfinite(number):
            return number
    wanted = {"str": "text", "int": "a whole number that can be", "float": "a number above 0"}[kind]
    raise UsageError(f"'{key}' is {value!r}, not {wanted}", where=where)
