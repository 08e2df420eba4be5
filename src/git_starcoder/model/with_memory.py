"""The memory of a repository as a language model: alone, and mixed into the predictions of a network."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.dataset.contamination import drop_read
from git_starcoder.dataset.held_out import DRAW_SEED, draw_documents, load_documents, load_repository
from git_starcoder.evals import control_mask
from git_starcoder.evals.bits_per_byte import document_sequences
from git_starcoder.memory.repository_memory import MemoryReader, NetworkView, RepositoryMemory
from git_starcoder.model.network import UNLIMITED_CONTEXT_TOKENS
from git_starcoder.protocols import NO_PROGRESS, Progress
from git_starcoder.records import content_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from git_starcoder.bases.blobs import BlobFilter
    from git_starcoder.dataset import Dataset
    from git_starcoder.dataset.held_out import Document
    from git_starcoder.model.network import Network
    from git_starcoder.model.with_context import NetworkWithContext
    from git_starcoder.text.tokenizer import Tokenizer

    Tokens = NDArray[Any]

MEMORY_FOLDER = "memory"
"""The folder in a model's folder with the memory of the whole repository."""
GATE_TOKENS = 32_768
"""Tokens of the val split that gates are trained on."""
MAX_MEMORY_TOKENS = 1 << 25
"""Tokens that a memory has read, at most. Making it takes some 50 bytes of memory for each, and many repositories have
hundreds of millions of tokens."""
MAX_GATE_SHARE = 0.1
"""Share of the training split that gates are trained on if there is no val split."""


class MemoryModel:
    """A memory alone. It implements the protocol `LanguageModel` that evals use."""

    context = UNLIMITED_CONTEXT_TOKENS

    def __init__(self, memory: RepositoryMemory, tokenizer: Tokenizer) -> None:
        self.memory = memory
        self.tokenizer = tokenizer

    def sequence_bits(
        self, sequences: Sequence[Tokens], first_scored: Sequence[int], *, headers: Sequence[Tokens] = (),
        parts: int = 4,
    ) -> list[NDArray[np.float32]]:  # fmt: skip
        """Compute the bits of sequences; `headers` and `parts` change nothing. See `protocols.LanguageModel`."""
        del headers, parts
        return _score(self.memory, sequences, first_scored)

    def generate(self, prompts: Sequence[Tokens], limit: int, *, stop: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
        """Continue each prompt. See `protocols.LanguageModel`."""
        written: list[NDArray[np.int32]] = []
        for prompt in prompts:
            reader = read_prompt(self.memory, prompt, self.tokenizer)
            tokens: list[int] = []
            while len(tokens) < limit and not (tokens and stop[tokens[-1]]):
                tokens.append(int(reader.predict().argmax()))
                reader.add(tokens[-1:])
            written.append(np.array(tokens, dtype=np.int32))
        return written


class RememberingNetwork:
    """A network alone, which keeps what it predicted for the newest sequences: they are scored with a memory, too.

    It implements the protocol `LanguageModel`.
    """

    def __init__(self, network: Network | NetworkWithContext) -> None:
        self.network = network
        self.context = network.context
        self.generate = network.generate
        self._key = ""
        self._views: list[NDArray[np.float32]] = []

    def sequence_bits(
        self, sequences: Sequence[Tokens], first_scored: Sequence[int], *, headers: Sequence[Tokens] = (),
        parts: int = 4,
    ) -> list[NDArray[np.float32]]:  # fmt: skip
        """Compute the bits of sequences; `parts` changes nothing. See `protocols.LanguageModel`."""
        del parts
        return [view[:, 0] for view in self.sequence_views(sequences, first_scored, headers)]

    def sequence_views(
        self, sequences: Sequence[Tokens], first_scored: Sequence[int], headers: Sequence[Tokens]
    ) -> list[NDArray[np.float32]]:
        """Describe the prediction of each scored token. See `Network.sequence_views`."""
        key = content_id(*first_scored, *(each.tobytes() for each in (*sequences, *headers)))
        if key != self._key:
            self._views, self._key = self.network.sequence_views(sequences, first_scored, headers), key
        return self._views


class NetworkWithMemory:
    """A network and a memory that is mixed into its predictions. It implements the protocol `LanguageModel`."""

    def __init__(self, network: Network | RememberingNetwork, memory: RepositoryMemory, tokenizer: Tokenizer) -> None:
        self.network = network
        self.memory = memory
        self.tokenizer = tokenizer
        self.context = network.context

    def sequence_bits(
        self, sequences: Sequence[Tokens], first_scored: Sequence[int], *, headers: Sequence[Tokens] = (),
        parts: int = 4,
    ) -> list[NDArray[np.float32]]:  # fmt: skip
        """Compute the bits of sequences. See `protocols.LanguageModel`."""
        del parts  # the network reads as the gate saw it read
        views = self.network.sequence_views(sequences, first_scored, headers)
        return _score(self.memory, sequences, first_scored, views)

    def generate(self, prompts: Sequence[Tokens], limit: int, *, stop: NDArray[np.bool_]) -> list[NDArray[np.int32]]:
        """Continue each prompt. See `protocols.LanguageModel`."""
        readers = [read_prompt(self.memory, prompt, self.tokenizer) for prompt in prompts]
        return self.network.generate(prompts, limit, stop=stop, readers=readers)


def read_prompt(memory: RepositoryMemory, prompt: Tokens, tokenizer: Tokenizer) -> MemoryReader:
    """Let a memory read a prompt, whose texts are separated by control tokens: see `texts_of_prompt`."""
    others, current = texts_of_prompt(prompt, tokenizer)
    reader = MemoryReader(memory, others)
    reader.add(current.tolist())
    return reader


def texts_of_prompt(prompt: Tokens, tokenizer: Tokenizer) -> tuple[list[Tokens], Tokens]:
    """Divide a prompt into the text that is written, which comes last here, and the others, which are read before it.

    The text that is written is the one before the gap, or else the last one. The others are the text after the gap,
    what the header says, and files that are shown as context. If the suffix stands first, the text before the gap is
    the last one, too.
    """
    edges = [-1, *np.flatnonzero(control_mask(tokenizer)[prompt]).tolist(), len(prompt)]
    texts = [prompt[before + 1 : end] for before, end in pairwise(edges)]
    current = len(texts) - 1
    if tokenizer.fim_ids and not len(texts[-1]):
        gap = tokenizer.fim_ids[0]
        current = next((index for index, edge in enumerate(edges[1:-1], 1) if prompt[edge] == gap), current)
    return [text for index, text in enumerate(texts) if index != current and len(text)], texts[current]


def add_memory(
    network: Network | NetworkWithContext,
    dataset: Dataset,
    tokenizer: Tokenizer,
    blobs: BlobFilter | None = None,
    progress: Progress = NO_PROGRESS,
) -> RepositoryMemory:
    """Make the memory of the repository of a dataset, for use with a network that was trained on it.

    A note says if the repositories of the dataset have more tokens than a memory reads.

    Its gates are trained on the val split, with a memory that holds the training split only, as it is when it is
    scored. The files of `blobs`, which the base of the network has read, are not among them: a gate would learn to
    trust the network too much.

    If there is no val split, gates are trained on some training files, with a memory of the others. The network has
    read them, so its gate trusts it a little too much.
    """
    training = load_documents(dataset, "train")
    documents = draw_documents(drop_read(load_documents(dataset, "val"), blobs), GATE_TOKENS)
    if not documents:
        size = sum(len(document.tokens) for document in training)
        drawn = draw_documents(training, min(GATE_TOKENS, int(MAX_GATE_SHARE * size)))
        groups = {document.group for document in drawn}
        if others := [document for document in training if document.group not in groups]:
            documents, training = drawn, others
    memory = RepositoryMemory.build(remembered_texts(training), "training split", tokenizer)
    sequences, first_scored = document_sequences(documents, tokenizer.end_id)
    memory = memory.fit_gate(*_without_end(memory, sequences, first_scored))
    views = network.sequence_views(sequences, first_scored, [document.header for document in documents])
    memory = memory.fit_gate(*_without_end(memory, sequences, first_scored), _join_views(views))
    whole = load_repository(dataset)
    remembered = remembered_texts(whole)
    if len(remembered) < len(whole):
        read, total = sum(map(len, remembered)), sum(len(document.tokens) for document in whole)
        progress.note(f"the memory has read {read:,} of {total:,} tokens, which is as much as it can hold")
    return memory.update(remembered, "repository")


def remembered_texts(documents: Sequence[Document]) -> list[Tokens]:
    """The texts of files that a memory reads: all of them, or as many as it can hold, drawn by their paths."""
    sizes = np.array([len(document.tokens) for document in documents], dtype=np.int64)
    if sizes.sum() <= MAX_MEMORY_TOKENS:
        return [document.tokens for document in documents]
    hashes = [content_id(DRAW_SEED, document.path, document.start) for document in documents]
    order = np.array(sorted(range(len(hashes)), key=lambda index: hashes[index]), dtype=np.int64)
    drawn: list[int] = np.sort(order[np.cumsum(sizes[order]) <= MAX_MEMORY_TOKENS]).tolist()
    return [documents[index].tokens for index in drawn]


def training_memory(stored: RepositoryMemory, dataset: Dataset, tokenizer: Tokenizer) -> RepositoryMemory:
    """Make the memory of a training split, for scores, with the gates of a stored memory of the repository."""
    training = remembered_texts(load_documents(dataset, "train"))
    return RepositoryMemory.build(training, "training split", tokenizer, stored.gates)


def _score(
    memory: RepositoryMemory, sequences: Sequence[Tokens], first_scored: Sequence[int],
    views: Sequence[NDArray[np.float32]] | None = None,
) -> list[NDArray[np.float32]]:  # fmt: skip
    view = None if views is None else _join_views(views)
    bits = memory.token_bits(*_without_end(memory, sequences, first_scored), view)
    counts = [len(sequence) - first for sequence, first in zip(sequences, first_scored, strict=True)]
    return np.split(bits, np.cumsum(counts)[:-1])


def _without_end(
    memory: RepositoryMemory, sequences: Sequence[Tokens], first_scored: Sequence[int]
) -> tuple[list[Tokens], list[int]]:
    """Return sequences without the end-of-text token at the beginning of a file, which a memory does not expect."""
    begins = [int(len(sequence) > 0 and sequence[0] == memory.index.end_token) for sequence in sequences]
    texts = [sequence[begin:] for sequence, begin in zip(sequences, begins, strict=True)]
    return texts, [first - begin for first, begin in zip(first_scored, begins, strict=True)]


def _join_views(views: Sequence[NDArray[np.float32]]) -> NetworkView:
    """Return the view of all sequences, one after another; each is given by its columns, shape (tokens, 3)."""
    return NetworkView(*np.concatenate([np.zeros((0, 3), dtype=np.float32), *views]).T)
