"""What a training says of itself while it runs: a line of JSON per step and per look, and TensorBoard files."""

from __future__ import annotations

import json
import os
import shutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

from git_starcoder.atomic_write import convert_os_errors
from git_starcoder.errors import MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
TAGS = {
    "loss": "loss/training, bits per token",
    "held_out": "loss/held-out, bits per byte",
    "learning_rate": "learning rate",
    "norm": "norm of the gradient",
}
"""What a key is called in TensorBoard."""


class Metrics:
    """`metrics.jsonl` of a training, appended as it goes. A training that goes on begins where its checkpoint was.

    Raises:
        OutputError: they cannot be written.
        MissingExtraError: TensorBoard files are wanted and TensorBoard is not installed.

    """

    def __init__(self, folder: Path, *, size: int, step: int, tensorboard: bool) -> None:
        """Cut the file in `folder` back to `size` bytes, and TensorBoard's to the events up to `step`."""
        self.folder = folder
        self.path = folder / METRICS
        with convert_os_errors(self.path):
            self.path.touch()
            os.truncate(self.path, min(size, self.path.stat().st_size))
            text = self.path.read_text(encoding="utf-8")
            self.lines: list[dict[str, float]] = [json.loads(line) for line in text.split("\n") if line]
            self.waiting: list[dict[str, float]] = []
            self.events: Any = None
            if tensorboard:
                try:
                    writer = import_module("torch.utils.tensorboard").SummaryWriter
                except ImportError as error:
                    raise MissingExtraError.from_import_error(error, "tensorboard", "tensorboard") from error
                self.events = writer(str(folder / TENSORBOARD), purge_step=step + 1)

    def add(self, **values: float) -> None:
        """A line, which has a `step`."""
        self.waiting.append(values)
        if self.events is not None:
            for key, tag in TAGS.items():
                if key in values:
                    self.events.add_scalar(tag, values[key], values["step"])

    def write(self) -> None:
        """Hand all lines to the operating system, which keeps them should this process be killed."""
        with convert_os_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in self.waiting)
        self.lines += self.waiting
        self.waiting = []

    def keep(self) -> int:
        """Make all lines durable; gives the size of the file in bytes, for the checkpoint."""
        self.write()
        with convert_os_errors(self.path), self.path.open("rb") as file:
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        if self.events is not None:
            self.events.flush()
        return size

    def publish(self, folder: Path) -> None:
        """Put all of it into the folder of the model."""
        self.write()
        shutil.copyfile(self.path, folder / METRICS)
        if self.events is not None:
            self.events.close()
            shutil.copytree(self.folder / TENSORBOARD, folder / TENSORBOARD)
