"""How many next lines does a model write exactly, and how many the most frequent line? On many lines of each dataset.

    python benchmarks/next_lines.py MODEL DATASET [MODEL DATASET]... [--lines 200]

`git starcoder run` has time for some 25 lines, which say little about one repository. This takes as many as asked for
from the test split, drawn by the same rules. The answers are those of network and memory, as `eval` scores them.
Prints the machine, a line for each pair, and the median of the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import measure

from git_starcoder.dataset import Dataset
from git_starcoder.dataset.contamination import drop_read
from git_starcoder.dataset.held_out import draw_documents, load_documents
from git_starcoder.engine.local import LocalEngine
from git_starcoder.evals import BOTH, NETWORK, EvalInput
from git_starcoder.evals.completion import score_frequent_lines, score_next_lines
from git_starcoder.memory.repository_memory import RepositoryMemory
from git_starcoder.model.base_lineage import BaseLineage
from git_starcoder.model.evaluate import MAX_HELD_OUT_TOKENS
from git_starcoder.model.loading import load_model, read_training_record
from git_starcoder.model.with_context import scored_network
from git_starcoder.model.with_memory import MEMORY_FOLDER, NetworkWithMemory, training_memory


def exact_lines(folder: Path, dataset: Dataset, lines: int) -> tuple[int, dict[str, int]]:
    """The number of lines, and how many of them each subject writes exactly."""
    network, tokenizer = load_model(folder)
    record = read_training_record(folder)
    lineage = BaseLineage.of_model(folder, record)
    unread = drop_read(load_documents(dataset, "test"), None if lineage is None else lineage.blobs)
    memory = training_memory(RepositoryMemory.open(folder / MEMORY_FOLDER), dataset, tokenizer)
    alone = scored_network(network, record, dataset, tokenizer)
    models: dict[str, Any] = {NETWORK: alone, BOTH: NetworkWithMemory(alone, memory, tokenizer)}
    held_out = draw_documents(unread, MAX_HELD_OUT_TOKENS)
    with LocalEngine(1) as engine:
        exam = EvalInput(models, None, tokenizer, load_documents(dataset, "train"), held_out, engine, line_count=lines)
        found = [*score_next_lines(exam), *score_frequent_lines(exam)]
    exact = [score for score in found if score.measure.endswith("exact match") and not score.by]
    return exact[0].over, {score.subject: round(score.value * score.over) for score in exact}


def main() -> None:
    """Print how many lines are exact."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", type=Path, nargs="+", metavar="MODEL DATASET")
    parser.add_argument("--lines", type=int, default=200)
    asked = parser.parse_args()
    print(measure.machine(), flush=True)
    ratios: list[float] = []
    for folder, dataset in zip(asked.pairs[::2], asked.pairs[1::2], strict=True):
        begun = time.perf_counter()
        count, exact = exact_lines(folder, Dataset.open(dataset), asked.lines)
        shown = ", ".join(f"{subject} {number}" for subject, number in exact.items())
        ratios.append(exact[BOTH] / max(1, exact["most frequent next line"]))
        print(
            f"{folder}: of {count} lines {shown}; ratio {ratios[-1]:.2f}; {time.perf_counter() - begun:.0f} s",
            flush=True,
        )
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
