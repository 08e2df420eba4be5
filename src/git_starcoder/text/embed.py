"""Compares what texts are about: a text's vector is the sum of its tokens' vectors in a static embedding model.

The model is one of model2vec (Tulkens and van Dongen, 2024), which is an optional extra. Vectors are rounded to whole
numbers before they are compared, so that a similarity is the same to the bit on every machine.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.errors import MissingExtraError, UsageError, as_machine_error
from git_starcoder.user_paths import expand_user, utf8_path

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

VECTOR_LENGTH = 1 << 14
"""Length of a vector before its numbers are rounded; 14 bits keep sums of products exact in float64."""
VECTORS_PER_BLOCK = 1024
"""Vectors that are compared with all earlier ones at a time."""
EMBEDDING_HINT = (
    "give a folder that model2vec's StaticModel.save_pretrained wrote, or the Hugging Face id of such a model"
)


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """A static embedding model."""

    model: Any
    """model2vec's `StaticModel`."""
    table: NDArray[np.float32]
    """The vector of each token, shape (vocabulary, dimensions)."""

    @property
    def digest(self) -> str:
        """Hash of everything that determines a vector."""
        digest = hashlib.sha256(self.model.tokenizer.to_str().encode())
        digest.update(self.table.tobytes())
        return digest.hexdigest()

    def vectors(self, texts: Iterable[bytes]) -> NDArray[np.float64]:
        """A vector of whole numbers for each text, about `VECTOR_LENGTH` long, shape (texts, dimensions).

        A text without tokens that the model knows has a vector of zeros.
        """
        vectors = [np.empty((0, self.table.shape[1]))]
        for text in texts:
            tokens: list[int] = self.model.tokenize([text.decode("utf-8", "replace")])[0]
            distinct, counts = np.unique(np.array(tokens, dtype=np.int64), return_counts=True)
            total = (self.table[distinct].astype(np.float64) * counts[:, None]).sum(axis=0, keepdims=True)
            vectors.append(np.rint(total / max(float(np.sqrt((total**2).sum())), 1e-12) * VECTOR_LENGTH))
        return np.concatenate(vectors)


class EmbeddingKeepers(NamedTuple):
    """For each text the one that is kept in its place. Arrays have shape (texts,)."""

    keeper: NDArray[np.int64]
    """The text that is kept in place of this one, or -1 where this one is kept itself."""
    similarity: NDArray[np.float64]
    """Cosine similarity to the keeper; 0 where there is none."""


def load_embedding_model(name: str) -> EmbeddingModel:
    """Load the model in a folder, or of a Hugging Face id.

    Raises:
        UsageError: There is none, it is not available offline, or it cannot be read.
        MissingExtraError: The library model2vec is not installed.
    """
    try:
        static: Any = import_module("model2vec").StaticModel
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "model2vec", "embed") from error
    logging.getLogger("model2vec").setLevel(logging.ERROR)  # it warns that texts are not cut, as intended here
    name = str(expand_user(name)) if name else ""
    if not name or (not Path(name).is_dir() and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name)):
        raise UsageError(f"no embedding model '{name}'", where="dedup.embedding", hint=EMBEDDING_HINT)
    what = f"embedding model '{name}' cannot be read"
    try:
        with utf8_path(Path(name)) as place:
            model: Any = static.from_pretrained(str(place), max_length=None, force_download=False)
        table = np.asarray(model.embedding, dtype=np.float32)
        table = table if model.token_mapping is None else table[model.token_mapping]
        table = table if model.weights is None else table * np.asarray(model.weights, dtype=np.float32)[:, None]
    except Exception as error:  # whatever a damaged file or a hub without network makes the libraries raise
        unreadable = UsageError(what, where=" ".join(str(error).split())[:200], hint=EMBEDDING_HINT)
        raise as_machine_error(error) or unreadable from error
    if not np.isfinite(table).all():
        raise UsageError(what, where="its vectors are not numbers", hint=EMBEDDING_HINT)
    return EmbeddingModel(model, table)


def find_embedding_keepers(
    vectors: NDArray[np.float64], groups: NDArray[np.int64], threshold: float
) -> EmbeddingKeepers:
    """Find for each text the first earlier text that is kept, belongs to the same group and is similar enough.

    All pairs of a group are compared, so the time grows with the square of the largest group. Vectors are whole
    numbers, shape (texts, dimensions). A text is dropped if its cosine is at least the threshold.
    """
    keeper = np.full(len(vectors), -1, dtype=np.int64)
    similarity = np.zeros(len(vectors))
    # Sums of products of whole numbers are exact in any order of addition.
    squares = (vectors**2).sum(axis=1)
    order = np.argsort(groups, kind="stable")
    edges = np.flatnonzero(np.diff(groups[order], prepend=-1, append=-1)) if len(order) else np.zeros(1, dtype=np.int64)
    for begin, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        members = order[begin:stop]
        is_kept = np.ones(len(members), dtype=np.bool_)
        for first in range(0, len(members), VECTORS_PER_BLOCK):
            block = members[first : first + VECTORS_PER_BLOCK]
            lengths = np.sqrt(squares[block][:, None] * squares[members[: first + len(block)]][None])
            cosine = vectors[block] @ vectors[members[: first + len(block)]].T / np.maximum(lengths, 1.0)
            for row in range(len(block)):
                index = first + row
                similar = np.flatnonzero((cosine[row, :index] >= threshold) & is_kept[:index])
                if len(similar) and squares[block[row]]:
                    is_kept[index] = False
                    keeper[block[row]] = members[similar[0]]
                    similarity[block[row]] = cosine[row, similar[0]]
    return EmbeddingKeepers(keeper, similarity)
