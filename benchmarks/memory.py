"""Times the memory of a repository: building it, updating it after a commit, and reading along while text is written.

    python benchmarks/memory.py DATASET [DATASET_OF_A_LATER_COMMIT]

Both datasets need the same tokenizer, as those of `git starcoder build` have unless the anchor commit moved. The update
is compared with a memory that is built from nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.dataset.folder import Dataset
from git_starcoder.dataset.held_out import load_documents
from git_starcoder.memory.contexts import ARRAYS
from git_starcoder.memory.repository_memory import MemoryReader, RepositoryMemory
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Callable

READ_TOKENS = 2000
"""Tokens of a held-out file that are read and predicted one by one."""


def timed(name: str, work: Callable[[], Any]) -> Any:
    """Print how long a piece of work takes, and return its result."""
    start = time.perf_counter()
    result = work()
    print(f"{name:28} {time.perf_counter() - start:8.2f} s")
    return result


def memory_now(field: str) -> int:
    """Return the bytes that this process has in memory (`VmRSS`), or the most it has had (`VmHWM`)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def documents(folder: Path) -> list[np.ndarray[Any, Any]]:
    """Return the tokens of all files of a dataset."""
    dataset = Dataset.open(folder)
    return [document.tokens for split in ("train", "val", "test") for document in load_documents(dataset, split)]


def main() -> None:
    """Time the memory of the datasets in the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("later", type=Path, nargs="?")
    arguments = parser.parse_args()
    tokenizer = tokenizers.load_tokenizer(arguments.dataset / "tokenizer")
    texts = timed("read the dataset", lambda: documents(arguments.dataset))
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is what is there now
    before = memory_now("VmRSS")
    memory = timed("build", lambda: RepositoryMemory.build(texts, "repository", tokenizer))
    size = sum(getattr(memory.index, name).nbytes for name in ARRAYS)
    print(
        f"{len(memory.index.places):,} tokens, {size / 1e6:.0f} MB, at most {(memory_now('VmHWM') - before) / 1e6:.0f} MB more"
    )
    with tempfile.TemporaryDirectory() as folder:
        timed("save", lambda: memory.save(Path(folder) / "memory"))
        opened = timed("open", lambda: RepositoryMemory.open(Path(folder) / "memory"))
        reader = MemoryReader(opened)
        even = np.full(tokenizer.vocab_size, 1 / tokenizer.vocab_size, dtype=np.float32)

        def read() -> None:
            for token in max(texts, key=len)[:READ_TOKENS].tolist():
                reader.mix(even)
                reader.add([token])

        timed(f"read along, {READ_TOKENS:,} tokens", read)
    if arguments.later:
        if (arguments.later / "tokenizer/tokenizer.json").read_bytes() != (
            arguments.dataset / "tokenizer/tokenizer.json"
        ).read_bytes():
            parser.error("the datasets have different tokenizers")
        texts = documents(arguments.later)
        updated = timed("update", lambda: memory.update(texts, "repository"))
        built = timed("build the later one", lambda: RepositoryMemory.build(texts, "repository", tokenizer))
        same = all(np.array_equal(getattr(updated.index, name), getattr(built.index, name)) for name in ARRAYS)
        print(f"the same arrays: {same}")


if __name__ == "__main__":
    main()
