"""A finished dataset written by hand, so that training and evals are tested without the pipeline."""

from __future__ import annotations

import json
from hashlib import sha256
from random import Random
from typing import TYPE_CHECKING

import bases
from git_starcoder.augmentations import header_parts
from git_starcoder.dataset import Dataset

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from git_starcoder.text.tokenizer import Tokenizer

MAX_HEADER_TOKENS = 32
WORDS = ["account", "order", "ledger", "ticket", "parcel", "sensor", "signal", "packet", "folder", "member", "invoice"]


def source(seed: int, functions: int = 12) -> bytes:
    """A file of functions that are all alike: easy to learn, and new in its names."""
    random = Random(seed)
    parts = ['"""Generated."""\n\nfrom __future__ import annotations\n\n']
    for _ in range(functions):
        name, other = random.sample(WORDS, 2)
        parts.append(
            f"def find_{name}(items: list[int], limit: int) -> int:\n    total = {random.randrange(9)}\n"
            f"    for {other} in items:\n        if {other} > limit:\n            total += {other}\n    return total\n\n"
        )
    return "".join(parts).encode()


def write(
    folder: Path,
    texts: Mapping[str, Mapping[str, bytes]],
    *,
    size: int = 128,
    stride: int = 32,
    vocab_size: int = 512,
    strategy: str = "random",
    weights: Mapping[str, float] | None = None,
    repository: str | None = None,
    tokenizer: Tokenizer | None = None,
) -> Dataset:
    """A dataset of `base` rows: texts by split and path, with a tokenizer, or one learned from the training texts.

    With the name of a repository, rows have a header, in addition to their `size`.
    """
    header_room = MAX_HEADER_TOKENS * (1 if tokenizer is None else 2)  # of others, control tokens may be spelled out
    tokenizer = tokenizer or bases.learn(list(texts["train"].values()) or [b"nothing"], vocab_size)
    (folder / "tokenizer").mkdir(parents=True)
    tokenizer.save(folder / "tokenizer")
    for split in ("train", "val", "test"):
        with (folder / f"training_data_{split}.jsonl").open("w", encoding="utf-8") as lines:
            for path, text in texts.get(split, {}).items():
                tokens = [*tokenizer.encode([text])[0].tolist(), tokenizer.end_id]
                header = encode_header(tokenizer, repository, path) if repository else []
                assert len(header) <= header_room
                for start in range(0, max(1, len(tokens) - size + stride), stride):
                    row = header + tokens[start : start + size]
                    metadata = {
                        "row_id": sha256(f"{path} {start}".encode()).hexdigest()[:16],
                        "source_file": path,
                        "sample": sha256(path.encode()).hexdigest()[:32],
                        "token_start": start,
                        "length": len(row),
                        "augmentation_type": "base",
                        "language": "python",
                        "role": "core",
                        "group": f"group of {path}",
                        "weight": (weights or {}).get(path, 1.0),
                    }
                    if header:
                        metadata["context"] = len(header)
                    row += [tokenizer.pad_id] * (size - len(row))
                    lines.write(json.dumps({"tokens": row, "metadata": metadata}) + "\n")
    metadata = {"learning_strategy": strategy, "max_tokens_per_sequence": size, "vocab_size": tokenizer.vocab_size}
    if repository:
        metadata |= {"repository": repository, "max_tokens_per_sequence": size + header_room}
    (folder / "dataset_metadata.json").write_text(json.dumps(metadata))
    digest = sha256((folder / "training_data_train.jsonl").read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(
        json.dumps({"schema": "git-starcoder/dataset/2", "digest": digest, "steps": [], "files": {}})
    )
    return Dataset.open(folder)


def encode_header(tokenizer: Tokenizer, repository: str, path: str) -> list[int]:
    """The header of a file, as a build writes it."""
    header: list[int] = []
    for part in header_parts(repository, path):
        header += tokenizer.control_token_ids(part.control_token) + tokenizer.encode([part.text])[0].tolist()
    return header


def toy(folder: Path, **options: object) -> Dataset:
    """Twenty files to learn from, three to choose weights by, two to ask about."""
    splits = {"train": range(20), "val": range(20, 23), "test": range(23, 25)}
    texts = {split: {f"src/file_{seed}.py": source(seed) for seed in seeds} for split, seeds in splits.items()}
    return write(folder, texts, **options)
