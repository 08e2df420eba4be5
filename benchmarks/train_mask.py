"""Does it matter that rows packed into one piece do not see each other? And which defaults of a training are good?

    python benchmarks/train_mask.py DATASET [--size tiny] [--steps 100] [--seeds 3]
    python benchmarks/train_mask.py DATASET --sweep [--size tiny] [--steps 100] [--seeds 1]

Every training has the same number of steps on the same rows in the same order, so a busy machine changes nothing. A JSON
line for each: what is other than the defaults, the seed, and held-out bits per byte at the end. Seeds change the first
weights, the order of rows, and which held-out text is asked about, so what counts is the difference at the same seed: the
last lines give its mean and, of more than one seed, the standard deviation.

`--sweep` changes one thing at a time. It says little of weight decay, dropout and averages of weights, which are for many
passes over few rows: `passes` in the first line says how many these are.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import measure

from git_starcoder.dataset import Dataset
from git_starcoder.model import loop
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.training import train

MASK: list[dict[str, Any]] = [{}, {"attend": "micro_batch"}]
SWEEP: list[dict[str, Any]] = [
    {},
    {"learning_rate": 3e-3},
    {"learning_rate": 2e-2},
    {"optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.1},
    {"optimizer": "adamw", "learning_rate": 3e-3, "weight_decay": 0.1},
    {"optimizer": "adamw", "learning_rate": 1e-2, "weight_decay": 0.1},
    {"schedule": "cosine"},
    {"schedule": "wsd"},
    {"ema": 0.9},
    {"ema": 0.99},
    {"weight_decay": 0.1},
    {"weight_decay": 2.0},
    {"dropout": 0.1},
    {"warmup": 0.1},
    {"batch": 4096},
]
"""What each training has in place of a default. Two batches make half as many steps."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--only", type=int, nargs="*", help="of the sweep, these lines alone, from 0")
    arguments = parser.parse_args()
    dataset = Dataset.open(arguments.dataset)
    first = TrainConfig()
    loop.VALIDATION_COUNT = 3  # they cost time, and change nothing of what is measured at the end
    trials = SWEEP if arguments.sweep else MASK
    trials = [trials[number] for number in arguments.only] if arguments.only else trials
    tokens = sum(row["length"] * row["weight"] for row in dataset.row_metadata("train"))
    print(json.dumps({"machine": measure.machine(), "command": " ".join(sys.argv), "defaults": asdict(first),
                      "passes": round(arguments.steps * first.batch / tokens, 3)}), flush=True)  # fmt: skip
    found: dict[int, list[float]] = {}
    for seed in range(arguments.seeds or (1 if arguments.sweep else 3)):
        for number, trial in enumerate(trials):
            steps = arguments.steps * first.batch // trial.get("batch", first.batch)
            config = TrainConfig(
                **{"size": arguments.size, "steps": steps, "seed": seed, "order": "shuffled", "patience": 99, **trial}
            )
            with tempfile.TemporaryDirectory(prefix="starcoder-bench-") as scratch:
                result = train(dataset, Path(scratch) / "model", config)
                lines = (Path(scratch) / "model" / "metrics.jsonl").read_text().splitlines()
            looks = [line["held_out"] for line in map(json.loads, lines) if "held_out" in line]
            found.setdefault(number, []).append(looks[-1])
            print(json.dumps({"other": trial, "seed": seed, "held_out": round(looks[-1], 4), "looks": [round(look, 3) for look in looks],
                              "steps": result.steps, "tokens": result.tokens, "seconds": round(result.seconds)}), flush=True)  # fmt: skip
    for number, trial in enumerate(trials):
        differences = [value - base for value, base in zip(found[number], found[0], strict=True)]
        spread = round(statistics.stdev(differences), 4) if len(differences) > 1 else None
        print(json.dumps({"other": trial, "held_out": round(statistics.mean(found[number]), 4),
                          "minus the first": round(statistics.mean(differences), 4), "deviation": spread}))  # fmt: skip


if __name__ == "__main__":
    main()
