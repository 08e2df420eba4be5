"""Measures the bits per byte that a base needs for held-out text of each language, beside PPM given as much text.

    python benchmarks/by_language.py MODEL DATASET [--bytes 100000] [--scratch MODEL] > languages.json

MODEL is the folder of a model or of a base, and DATASET is what it was trained on. If it was built again since, a note
says so. From the test split, `--bytes` bytes of each language are drawn, at most a thirty-second part of them from one
file. Files that a base has read are left out.

PPMd-24 reads as many bytes of training files of a language as the base has read of it, which follows from the weights of
their rows and from the tokens that the base saw. It forgets each held-out file after reading it. Its statistics have no
room for more than some 50 MB; a star in the table says that the base has read more (`--ppm-bytes`). `--scratch` adds
another model with the same tokenizer, such as one that was trained from scratch on equally many tokens of other text.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.bases import BASE_FILE, Base
from git_starcoder.dataset import Dataset
from git_starcoder.dataset.contamination import drop_read
from git_starcoder.dataset.held_out import DRAW_SEED, draw_documents, load_documents
from git_starcoder.evals import control_mask, mean_over_groups
from git_starcoder.evals.bits_per_byte import document_bits
from git_starcoder.evals.compressors import CompressorTask, measure_sizes
from git_starcoder.model.loading import load_weights, read_training_record
from git_starcoder.model.network import Network
from git_starcoder.records import content_id
from git_starcoder.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from git_starcoder.bases.blobs import BlobFilter
    from git_starcoder.dataset.held_out import Document
    from git_starcoder.text.tokenizer import Tokenizer

BYTES_PER_TOKEN = 3
"""Fewer than a token has, so that enough tokens are drawn."""
OTHER_DATASET = (
    "The dataset of this test split was built from the same commits with a later version, so it is split otherwise. "
    "Files that the base has read are left out; it may have read files that resemble the others."
)
"""A note for the card if the model was trained on another dataset."""
PPM_STATISTICS_BYTES = 4_000_000_000
"""The memory for the statistics of PPM: about as much as its library can use."""


class Language(NamedTuple):
    """What was measured of one language. The fields are JSON keys."""

    language: str
    files: int
    bytes: int
    """Held-out bytes that were scored."""
    model: list[float]
    """Bits per byte, and the 95 % interval over leak groups."""
    ppm: float
    ppm_ratio: list[float]
    """Bits of the model as a share of those of PPM, and the paired interval."""
    ppm_bytes: int
    """Bytes of training text that PPM has read."""
    is_ppm_cut: bool
    """Whether the base has read more of this language than PPM could."""
    scratch: float | None
    scratch_ratio: list[float] | None


def text_of(tokens: NDArray[Any], tokenizer: Tokenizer) -> bytes:
    """The text of tokens without control tokens."""
    return tokenizer.decode(tokens[~control_mask(tokenizer)[tokens]])


def bytes_read(rows: Iterable[dict[str, Any]], byte_counts: Counter[str], token_counts: Counter[str], seen: int) -> dict[str, int]:  # fmt: skip
    """How many bytes of each language a training read, given the tokens that it saw of all.

    A training draws rows by their weights. Bytes per token are those of the files of the language.
    """
    weights = Counter[str]()
    for row in rows:
        weights[row["language"]] += row["weight"] * row["length"]
    total = sum(weights.values())
    return {
        language: int(seen * weight / total * byte_counts[language] / token_counts[language])
        for language, weight in weights.items()
    }


def training_text(documents: Sequence[Document], tokenizer: Tokenizer, limit: int) -> bytes:
    """Up to `limit` bytes of training files, each followed by a zero byte, in the order of a hash of their paths."""
    parts: list[bytes] = []
    size = 0
    for document in sorted(documents, key=lambda each: content_id(DRAW_SEED, each.path, each.start)):
        if size >= limit:
            break
        parts.append(text_of(document.tokens, tokenizer) + b"\0")
        size += len(parts[-1])
    return b"".join(parts)[:limit]


def measure(networks: Sequence[Network], tokenizer: Tokenizer, documents: Sequence[Document], training: bytes, *, is_cut: bool, worker: Executor) -> Language:  # fmt: skip
    """Measure one language; the first network is the main one."""
    texts = [
        (text_of(each.tokens[: each.context_length], tokenizer),
         text_of(each.scored, tokenizer) + b"\0" * int(each.tokens[-1] == tokenizer.end_id))
        for each in documents
    ]  # fmt: skip
    sizes = np.array([len(scored) for _, scored in texts])
    groups = [each.group for each in documents]
    bits, *others = (document_bits(network, documents, tokenizer.end_id) for network in networks)
    task = CompressorTask("ppm", training, texts, PPM_STATISTICS_BYTES)
    found = worker.submit(measure_sizes, task).result()
    ppm = 8.0 * np.array(found.reset)

    def ratio(above: NDArray[Any], below: NDArray[Any]) -> list[float]:
        estimate = mean_over_groups(groups, above, below, DRAW_SEED)
        return [round(value, 4) for value in (estimate.value, estimate.low, estimate.high) if value is not None]

    return Language(
        documents[0].language, len({each.path for each in documents}), int(sizes.sum()), ratio(bits, sizes),
        ratio(ppm, sizes)[0], ratio(bits, ppm), len(training), is_cut,
        ratio(others[0], sizes)[0] if others else None, ratio(bits, others[0]) if others else None,
    )  # fmt: skip


def table(languages: Sequence[Language]) -> str:
    """The figures as a Markdown table."""
    has_scratch = any(each.scratch is not None for each in languages)
    lines = [
        "| language | held-out files | bytes | bits per byte | PPM | share of PPM's bits |"
        + " from scratch |" * has_scratch,
        "| --- " * (6 + has_scratch) + "|",
    ]
    for each in languages:
        low_high = " to ".join(f"{value:.2f}" for value in each.ppm_ratio[1:])
        interval = f" ({low_high})" if low_high else ""
        line = (
            f"| {each.language} | {each.files:,} | {each.bytes:,} | {each.model[0]:.3f} | {each.ppm:.3f}"
            f"{' *' * each.is_ppm_cut} | {each.ppm_ratio[0]:.2f}{interval} |"
        )
        lines.append(line + (f" {each.scratch:.3f} |" if each.scratch is not None else " |" * has_scratch))
    return "\n".join(lines)


class TrainingFacts(NamedTuple):
    """What is known of the training of a model or a base."""

    tokens: int
    dataset: str
    """The digest of its dataset."""
    blobs: BlobFilter | None
    """What it has read, if it is a base."""

    @classmethod
    def read(cls, folder: Path) -> TrainingFacts:
        """Read them from its folder."""
        if (folder / BASE_FILE).is_file():
            base = Base.open(folder)
            return cls(int(base.record["tokens"]), str(base.record["dataset"]), base.read_blobs())
        record = read_training_record(folder)
        return cls(int(record["result"]["tokens"]), str(record["dataset"]), None)


def main() -> None:
    """Print the figures as JSON; `table` is what the card shows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--bytes", type=int, default=100_000)
    parser.add_argument("--min-bytes", type=int, default=10_000, help="languages with less held-out text are left out")
    parser.add_argument("--ppm-bytes", type=int, default=48_000_000)
    parser.add_argument("--scratch", type=Path)
    asked = parser.parse_args()
    tokenizer, dataset = load_tokenizer(asked.model), Dataset.open(asked.dataset)
    folders = [asked.model, *([asked.scratch] if asked.scratch else [])]
    networks = [Network(load_weights(folder), tokenizer) for folder in folders]
    facts = TrainingFacts.read(asked.model)
    held_out: dict[str, list[Document]] = defaultdict(list)
    for document in drop_read(load_documents(dataset, "test"), facts.blobs):
        held_out[document.language].append(document)
    training: dict[str, list[Document]] = defaultdict(list)
    byte_counts, token_counts = Counter[str](), Counter[str]()
    for document in load_documents(dataset, "train"):
        training[document.language].append(document)
    for language, documents in training.items():
        sample = draw_documents(documents, 200_000)
        byte_counts[language] = sum(len(text_of(each.scored, tokenizer)) for each in sample)
        token_counts[language] = sum(len(each.scored) for each in sample)
    read = bytes_read(dataset.row_metadata("train"), byte_counts, token_counts, facts.tokens)
    languages: list[Language] = []
    # A fresh process, which has one thread: PPM forks. The workers of a build may not have this much memory.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as worker:
        for language, documents in sorted(held_out.items()):
            drawn = draw_documents(documents, asked.bytes // BYTES_PER_TOKEN)
            if sum(len(text_of(each.scored, tokenizer)) for each in drawn) < asked.min_bytes or not read.get(language):
                continue
            text = training_text(training[language], tokenizer, min(read[language], asked.ppm_bytes))
            is_cut = read[language] > asked.ppm_bytes
            languages.append(measure(networks, tokenizer, drawn, text, is_cut=is_cut, worker=worker))
    note = "" if dataset.digest == facts.dataset else OTHER_DATASET
    found = {"languages": [each._asdict() for each in languages], "table": table(languages), "note": note}
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
