"""Scores models on held-out text that is given as bytes, so that models with different tokenizers score the same."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from git_starcoder.augmentations import header_parts
from git_starcoder.dataset.held_out import Document, draw_documents
from git_starcoder.dataset.samples import NO_TOKENS
from git_starcoder.errors import DatasetError
from git_starcoder.evals import BOTH, MEMORY, NETWORK
from git_starcoder.evals.bits_per_byte import document_bits
from git_starcoder.memory.repository_memory import RepositoryMemory
from git_starcoder.model.loading import load_model, read_training_record
from git_starcoder.model.with_context import scored_network
from git_starcoder.model.with_memory import (
    MEMORY_FOLDER,
    MemoryModel,
    NetworkWithMemory,
    RememberingNetwork,
    training_memory,
)
from git_starcoder.records import content_id, parse_printable_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.dataset import Dataset
    from git_starcoder.protocols import LanguageModel
    from git_starcoder.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class HeldOutText:
    """A part of a held-out file. It begins and ends between two lines, or with the file."""

    path: str
    """The printable path."""
    language: str
    role: str
    group: str
    """The leak group of the file."""
    blob: str
    """The id that git gives to the content of the file."""
    read: bytes
    """The text before, which is read and not scored."""
    scored: bytes
    begins_file: bool
    """Whether `read`, or `scored` if that is empty, begins with the file."""
    ends_file: bool
    """Whether the end of the file is scored, too."""


def draw_texts(documents: Sequence[Document], limit: int, tokenizer: Tokenizer) -> list[HeldOutText]:
    """Draw documents until `limit` of their tokens are scored, and cut them between lines. See `draw_documents`.

    A model with another tokenizer could not score a text that is cut anywhere: its tokens have other ends.
    """
    texts: list[HeldOutText] = []
    for document in draw_documents(documents, limit):
        ends_file = bool(document.tokens[-1] == tokenizer.end_id)
        read, scored = (
            tokenizer.decode(part[part != tokenizer.end_id])
            for part in np.split(document.tokens, [document.context_length])
        )
        if document.start:  # the first line may be incomplete
            read = read.partition(b"\n")[2]
        if (read or document.start) and not read.endswith(b"\n"):
            head, line_end, scored = scored.partition(b"\n")
            read += (head + line_end) * bool(read)
        if not ends_file:
            scored = scored[: scored.rfind(b"\n") + 1]
        if scored:
            about = document.path, document.language, document.role, document.group, document.blob
            texts.append(HeldOutText(*about, read, scored, document.start == 0, ends_file))
    return texts


def digest_texts(texts: Sequence[HeldOutText]) -> str:
    """Return a hash of everything that is scored, and of what is read before it."""
    parts = ((text.path, text.read, text.scored, int(text.begins_file), int(text.ends_file)) for text in texts)
    return content_id(*(part for text in parts for part in text))


def encode_texts(texts: Sequence[HeldOutText], tokenizer: Tokenizer, repository: str | None) -> list[Document]:
    """Encode texts for a model. With the name of a repository, each document has the header of its file.

    The text before and the scored text are encoded separately, so that no token is in both.
    """
    tokens, ends = tokenizer.encode([part for text in texts for part in (text.read, text.scored)])
    documents: list[Document] = []
    for index, text in enumerate(texts):
        start, middle, stop = ends[2 * index : 2 * index + 3].tolist()
        end = [tokenizer.end_id] * text.ends_file
        own = np.concatenate((tokens[start:stop], end)).astype(np.int32)
        # All that readers of `start` ask is whether the text begins a file: where it begins is counted in tokens, which
        # differ between tokenizers.
        place = 0 if text.begins_file else 1
        header = (
            NO_TOKENS if repository is None else encode_header(tokenizer, repository, parse_printable_path(text.path))
        )
        about = text.path, text.language, text.role, text.group
        documents.append(Document(*about, place, own, middle - start, header.astype(np.int32), text.blob))
    return documents


def encode_header(tokenizer: Tokenizer, repository: str, path: str) -> NDArray[np.int64]:
    """Encode the header of a file, as a build writes it."""
    tokens: list[int] = []
    for part in header_parts(repository, path):
        tokens += tokenizer.control_token_ids(part.control_token)
        tokens += tokenizer.encode([part.text])[0].tolist()
    return np.array(tokens, dtype=np.int64)


def score_texts(model: str | Path, dataset: Dataset, texts: Sequence[HeldOutText]) -> dict[str, NDArray[np.float64]]:
    """Return the bits that a model needs for each text, shape (texts,), by subject.

    The subjects are `network`, `memory` and `network and memory`. The memory is that of the training split of
    `dataset`. If the model was not trained on this dataset, its gate may have seen the texts, so only the network is
    scored, as it is if the model has no memory.

    Raises:
        DatasetError: It is not a model folder, it is damaged, or its predictions are not numbers.
    """
    folder = Path(model)
    network, tokenizer = load_model(folder)
    training = read_training_record(folder)
    documents = encode_texts(texts, tokenizer, training.get("repository"))
    alone = RememberingNetwork(scored_network(network, training, dataset, tokenizer))
    models: dict[str, LanguageModel] = {NETWORK: alone}
    if training["dataset"] == dataset.digest and (folder / MEMORY_FOLDER).is_dir():
        memory = training_memory(RepositoryMemory.open(folder / MEMORY_FOLDER), dataset, tokenizer)
        models |= {MEMORY: MemoryModel(memory, tokenizer), BOTH: NetworkWithMemory(alone, memory, tokenizer)}
    bits = {subject: document_bits(each, documents, tokenizer.end_id) for subject, each in models.items()}
    if not all(np.isfinite(values).all() for values in bits.values()):
        hint = "its training went wrong: train it again, with a smaller learning rate"
        raise DatasetError("the model's predictions are not numbers", where=str(folder), hint=hint)
    return bits
