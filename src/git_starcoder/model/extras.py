"""Imports the libraries that not every training needs: peft and bitsandbytes."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from git_starcoder.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

    from git_starcoder.model.config import TrainConfig

BITSANDBYTES_DEVICES = ("cuda", "cpu")


def require_libraries(config: TrainConfig, device: str) -> None:
    """Check that the libraries which a config needs besides torch are there and support the device.

    Raises:
        UsageError: bitsandbytes does not support the device.
        MissingExtraError: peft or bitsandbytes is not installed.
    """
    if config.tune != "full":
        import_peft()
    if config.tune == "qlora":
        require_bitsandbytes(device, "tune: qlora", hint="use tune: lora")
    if config.optimizer == "adamw8bit":
        require_bitsandbytes(device, "optimizer: adamw8bit", hint="use optimizer: adamw")


def import_peft() -> Any:
    """Import peft, which adapters need.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        return import_module("peft")
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "peft", "lora") from error


def require_bitsandbytes(device: str, where: str, hint: str) -> Any:
    """Import bitsandbytes, which a training key needs.

    Raises:
        UsageError: It does not support the device.
        MissingExtraError: It is not installed.
    """
    if device not in BITSANDBYTES_DEVICES:
        raise UsageError(f"bitsandbytes cannot compute on '{device}'", where=where, hint=hint)
    try:
        with no_warnings():
            return import_module("bitsandbytes")
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "bitsandbytes", "bitsandbytes") from error


@contextmanager
def no_warnings() -> Generator[None]:
    """Silence warnings: peft uses deprecated functions of transformers, and reports what it corrects by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
