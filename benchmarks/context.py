"""Is it worth its time to show other files before a file? A control says whether it is the files, or the training.

    python benchmarks/context.py RESULTS DATASET DATASET... [--tokens 400000] [--seeds 1] [--context 512]
        [--dropout 0.25] [--size tiny] [--split test]

Arms of each dataset:

- off: no context.
- on: files of the training split that a file imports or resembles, chosen and placed by `model/context.py`.
- control: the same, but of the training split of the next dataset. If it helps as much as `on`, it is not what the
  files say that helps.

All arms train on as many tokens, those of contexts included, so what a context costs in training is paid for. RESULTS
gets a JSON line for each arm, dataset and seed that is done, and an interrupted run goes on. At the end, a line for
each arm and dataset says its mean bits per byte and what part it needs of those of `off`, with a 95 % interval of a
bootstrap over files.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from recipes import measure, print_summary, read_results, shared_files

from git_starcoder.dataset import Dataset
from git_starcoder.dataset.held_out import load_documents
from git_starcoder.model import training, with_context
from git_starcoder.model.context import ContextComposer
from git_starcoder.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Generator

    from git_starcoder.text.tokenizer import Tokenizer

ARMS = ("off", "on", "control")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--tokens", type=float, default=400_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--dropout", type=float, default=0.25)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--split", default="test", choices=["test", "val"])
    asked = parser.parse_args()
    datasets = [Dataset.open(folder) for folder in asked.datasets]
    arms: dict[str, dict[str, Any]] = {name: {"train": train_keys(name, asked)} for name in ARMS}
    done = read_results(asked.results)
    settings = {"tokens": asked.tokens, "size": asked.size, "split": asked.split}
    wanted: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(asked.seeds):
            for dataset, other in zip(datasets, [*datasets[1:], datasets[0]], strict=True):
                files = shared_files({"": dataset}, asked.split)
                for name, arm in arms.items():
                    key = {"arm": name, **arm, "repo": str(dataset.folder), "seed": seed, "held_out": files, **settings}
                    if name == "control":
                        key["control"] = str(other.folder)
                    line = next((line for line in done if key.items() <= line.items()), None)
                    if line is None:
                        shown = other if name == "control" else dataset
                        with showing_files_of(shown):
                            line = key | measure(arm, dataset, asked, seed, files, Path(folder) / "model")
                        with asked.results.open("a", encoding="utf-8") as lines:
                            lines.write(json.dumps(line) + "\n")
                    wanted.append(line)
    print_summary(wanted, list(arms))


def train_keys(arm: str, asked: argparse.Namespace) -> list[str]:
    """The training keys of an arm."""
    return [] if arm == "off" else [f"context_tokens={asked.context}", f"context_dropout={asked.dropout}"]


@contextmanager
def showing_files_of(shown: Dataset) -> Generator[None]:
    """Let training and scores show the training split of a dataset, whatever they train on."""

    def compose(dataset: Dataset, tokenizer: Tokenizer) -> ContextComposer:
        del dataset
        return other_context(shown, tokenizer)

    with patch.object(training, "training_context", compose), patch.object(with_context, "training_context", compose):
        yield


def other_context(shown: Dataset, tokenizer: Tokenizer) -> ContextComposer:
    """The composer of the training split of a dataset with another tokenizer."""
    known = load_tokenizer(shown.tokenizer_folder)
    texts = [
        replace(document, tokens=tokenizer.encode([known.decode(document.tokens[document.tokens != known.end_id])])[0])
        for document in load_documents(shown, "train")
    ]
    return ContextComposer.build(texts, "training split", tokenizer)


if __name__ == "__main__":
    main()
