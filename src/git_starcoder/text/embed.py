"""What texts are about, as vectors: the sum of the vectors of their tokens in a static embedding model.

The model is one of model2vec (Tulkens and van Dongen, 2024), which is an extra. A vector becomes whole numbers before
it is compared, so that a similarity is the same to the bit wherever it is computed.
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

STEPS = 1 << 14
"""Whole numbers per unit of length."""
BLOCK = 1024
"""Vectors compared with all before them at a time."""
HINT = "a folder that model2vec's StaticModel.save_pretrained wrote, or a Hugging Face id of such a model"


@dataclass(frozen=True, slots=True)
class Embedding:
    """A static embedding model."""

    model: Any
    """model2vec's `StaticModel`."""
    table: NDArray[np.float32]
    """The vector of each token, shape (vocabulary, dimensions)."""

    @property
    def digest(self) -> str:
        """Hash of everything that decides a vector."""
        said = hashlib.sha256(self.model.tokenizer.to_str().encode())
        said.update(self.table.tobytes())
        return said.hexdigest()

    def vectors(self, texts: Iterable[bytes]) -> NDArray[np.float64]:
        """A vector for each text, of whole numbers and nearly of length `STEPS`, shape (texts, dimensions).

        A text without a token that the model knows has a vector of zeros.
        """
        found = [np.empty((0, self.table.shape[1]))]
        for text in texts:
            tokens: list[int] = self.model.tokenize([text.decode("utf-8", "replace")])[0]
            known, times = np.unique(np.array(tokens, dtype=np.int64), return_counts=True)
            total = (self.table[known].astype(np.float64) * times[:, None]).sum(axis=0, keepdims=True)
            found.append(np.rint(total / max(float(np.sqrt((total**2).sum())), 1e-12) * STEPS))
        return np.concatenate(found)


class Alike(NamedTuple):
    """What `alike` found. Arrays have shape (texts,)."""

    keeper: NDArray[np.int64]
    """The kept text that stands for this one, or -1 where it is kept itself."""
    similarity: NDArray[np.float64]
    """Cosine of the angle to the keeper; 0 where there is none."""


def load(name: str) -> Embedding:
    """The model in a folder, or of a Hugging Face id.

    Raises:
        UsageError: there is none, or it cannot be had offline or read.
        MissingExtraError: model2vec is not installed.
    """
    try:
        static: Any = import_module("model2vec").StaticModel
    except ImportError as error:
        raise MissingExtraError.from_import_error(error, "model2vec", "embed") from error
    logging.getLogger("model2vec").setLevel(logging.ERROR)  # that nothing is cut is meant, and no concern of the user
    name = str(expand_user(name)) if name else ""
    if not name or (not Path(name).is_dir() and not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name)):
        raise UsageError(f"no embedding model '{name}'", where="dedup.embedding", hint=HINT)
    try:
        with utf8_path(Path(name)) as place:
            model: Any = static.from_pretrained(str(place), max_length=None, force_download=False)
        table = np.asarray(model.embedding, dtype=np.float32)
        table = table if model.token_mapping is None else table[model.token_mapping]
        table = table if model.weights is None else table * np.asarray(model.weights, dtype=np.float32)[:, None]
    except Exception as error:  # whatever a damaged file or a hub without network makes the libraries raise
        because = " ".join(str(error).split())[:200]
        unread = UsageError(f"embedding model '{name}' cannot be read", where=because, hint=HINT)
        raise as_machine_error(error) or unread from error
    if not np.isfinite(table).all():
        raise UsageError(f"embedding model '{name}' cannot be read", where="its vectors are not numbers", hint=HINT)
    return Embedding(model, table)


def alike(vectors: NDArray[np.float64], groups: NDArray[np.int64], threshold: float) -> Alike:
    """For each text the first one before it that is kept, of the same group and at least so similar.

    `vectors` are of whole numbers, shape (texts, dimensions); `threshold` is a cosine. All pairs of a group are
    compared: time grows with the square of the largest one.
    """
    keeper = np.full(len(vectors), -1, dtype=np.int64)
    similarity = np.zeros(len(vectors))
    # Products of whole numbers add up exactly, in whatever order they are added.
    squares = (vectors**2).sum(axis=1)
    order = np.argsort(groups, kind="stable")
    edges = np.flatnonzero(np.diff(groups[order], prepend=-1, append=-1)) if len(order) else np.zeros(1, dtype=np.int64)
    for begin, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        members = order[begin:stop]
        kept = np.ones(len(members), dtype=np.bool_)
        for first in range(0, len(members), BLOCK):
            block = members[first : first + BLOCK]
            lengths = np.sqrt(squares[block][:, None] * squares[members[: first + len(block)]][None])
            cosine = vectors[block] @ vectors[members[: first + len(block)]].T / np.maximum(lengths, 1.0)
            for row in range(len(block)):
                before = first + row
                found = np.flatnonzero((cosine[row, :before] >= threshold) & kept[:before])
                if len(found) and squares[block[row]]:
                    kept[before] = False
                    keeper[block[row]] = members[found[0]]
                    similarity[block[row]] = cosine[row, found[0]]
    return Alike(keeper, similarity)
