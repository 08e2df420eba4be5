"""What do hundreds of epochs over one repository do?

    python benchmarks/epochs.py OUT DATASET [--epochs 300 500] [--set KEY=VALUE]...

Trains a model from scratch on a dataset (`git starcoder build`) for each number of epochs, into `OUT/EPOCHS`, without
early stopping. What is done is not done again, and an interrupted training goes on. `--set` sets training keys, for
example `size=1M`, or `patience=3` for early stopping; give other keys another OUT.

Prints the machine, and for each training a line of a table: the epochs that it took, its tokens and hours; the
validation loss at its best, with the epoch that had it, and at the end, in bits per byte; the training loss of the last
epoch, in nats per token, and the first epoch whose training loss was below 0.5.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import measure

from git_starcoder.dataset import Dataset

LOW_LOSS = 0.5
"""The training loss that the design documents promise, in nats per token."""
FOREVER = 10**9


class Course(NamedTuple):
    """How a training went."""

    epochs: float
    """Those that it took; fewer than planned if it ended early."""
    tokens: int
    seconds: float
    best: tuple[float, float]
    """The lowest validation loss, and the epoch that had it."""
    last: float
    """The validation loss at the end."""
    training: list[float]
    """The training loss of each epoch."""

    @property
    def first_low(self) -> int | None:
        """The first epoch, from 1, with a low training loss."""
        return next((epoch for epoch, loss in enumerate(self.training, 1) if loss < LOW_LOSS), None)


def train(dataset: Path, out: Path, epochs: int, keys: list[str]) -> None:
    """Train for some epochs, if that is not done yet."""
    if (out / "training.json").exists():
        return
    command = [sys.executable, "-m", "git_starcoder", "train", str(dataset), "--out", str(out), "--epochs", str(epochs)]
    command += ["--quiet", *(f"--set={key}" for key in [f"patience={FOREVER}", *keys])]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def course(lines: list[dict[str, float]], a_step: float) -> Course:
    """How a training went, from the lines of its `metrics.jsonl`. A step is a part of an epoch."""
    steps = [line for line in lines if "loss" in line]
    validations = [line for line in lines if "held_out" in line]
    best = min(validations, key=lambda line: line["held_out"])
    losses: dict[int, list[float]] = {}
    for number, line in enumerate(steps):
        losses.setdefault(int(number * a_step), []).append(line["loss"])
    return Course(
        epochs=len(steps) * a_step,
        tokens=int(steps[-1]["tokens"]),
        seconds=steps[-1]["seconds"],
        best=(best["held_out"], best["step"] * a_step),
        last=validations[-1]["held_out"],
        training=[sum(each) / len(each) for each in losses.values()],
    )


def main() -> None:
    """Train what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--epochs", type=int, nargs="+", default=[300, 500])
    parser.add_argument("--set", dest="keys", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    print(measure.machine(), flush=True)
    tokens = sum(int(row["length"]) for row in Dataset.open(asked.dataset).row_metadata("train"))
    print(f"{tokens:,} tokens in an epoch\n", flush=True)
    print("| epochs | taken | tokens | hours | best validation | at the end | training loss at the end | below 0.5 |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for epochs in asked.epochs:
        train(asked.dataset, asked.out / str(epochs), epochs, asked.keys)
        lines = (asked.out / str(epochs) / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        planned = json.loads((asked.out / str(epochs) / "training.json").read_text(encoding="utf-8"))["steps"]
        found = course([json.loads(line) for line in lines], epochs / planned)
        low = "never" if found.first_low is None else f"from epoch {found.first_low}"
        print(
            f"| {epochs} | {found.epochs:.0f} | {found.tokens:,} | {found.seconds / 3600:.2f} | {found.best[0]:.3f}, epoch "
            f"{found.best[1]:.1f} | {found.last:.3f} | {found.training[-1]:.3f} | {low} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
