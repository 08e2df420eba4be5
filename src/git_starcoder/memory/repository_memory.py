"""Remembers the documents of a repository exactly, and predicts tokens from them and from the file so far."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, Self
from zipfile import BadZipFile

import numpy as np
import orjson

from git_starcoder.errors import DatasetError
from git_starcoder.memory.contexts import ARRAYS, ContextIndex, OrderCounts
from git_starcoder.memory.file_counts import MAX_FILE_ORDER, FileCounts, file_counts
from git_starcoder.memory.gate import EXPERTS, REPOSITORY, Gate, collect_evidence, discounted
from git_starcoder.memory.sorting import MAX_ORDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from git_starcoder.memory.contexts import Following
    from git_starcoder.memory.file_counts import TokenCounts
    from git_starcoder.memory.gate import Evidence, Floats
    from git_starcoder.text.tokenizer import Tokenizer

    Tokens = NDArray[np.integer]

MEMORY_SCHEMA = "git-starcoder/memory/1"
MARKER_FILE = "memory.json"
"""The file of a memory folder that says what the memory holds."""
Contents = Literal["training split", "repository"]
"""What a memory holds. A score may only come from a memory of the training split. The memory of the whole repository,
which contains the held-out files, is for use."""
GateName = Literal["alone", "network"]
"""A gate mixes contexts into the same probability for each token, or into the predictions of a network."""
DRAFT_TOKENS = 8
"""The largest number of tokens of a draft: longer ones are rarely right to their end."""
MIN_DRAFT_ORDER = 3
"""The shortest context that a draft is copied from, in tokens: after a shorter one, drafts are mostly wrong."""


class NetworkView(NamedTuple):
    """What a network predicts for each token of some documents. Arrays have shape (tokens,)."""

    bits: Floats
    """The bits that the network needs for the token."""
    entropy: Floats
    """The entropy of its prediction, in bits."""
    largest: Floats
    """The largest probability of its prediction."""


@dataclass(frozen=True)
class RepositoryMemory:
    """Exact counts of the documents of a repository, and the gates that mix them into predictions."""

    index: ContextIndex
    contents: Contents
    vocab_size: int
    gates: Mapping[GateName, Gate]

    @classmethod
    def build(
        cls, documents: Iterable[Tokens], contents: Contents, tokenizer: Tokenizer,
        gates: Mapping[GateName, Gate] | None = None,
    ) -> Self:  # fmt: skip
        """Remember documents, each given by its tokens. Without `gates`, they are untrained."""
        index = ContextIndex.build(documents, tokenizer.vocab_size, tokenizer.end_id)
        untrained: dict[GateName, Gate] = {"alone": Gate.untrained(), "network": Gate.untrained(of_network=True)}
        return cls(index, contents, tokenizer.vocab_size, untrained if gates is None else gates)

    def update(
        self, documents: Iterable[Tokens], contents: Contents, digests: Sequence[bytes] | None = None
    ) -> Self:  # fmt: skip
        """Return the memory of other documents. Only those that this memory does not hold are indexed.

        `digests` are those of the documents, if they are known.
        """
        return replace(self, index=self.index.update(documents, digests), contents=contents)

    def fit_gate(
        self, documents: Sequence[Tokens], first_scored: Sequence[int], view: NetworkView | None = None, seed: int = 0
    ) -> Self:
        """Return this memory with a gate trained on documents that it does not hold, such as the val split.

        The arguments are those of `token_bits`.
        """
        gate = Gate.fit(self.evidence(documents, first_scored, view), seed)
        return replace(self, gates={**self.gates, "alone" if view is None else "network": gate})

    def token_bits(
        self, documents: Sequence[Tokens], first_scored: Sequence[int], view: NetworkView | None = None
    ) -> Floats:
        """Return the bits of tokens of some documents, one document after another, shape (scored tokens,).

        Args:
            documents: Tokens of each document. Each is read on its own: nothing is learned from the others.
            first_scored: The index for each document from which its tokens are scored. Those before it are only read.
            view: What a network predicts for the scored tokens; the memory is then mixed into its predictions.

        Raises:
            ValueError: The memory holds more than the training split, so it may hold what would be scored.
        """
        if self.contents != "training split":
            raise ValueError(f"a score may not come from a memory of the {self.contents}")
        gate = self.gates["alone" if view is None else "network"]
        return -np.log2(gate.probabilities(self.evidence(documents, first_scored, view)))

    def evidence(
        self, documents: Sequence[Tokens], first_scored: Sequence[int], view: NetworkView | None = None
    ) -> Evidence:
        """Collect what is known before each scored token of some documents. See `token_bits`."""
        end = np.array([self.index.end_token])
        text = np.concatenate([end[:0], *(part for document in documents for part in (end, document))]).astype(np.int64)
        files = [OrderCounts.zeros(0, MAX_FILE_ORDER + 1)]
        places: list[NDArray[np.int64]] = [end[:0]]
        start = 0
        for document, first in zip(documents, first_scored, strict=True):
            places.append(np.arange(start + 1 + first, start + 1 + len(document)))
            start += 1 + len(document)
            files.append(OrderCounts(*(column[first:] for column in file_counts(document, self.index.end_token))))
        at = np.concatenate(places)
        repository = self.index.counts(text, at)
        file = OrderCounts(*(np.concatenate(columns) for columns in zip(*files, strict=True)))
        if view is None:
            return collect_evidence(repository, file, np.full(len(at), 1 / self.vocab_size, dtype=np.float32))
        return collect_evidence(repository, file, np.exp2(-view.bits), np.stack((view.entropy, view.largest), axis=1))

    def save(self, folder: Path) -> None:
        """Write the memory into a new folder."""
        folder.mkdir()
        for name in ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self.index, name))
        for name, gate in self.gates.items():
            np.savez(folder / f"gate_{name}.npz", allow_pickle=False, **gate.parameters)
        marker = {
            "schema": MEMORY_SCHEMA, "contents": self.contents, "vocab_size": self.vocab_size,
            "end_token": self.index.end_token, "documents": len(self.index.lengths), "tokens": len(self.index.places),
        }  # fmt: skip
        (folder / MARKER_FILE).write_bytes(orjson.dumps(marker, option=orjson.OPT_INDENT_2) + b"\n")

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the memory in a folder. Its arrays stay on disk, and are read where they are needed.

        Raises:
            DatasetError: The folder holds no memory, or a damaged one.
        """
        try:
            marker = orjson.loads((folder / MARKER_FILE).read_bytes())
            arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray) for name in ARRAYS}
            names: tuple[GateName, ...] = ("alone", "network")
            gates: dict[GateName, Gate] = {name: Gate(dict(np.load(folder / f"gate_{name}.npz"))) for name in names}
            memory = cls(ContextIndex(marker["end_token"], **arrays), marker["contents"], marker["vocab_size"], gates)
            is_whole = {len(arrays[name]) for name in ("places", "next_tokens", "shared")} == {marker["tokens"]}
        except (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile) as error:
            what = f"the memory cannot be read: {error}"
            raise DatasetError(what, where=str(folder), hint="train the model again") from error
        if marker["schema"] != MEMORY_SCHEMA or not is_whole:
            raise DatasetError("the memory is damaged or of another version", where=str(folder), hint="train again")
        return memory


class MemoryReader:
    """Reads a text token by token with a memory, and predicts the next token."""

    def __init__(self, memory: RepositoryMemory, others: Sequence[Tokens] = ()) -> None:
        """Begin a text. `others` are texts that belong to it, such as what follows a gap that is to be filled."""
        self.memory = memory
        self.file = FileCounts(memory.index.end_token)
        self._contexts: tuple[list[Following], list[TokenCounts]] | None = None
        for other in others:
            self.add(other.tolist())
            self.file.begin_text()

    def add(self, tokens: Iterable[int]) -> None:
        """Read the next tokens."""
        self._contexts = None
        for token in tokens:
            self.file.add(token)

    def forget(self, count: int) -> None:
        """Take back the last tokens, as if they had not been read."""
        self._contexts = None
        self.file.forget(count)

    def _known_contexts(self) -> tuple[list[Following], list[TokenCounts]]:
        """Return the contexts of the next token that the repository and the file know; a draft and a mixture ask."""
        if self._contexts is None:
            self._contexts = self.memory.index.following(self.file.history), self.file.known_contexts()
        return self._contexts

    def predict(self) -> Floats:
        """Return the memory's own probabilities for the next token, shape (vocabulary,)."""
        vocab_size = self.memory.vocab_size
        return self._mix(np.full(vocab_size, 1 / vocab_size, dtype=np.float32), "alone", None)

    def mix(self, prediction: Floats) -> Floats:
        """Mix the memory into a network's probabilities for the next token. Both have shape (vocabulary,)."""
        possible = prediction[prediction > 0]
        view = np.array([[-(possible * np.log2(possible)).sum(), prediction.max()]], dtype=np.float32)
        return self._mix(prediction, "network", view)

    def _mix(self, base: Floats, gate: GateName, view: Floats | None) -> Floats:
        repository, file = self._known_contexts()
        counts = (
            _order_counts(repository, [each.occurrences for each in repository], MAX_ORDER),
            _order_counts(file, [len(self.file.history)] * len(file), MAX_FILE_ORDER),
        )
        evidence = collect_evidence(*counts, base[:1], view)
        escapes = self.memory.gates[gate].escapes(evidence)[0]
        # From the longest context to the shortest: what is left for the shorter ones is known then, so that each is
        # added once, and the base is multiplied once.
        left = 1.0
        parts: list[tuple[NDArray[np.integer], Floats]] = []
        experts = zip(EXPERTS, escapes.tolist(), evidence.kept[0].tolist(), strict=True)
        for (order, source), escape, kept in reversed(list(experts)):
            if source == REPOSITORY and order < len(repository):
                tokens, values = repository[order].tokens, repository[order].counts
            elif source != REPOSITORY and order < len(file):
                of_token = file[order].of_token
                tokens = np.fromiter(of_token, np.int64, len(of_token))
                values = np.fromiter(of_token.values(), np.int64, len(of_token))
            else:
                continue
            parts.append((tokens, discounted(values) * (left * (1 - escape) / kept)))
            left *= escape
        mixed: Floats = base * np.float32(left)
        for tokens, values in parts:
            mixed[tokens] += values
        return mixed

    def draft(self) -> list[int]:
        """Guess the next tokens by copying what followed the longest context that the file or the repository knows."""
        repository, file = self._known_contexts()
        if max(len(file), len(repository)) <= MIN_DRAFT_ORDER:
            return []
        if len(file) >= len(repository):
            copied = self.file.tokens[file[-1].places[-1] :][:DRAFT_TOKENS]
            end = self.memory.index.end_token
            return copied[: copied.index(end)] if end in copied else copied
        return self.memory.index.copy_after(repository[-1], DRAFT_TOKENS)


def _order_counts(
    contexts: Sequence[Following | TokenCounts], occurrences: Sequence[int], longest: int
) -> OrderCounts:  # fmt: skip
    """Return the counts of contexts of order 0, 1, and so on, up to the longest one; they occur so often."""
    table = np.zeros((len(OrderCounts._fields), 1, longest + 1), dtype=np.float32)
    for order, (each, count) in enumerate(zip(contexts, occurrences, strict=True)):
        table[:, 0, order] = 0, each.total, each.ones, each.twos, each.more, each.largest, count
    return OrderCounts(*table)
