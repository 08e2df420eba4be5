"""Times completions with and without drafts of the memory, on text that repeats the repository.

    python benchmarks/drafts.py MODEL DATASET

Prompts are the beginnings of files of the training split, so the memory knows what follows. Both ways write the same
tokens, in turns; the script ends with an error if they do not.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.dataset.folder import Dataset
from git_starcoder.dataset.held_out import draw_documents, load_documents
from git_starcoder.memory.repository_memory import MemoryReader
from git_starcoder.model.complete import Model
from git_starcoder.model.with_memory import read_prompt

if TYPE_CHECKING:
    from collections.abc import Callable

PROMPTS, PROMPT_TOKENS, NEW_TOKENS, ROUNDS = 12, 300, 64, 3


def main() -> None:
    """Print the tokens per second of both ways in each round, and the median of their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path)
    arguments = parser.parse_args()
    model = Model.open(arguments.model)
    if model.memory is None:
        parser.error("the model has no memory")
    memory, network, tokenizer = model.memory, model.network, model.tokenizer
    files = [each for each in load_documents(Dataset.open(arguments.dataset), "train") if len(each.tokens) > 500]
    drawn = draw_documents(files, PROMPTS * 2048)[:PROMPTS]
    prompts = [np.append(network.end_token, each.tokens[:PROMPT_TOKENS]).astype(np.int64) for each in drawn]
    stop = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
    drafts = MemoryReader.draft

    def write(draft: Callable[[MemoryReader], list[int]]) -> tuple[list[list[int]], float]:
        MemoryReader.draft = draft
        start = time.perf_counter()
        written = [
            network.generate([prompt], NEW_TOKENS, stop=stop, readers=[read_prompt(memory, prompt, tokenizer)])[0]
            for prompt in prompts
        ]
        return [tokens.tolist() for tokens in written], time.perf_counter() - start

    ratios: list[float] = []
    for _ in range(ROUNDS):
        (drafted, fast), (plain, slow) = write(drafts), write(lambda _: [])
        if drafted != plain:
            parser.error("the texts differ")
        count = sum(map(len, plain))
        ratios.append(slow / fast)
        print(f"with drafts {count / fast:6.0f} tokens/s, without {count / slow:6.0f}: {slow / fast:.2f} times")
    print(f"median {statistics.median(ratios):.2f} times as fast, prompts of {PROMPT_TOKENS} tokens included")


if __name__ == "__main__":
    main()
