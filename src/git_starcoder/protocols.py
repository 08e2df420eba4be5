"""Defines the protocols that steps, checks and evals depend on: Engine, Cache, LanguageModel and Progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Failure:
    """The result of a task that failed."""

    kind: str
    """`crash` (the worker died), `timeout`, or `error` (the function raised)."""
    detail: str = ""


class Engine(Protocol):
    """Runs tasks. Steps say what to compute, an engine decides where."""

    jobs: int
    """Tasks that run at once."""

    def map(self, function: Callable[[T], R], tasks: Iterable[T], *, limit: float) -> Iterator[R | Failure]:
        """Apply a function to each task; the results are in the order of the tasks.

        A task that crashes its worker, hangs or raises gives a `Failure` and affects no other task.

        Args:
            function: A function that a worker can import.
            tasks: Drawn lazily, so a generator may read files while results are consumed.
            limit: Processor seconds that one task may take.
        """
        ...


class Cache(Protocol):
    """Stores results of pure functions between builds. Its content never changes the result of a build."""

    def key(self, *parts: str | bytes) -> bytes:
        """The key of the result of a function, named by the first part, for inputs, given by the other parts."""
        ...

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The stored value of each key, None where there is none."""
        ...

    def put(self, entries: list[tuple[bytes, bytes]]) -> None:
        """Store values by their keys."""
        ...


class NoCache:
    """A cache that stores nothing."""

    def key(self, *parts: str | bytes) -> bytes:  # noqa: ARG002
        """An empty key."""
        return b""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """No values."""
        return [None] * len(keys)

    def put(self, entries: list[tuple[bytes, bytes]]) -> None:
        """Ignore the entries."""


NO_CACHE = NoCache()


class LanguageModel(Protocol):
    """Predicts tokens. Evals use it without depending on torch; `model/` implements it."""

    context: int
    """The largest number of tokens that a prompt and its continuation may have."""

    def sequence_bits(
        self,
        sequences: Sequence[NDArray[Any]],
        first_scored: Sequence[int],
        *,
        headers: Sequence[NDArray[Any]] = (),
        parts: int = 4,
    ) -> list[NDArray[np.float32]]:
        """For each sequence, the bits of its tokens from an index on, given those before: shape (tokens - index,).

        Args:
            sequences: Token ids of texts of any length. One that begins a file begins with the end-of-text token.
            first_scored: The index for each sequence, at least 1. The tokens before it are only read.
            headers: Token ids for each sequence that a model reads before any part of it: repository and path, as in
                training. In the first part, they follow the end-of-text token.
            parts: A model that reads windows moves them by the `parts`-th part of its context, so each token is
                predicted from at least the rest of it, or from all text before. Other models need no such thing.
        """
        ...

    def generate(
        self, prompts: Sequence[NDArray[Any]], limit: int, *, stop: NDArray[np.bool_]
    ) -> list[NDArray[np.int32]]:
        """For each prompt, the likeliest continuation, token by token.

        Args:
            prompts: Token ids of each prompt.
            limit: Largest number of new tokens.
            stop: For each token of the vocabulary whether the continuation ends with it, shape (vocabulary,).
        """
        ...


class Progress:
    """Receives the progress of a run, in calls from one thread. This class ignores it; subclasses override methods."""

    def begin(self, step: str, total: int | None) -> None:
        """A step begins; `total` is the number of its items, if it is known."""

    def advance(self, count: int) -> None:
        """Report that `count` more items of the step are done."""

    def end(self, step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int]) -> None:
        """The step is done; `seen` is `kept` plus the sum of `dropped`."""

    def note(self, text: str) -> None:
        """A message for the user, on one line."""


NO_PROGRESS = Progress()
