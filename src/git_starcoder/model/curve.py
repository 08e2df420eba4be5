"""The loss curve of a training as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder import matplotlib_setup

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def draw(metrics: Sequence[dict[str, float]], path: Path) -> None:
    """Training loss in bits per token, smoothed, and held-out bits per byte, over tokens seen.

    Raises:
        MissingExtraError: matplotlib is not installed.

    """
    matplotlib_setup.require_matplotlib("train")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [line for line in metrics if "loss" in line]
    at = {line["step"]: line["tokens"] for line in steps}
    looks = [line for line in metrics if "held_out" in line]
    figure: Any = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    losses = np.array([line["loss"] for line in steps])
    width = max(1, len(losses) // 50)
    smooth = np.convolve(losses, np.ones(width) / width, mode="valid")
    axes.plot(
        [line["tokens"] for line in steps][width - 1 :], smooth, color="tab:grey", label="training, bits per token"
    )
    axes.set_xlabel("tokens seen")
    axes.set_ylabel("bits per token")
    axes.set_ylim(bottom=0)
    if looks:
        right = axes.twinx()
        right.plot([at[line["step"]] for line in looks], [line["held_out"] for line in looks], "o-", color="tab:blue",
                   label="held-out, bits per byte")  # fmt: skip
        right.set_ylabel("bits per byte")
        right.set_ylim(bottom=0)
    figure.legend(loc="outside upper right")
    figure.savefig(path, dpi=120, metadata={"Software": None})
