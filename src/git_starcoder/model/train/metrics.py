"""Records a training while it runs: a JSON line per step and validation, TensorBoard files, and the loss curve."""

from __future__ import annotations

import json
import os
import shutil
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder import user_paths
from git_starcoder.errors import MissingExtraError
from git_starcoder.output_folder import convert_os_errors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"
TENSORBOARD_TAGS = {
    "loss": "loss/training, bits per token",
    "held_out": "loss/held-out, bits per byte",
    "learning_rate": "learning rate",
    "norm": "norm of the gradient",
}
"""Tags in TensorBoard by the keys of `metrics.jsonl`."""
SMOOTHING_DIVISOR = 50
"""The loss curve is a moving average over this part of the steps: a fiftieth."""


class MetricsLog:
    """The file `metrics.jsonl` of a training, and its TensorBoard files. Lines are appended as training runs.

    Raises:
        OutputError: The files cannot be written.
        MissingExtraError: TensorBoard files are wanted, and TensorBoard is not installed.

    """

    def __init__(self, folder: Path, *, size: int, step: int, tensorboard: bool) -> None:
        """Open the log in `folder`, cut back to a checkpoint.

        Args:
            folder: The folder of the files.
            size: Bytes of `metrics.jsonl` at the checkpoint; the rest is cut off.
            step: The step of the checkpoint; later TensorBoard events are dropped.
            tensorboard: Whether to write TensorBoard files.

        """
        self.folder = folder
        self.path = folder / METRICS_FILE
        with convert_os_errors(self.path):
            self.path.touch()
            os.truncate(self.path, min(size, self.path.stat().st_size))
            text = self.path.read_text(encoding="utf-8")
            self.lines: list[dict[str, float]] = [json.loads(line) for line in text.split("\n") if line]
            self.unwritten: list[dict[str, float]] = []
            self.tensorboard: Any = None
            if tensorboard:
                try:
                    writer = import_module("torch.utils.tensorboard").SummaryWriter
                except ImportError as error:
                    raise MissingExtraError.from_import_error(error, "tensorboard", "tensorboard") from error
                self.tensorboard = writer(str(folder / TENSORBOARD_FOLDER), purge_step=step + 1)

    def add(self, **values: float) -> None:
        """Add a line. One of its values is the `step`."""
        self.unwritten.append(values)
        if self.tensorboard is not None:
            for key, tag in TENSORBOARD_TAGS.items():
                if key in values:
                    self.tensorboard.add_scalar(tag, values[key], values["step"])

    def write(self) -> None:
        """Hand all lines to the operating system, which keeps them if this process is killed."""
        with convert_os_errors(self.path), self.path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in self.unwritten)
        self.lines += self.unwritten
        self.unwritten = []

    def sync(self) -> int:
        """Flush all lines to the disk and return the size of the file in bytes, for the checkpoint."""
        self.write()
        with convert_os_errors(self.path), self.path.open("rb") as file:
            os.fsync(file.fileno())
            size = os.fstat(file.fileno()).st_size
        if self.tensorboard is not None:
            self.tensorboard.flush()
        return size

    def copy_to(self, folder: Path) -> None:
        """Copy everything into the folder of the model."""
        self.write()
        shutil.copyfile(self.path, folder / METRICS_FILE)
        if self.tensorboard is not None:
            self.tensorboard.close()
            shutil.copytree(self.folder / TENSORBOARD_FOLDER, folder / TENSORBOARD_FOLDER)


def draw_loss_curve(metrics: Sequence[dict[str, float]], path: Path) -> None:
    """Draw the smoothed training loss in bits per token and the held-out bits per byte, over the tokens seen.

    Raises:
        MissingExtraError: matplotlib is not installed.

    """
    user_paths.require_matplotlib("train")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [line for line in metrics if "loss" in line]
    validations = [line for line in metrics if "held_out" in line]
    tokens_at_step = {line["step"]: line["tokens"] for line in steps}
    figure: Any = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    losses = np.array([line["loss"] for line in steps])
    width = max(1, len(losses) // SMOOTHING_DIVISOR)
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
    tokens = [line["tokens"] for line in steps][width - 1 :]
    axes.plot(tokens, smooth, color="tab:grey", label="training, bits per token")
    axes.set_xlabel("tokens seen")
    axes.set_ylabel("bits per token")
    axes.set_ylim(bottom=0)
    if validations:
        right = axes.twinx()
        tokens = [tokens_at_step[line["step"]] for line in validations]
        held_out = [line["held_out"] for line in validations]
        right.plot(tokens, held_out, "o-", color="tab:blue", label="held-out, bits per byte")
        right.set_ylabel("bits per byte")
        right.set_ylim(bottom=0)
    figure.legend(loc="outside upper right")
    figure.savefig(path, dpi=120, metadata={"Software": None})
