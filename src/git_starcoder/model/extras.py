"""Imports the libraries that not every training needs: peft and bitsandbytes."""

from __future__ import annotations

import logging
import sys
import warnings
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from git_starcoder.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

    from git_starcoder.model.config import TrainConfig

BITSANDBYTES_DEVICES = ("cuda", "cpu")
KERNEL_LOADER = "kernels"
"""The library that downloads kernels from the hub."""


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
    with suppress(ImportError):
        _import_bitsandbytes()  # peft imports it if it is installed
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
        return _import_bitsandbytes()
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "bitsandbytes", "bitsandbytes") from error


def _import_bitsandbytes() -> Any:
    """Import bitsandbytes without a kernel from the hub, which it would download and run on some CPUs.

    Nor does it advise to install the library that loads such kernels.
    """
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    loader, level = sys.modules.get(KERNEL_LOADER), logger.level
    sys.modules[KERNEL_LOADER] = None  # pyright: ignore[reportArgumentType] - so that its import fails
    logger.setLevel(logging.ERROR)
    try:
        with no_warnings():
            return import_module("bitsandbytes")
    finally:
        logger.setLevel(level)
        del sys.modules[KERNEL_LOADER]
        if loader is not None:
            sys.modules[KERNEL_LOADER] = loader


@contextmanager
def no_warnings() -> Generator[None]:
    """Silence warnings: peft uses deprecated functions of transformers, and reports what it corrects by itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
