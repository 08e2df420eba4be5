"""The protocols where the outside plugs in: Engine (where work runs), Cache, Watch (who is told), Model."""

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
    """A task that gave no result."""

    kind: str
    """`crash` (the worker died), `timeout`, or `error` (the function raised)."""
    detail: str = ""


class Engine(Protocol):
    """Where the work runs. Stages say what; an engine says where."""

    jobs: int

    def map(self, function: Callable[[T], R], tasks: Iterable[T], *, limit: float) -> Iterator[R | Failure]:
        """Apply an importable function to each task, results in the order of the tasks.

        `limit` is the seconds of a processor that one task may take. A task that crashes its worker, hangs or raises
        gives a `Failure` and costs no other task. Tasks are drawn lazily, so a generator may read as results are
        consumed.
        """
        ...


class Cache(Protocol):
    """Answers of pure functions, kept between builds. What it holds never changes what a build gives."""

    def key(self, *parts: str | bytes) -> bytes:
        """The key of the answer that a function, named by the first part, gives for inputs, which the others name."""
        ...

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value of each key, None where there is none."""
        ...

    def put(self, entries: list[tuple[bytes, bytes]]) -> None:
        """Keep values by their keys."""
        ...


class NoCache:
    """A cache that keeps nothing."""

    def key(self, *parts: str | bytes) -> bytes:  # noqa: ARG002
        """Nothing."""
        return b""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Nothing."""
        return [None] * len(keys)

    def put(self, entries: list[tuple[bytes, bytes]]) -> None:
        """Nothing."""


NO_CACHE = NoCache()


class LanguageModel(Protocol):
    """What predicts tokens. Evals ask it; only `model/` knows what is behind it."""

    context: int
    """Tokens that it can see at once."""

    def token_bits(self, windows: Sequence[NDArray[Any]]) -> Iterator[NDArray[np.float32]]:
        """For each window, the bits of every token but the first, given all before it: shape (tokens - 1,)."""
        ...

    def generate(
        self, prompts: Sequence[NDArray[Any]], limit: int, *, stop: NDArray[np.bool_]
    ) -> list[NDArray[np.int32]]:
        """For each prompt, the likeliest next tokens one by one: at most `limit`, up to and with the first stop.

        `stop` says of every token whether it is one, shape (vocabulary,).
        """
        ...


class Progress(Protocol):
    """Who is told how a run goes. Calls come from one thread."""

    def begin(self, step: str, total: int | None) -> None:
        """A step begins; `total` is how many things it will see, where that is known."""
        ...

    def advance(self, count: int) -> None:
        """So many more things of the step are done."""
        ...

    def end(self, step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int]) -> None:
        """The step is done."""
        ...

    def note(self, text: str) -> None:
        """A line for the user."""
        ...


class NoProgress:
    """A watch that says nothing."""

    def begin(self, step: str, total: int | None) -> None:
        """Say nothing."""

    def advance(self, count: int) -> None:
        """Say nothing."""

    def end(self, step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int]) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""


NO_PROGRESS = NoProgress()
