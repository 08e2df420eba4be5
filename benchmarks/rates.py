"""Which learning rate suits a base on datasets of different sizes?

    python benchmarks/rates.py OUT DATASET... [--rates 3e-4 1e-3 3e-3] [--base polyglot-5m] [--tokens 500000]
                                             [--set KEY=VALUE]...

Trains the base on each dataset at each rate, with the same number of tokens, into `OUT/DATASET-RATE`. The datasets need
the base's tokenizer (`git starcoder build --set window.tokenizer=polyglot-5m`). What is done is not done again, so an
interrupted comparison goes on. `--set` sets training keys, for example `optimizer=adamw`; give other keys another OUT.

Prints the machine, and for each dataset its training tokens and the lowest validation loss at each rate, in bits per
byte, with the step that had it. The validation text, not the test text, is read, because the best rate is chosen by it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import measure

from git_starcoder.dataset import Dataset


def train(dataset: Path, out: Path, base: str, tokens: int, keys: list[str]) -> None:
    """Train the base with some keys, if that is not done yet."""
    if (out / "training.json").exists():
        return
    command = [sys.executable, "-m", "git_starcoder", "train", str(dataset), "--base", base, "--order", "shuffled"]
    command += ["--out", str(out), "--tokens", str(tokens), "--quiet", *(f"--set={key}" for key in keys)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def best_validation(folder: Path) -> tuple[float, int, int]:
    """The lowest validation loss of a training, the step that had it, and all steps."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    value, step = min((line["held_out"], line["step"]) for line in lines if "held_out" in line)
    return value, step, max(line["step"] for line in lines)


def main() -> None:
    """Train what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--rates", nargs="+", default=["3e-4", "1e-3", "3e-3"])
    parser.add_argument("--base", default="polyglot-5m")
    parser.add_argument("--tokens", type=int, default=500_000)
    parser.add_argument("--set", dest="keys", action="append", default=[], metavar="KEY=VALUE")
    asked = parser.parse_args()
    print(measure.machine(), flush=True)
    for dataset in asked.datasets:
        name = dataset.absolute().name
        found: list[str] = []
        for rate in asked.rates:
            keys = [f"learning_rate={rate}", *asked.keys]
            train(dataset, asked.out / f"{name}-{rate}", asked.base, asked.tokens, keys)
            value, step, steps = best_validation(asked.out / f"{name}-{rate}")
            found.append(f"{rate}: {value:.3f} (step {step} of {steps})")
        tokens = sum(int(row["length"]) for row in Dataset.open(dataset).row_metadata("train"))
        print(f"{name}, {tokens:,} training tokens: " + ", ".join(found), flush=True)


if __name__ == "__main__":
    main()
