"""Which recipe and which training predict unseen code best, after as many tokens?

    python benchmarks/recipes.py ARMS RESULTS REPO... [--tokens 600000] [--seeds 1] [--size tiny] [--split test]

ARMS is a YAML file of what is compared. The first arm is the one that the others are compared with:

    today: {recipe: effectiveness, train: [order=shuffled]}
    natural: {recipe: natural}
    no header: {recipe: natural, build: [window.header=null], train: [fim=0]}

Every arm trains on as many tokens, so a busy machine changes nothing. All arms of a repository are scored on the same
files: those that each of their datasets holds out. RESULTS gets a JSON line for each arm, repository and seed that is
done, with the bits and bytes of each file; what it has already is not done again, so an interrupted run goes on. At the
end, a line for each arm and repository says its mean bits per byte, and what part it needs of those of the first arm,
with a 95 % interval of a bootstrap over files that both share.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder import strict_config
from git_starcoder.dataset.held_out import load_documents
from git_starcoder.errors import OutputError, UsageError
from git_starcoder.evals import bootstrap_ratio
from git_starcoder.evals.bits_per_byte import document_bits
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.loading import load_model, read_training_record
from git_starcoder.model.training import train
from git_starcoder.model.with_context import scored_network
from git_starcoder.pipeline import build
from git_starcoder.recipe import Recipe

if TYPE_CHECKING:
    from git_starcoder.dataset import Dataset
    from git_starcoder.protocols import LanguageModel
    from git_starcoder.records import Split
    from git_starcoder.text.tokenizer import Tokenizer

MAX_FILE_BYTES = 16_384
"""Bytes of a file that are scored: a few long files must not decide."""
Arm = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("repos", type=Path, nargs="+")
    parser.add_argument("--tokens", type=float, default=600_000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--size", default="tiny")
    parser.add_argument("--split", default="test", choices=["test", "val"])
    asked = parser.parse_args()
    arms: dict[str, Arm] = strict_config.read_mapping(asked.arms, "arms", str(asked.arms))
    done = read_results(asked.results)
    with tempfile.TemporaryDirectory() as folder:
        for repo in asked.repos:
            datasets = build_all(arms, repo, Path(folder))
            files = shared_files(datasets, asked.split)
            for seed in range(asked.seeds):  # so that a run that is ended early has all arms of the first seeds
                for name, arm in arms.items():
                    key = {
                        "arm": name, **arm, "repo": str(repo), "seed": seed, "tokens": asked.tokens, "size": asked.size,
                        "split": asked.split, "held_out": files,
                    }  # fmt: skip
                    if not any(key.items() <= line.items() for line in done):
                        line = key | measure(arm, datasets[name], asked, seed, files, Path(folder) / "model")
                        done.append(line)
                        with asked.results.open("a", encoding="utf-8") as lines:
                            lines.write(json.dumps(line) + "\n")
    wanted = {"tokens": asked.tokens, "size": asked.size, "split": asked.split}
    print_summary([line for line in done if wanted.items() <= line.items()], list(arms))


def read_results(path: Path) -> list[dict[str, Any]]:
    """The lines that are done; none if there is no file."""
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise OutputError(f"'{path}' holds something else: {error}", where=str(path)) from error


def build_all(arms: dict[str, Arm], repo: Path, folder: Path) -> dict[str, Dataset]:
    """The dataset of each arm; arms with the same recipe share one."""
    built: dict[str, Dataset] = {}
    datasets: dict[str, Dataset] = {}
    for name, arm in arms.items():
        if unknown := arm.keys() - {"recipe", "build", "train"}:
            raise UsageError(f"arm '{name}' has the unknown key '{min(unknown)}'", where="recipe, build, train")
        recipe = Recipe.load(arm["recipe"], tuple(arm.get("build", ())))
        if recipe.fingerprint() not in built:
            out = folder / f"dataset_{len(list(folder.iterdir()))}"
            built[recipe.fingerprint()] = build(repo, recipe, out)
        datasets[name] = built[recipe.fingerprint()]
    return datasets


def shared_files(datasets: dict[str, Dataset], split: Any) -> list[str]:
    """The files that every dataset holds out whole."""
    paths = [
        {document.path for document in load_documents(dataset, split) if document.start == 0}
        for dataset in datasets.values()
    ]
    shared = sorted(set.intersection(*paths))
    if not shared:
        raise UsageError(f"the datasets hold out no file together in {split}", where="arms")
    return shared


def measure(arm: Arm, dataset: Dataset, asked: Any, seed: int, files: list[str], out: Path) -> dict[str, Any]:
    """Train a model, and score it on the beginning of each file."""
    config = TrainConfig.load(None, arm.get("train", ()), tokens=asked.tokens, seed=seed, size=asked.size)
    begun = time.perf_counter()
    result = train(dataset, out, config, force=True, fresh=True)
    seconds = time.perf_counter() - begun
    network, tokenizer = load_model(out)
    model = scored_network(network, read_training_record(out), dataset, tokenizer)
    shutil.rmtree(out)
    bits_of_file = score_files(model, tokenizer, dataset, asked.split, files)
    bits, size = np.sum(list(bits_of_file.values()), axis=0).tolist()
    return {
        "bits_per_byte": bits / size, "validation": result.held_out, "loss": result.loss, "steps": result.steps,
        "stopped": result.stopped, "seconds": round(seconds, 1), "files": bits_of_file,
    }  # fmt: skip


def score_files(
    model: LanguageModel, tokenizer: Tokenizer, dataset: Dataset, split: Split, files: list[str]
) -> dict[str, tuple[float, int]]:
    """The bits that a model needs for the beginning of each file, and the bytes of this beginning."""
    documents = [each for each in load_documents(dataset, split) if each.path in set(files) and each.start == 0]
    bits_of_file: dict[str, tuple[float, int]] = {}
    for document in documents:
        text = tokenizer.decode(document.tokens[document.tokens != tokenizer.end_id])
        if len(text) > MAX_FILE_BYTES:  # the same bytes for every arm, whatever its tokenizer
            text = text[: text.rfind(b"\n", 0, MAX_FILE_BYTES) + 1]
            document = replace(document, tokens=tokenizer.encode([text])[0].astype(np.int32))
        if text:
            bits = document_bits(model, [document], tokenizer.end_id, parts=2)
            bits_of_file[document.path] = float(bits[0]), len(text)
    return bits_of_file


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
