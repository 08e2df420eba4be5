"""Is it worth its time to show other files before a file? A control says whether it is due to what the files say.

    python benchmarks/context.py RESULTS DATASET DATASET... [--tokens 400000] [--seeds 1] [--context 512]
        [--dropout 0.25] [--size tiny] [--split test]

Arms of each dataset:

- off: no context.
- on: files of the training split that a file imports or resembles, chosen and placed by `model/context.py`.
- control: the same, but of the training split of the next dataset. What helps as much as `on` is not what files say.

All arms train on as many tokens, those of contexts included, so the time that contexts take in training is paid for.
They are scored with the memory of the training split and without it. RESULTS gets a JSON line for each arm, dataset and
seed that is done, and an interrupted run goes on. At the end, a line for each arm and dataset says its mean bits per
byte, and what part it needs of those of `off`, with a 95 % interval of a bootstrap over files.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import numpy as np
from runs import score_files, shared_files

from git_starcoder.dataset import Dataset
from git_starcoder.dataset.held_out import load_documents
from git_starcoder.errors import OutputError
from git_starcoder.evals import bootstrap_ratio
from git_starcoder.memory.repository_memory import RepositoryMemory
from git_starcoder.model import training, with_context
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.context import ContextComposer
from git_starcoder.model.loading import load_model, read_training_record
from git_starcoder.model.with_context import scored_network
from git_starcoder.model.with_memory import MEMORY_FOLDER, NetworkWithMemory, RememberingNetwork, training_memory
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
    if len(asked.datasets) < 2:
        parser.error("the control shows files of another dataset, so there must be two")
    datasets = [Dataset.open(folder) for folder in asked.datasets]
    done = read_results(asked.results)
    wanted: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(asked.seeds):
            for dataset, other in zip(datasets, [*datasets[1:], datasets[0]], strict=True):
                files = sorted(shared_files({"": dataset}, asked.split))
                for arm in ARMS:
                    key = {
                        "arm": arm, "train": train_keys(arm, asked), "repo": str(dataset.folder), "seed": seed,
                        "tokens": asked.tokens, "size": asked.size, "split": asked.split, "held_out": files,
                        "control": str(other.folder) if arm == "control" else "",
                    }  # fmt: skip
                    line = next((line for line in done if key.items() <= line.items()), None)
                    if line is None:
                        with showing_files_of(other if arm == "control" else dataset):
                            line = key | measure(dataset, key, Path(folder) / "model")
                        with asked.results.open("a", encoding="utf-8") as lines:
                            lines.write(json.dumps(line) + "\n")
                    wanted.append(line)
    for name, key in (("network", "files"), ("network and memory", "files_with_memory")):
        print(name)
        print_summary(wanted, list(ARMS), key)


def train_keys(arm: str, asked: argparse.Namespace) -> list[str]:
    """The training keys of an arm."""
    return [] if arm == "off" else [f"context_tokens={asked.context}", f"context_dropout={asked.dropout}"]


def measure(dataset: Dataset, key: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train a model, and score it on the beginning of each file, with and without its memory."""
    config = TrainConfig.load(None, key["train"], tokens=key["tokens"], seed=key["seed"], size=key["size"])
    begun = time.perf_counter(), time.process_time()
    result = training.train(dataset, out, config, force=True, fresh=True)
    seconds, processor_seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
    network, tokenizer = load_model(out)
    alone = RememberingNetwork(scored_network(network, read_training_record(out), dataset, tokenizer))
    memory = training_memory(RepositoryMemory.open(out / MEMORY_FOLDER), dataset, tokenizer)
    both = NetworkWithMemory(alone, memory, tokenizer)
    scored = tokenizer, dataset, set(key["held_out"]), key["split"]
    scores = {"files": score_files(alone, *scored), "files_with_memory": score_files(both, *scored)}
    shutil.rmtree(out)
    return {
        "validation": result.held_out, "loss": result.loss, "steps": result.steps, "trained": result.tokens,
        "stopped": result.stopped, "seconds": round(seconds, 1), "processor_seconds": round(processor_seconds, 1),
        **scores,
    }  # fmt: skip


@contextmanager
def showing_files_of(shown: Dataset) -> Generator[None]:
    """Let training and scores show the training split of a dataset, whatever they train on."""

    def compose(dataset: Dataset, tokenizer: Tokenizer) -> ContextComposer:
        del dataset
        return composer_of(shown, tokenizer)

    with patch.object(training, "training_context", compose), patch.object(with_context, "training_context", compose):
        yield


def composer_of(shown: Dataset, tokenizer: Tokenizer) -> ContextComposer:
    """The composer of the training split of a dataset, for a tokenizer that may be another one."""
    own = load_tokenizer(shown.tokenizer_folder)
    documents = [
        replace(document, tokens=tokenizer.encode([own.decode(document.tokens[document.tokens != own.end_id])])[0])
        for document in load_documents(shown, "train")
    ]
    return ContextComposer.build(documents, "training split", tokenizer)


def read_results(path: Path) -> list[dict[str, Any]]:
    """The lines that are done; none if there is no file."""
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise OutputError(f"'{path}' holds something else: {error}", where=str(path)) from error


def print_summary(lines: list[dict[str, Any]], arms: list[str], key: str = "files") -> None:
    """Print the mean of each arm and repository, and its ratio to the first arm, over the seeds that both have.

    `key` is that of the bits and bytes of each file.
    """
    for repo in dict.fromkeys(line["repo"] for line in lines):
        print(repo)
        files = {(line["arm"], line["seed"]): line[key] for line in lines if line["repo"] == repo}
        for arm in arms:
            seeds = [seed for name, seed in files if name == arm and (arms[0], seed) in files]
            if not seeds:
                continue
            paths = sorted(files[arm, seeds[0]])
            bits, base_bits, sizes = (
                np.array([sum(files[name, seed][path][column] for seed in seeds) for path in paths])
                for name, column in ((arm, 0), (arms[0], 0), (arm, 1))
            )
            ratio, low, high = bootstrap_ratio(bits, base_bits, 0)
            interval = "" if low is None else f", {low:.3f} to {high:.3f}"
            mean = bits.sum() / sizes.sum()
            print(f"  {arm:24} {mean:.4f} bits per byte; {ratio:.3f} of {arms[0]}{interval}; {len(seeds)} seeds")


if __name__ == "__main__":
    main()
