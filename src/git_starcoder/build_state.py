"""Holds the state of a build in progress: its texts on disk, its counts and drops, and its randomness."""

from __future__ import annotations

import gc
import mmap
import random
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, BinaryIO, Self

from git_starcoder.protocols import NO_CACHE, NO_PROGRESS, Cache, Engine, Progress
from git_starcoder.records import Drop, Span, content_id, dataset_path

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from pathlib import Path

    from git_starcoder.records import RepositoryLabel, Split

TEXTS_FILE = "texts"
"""The file of the text store."""

TEXTS_PER_WRITE = 64
"""Texts that are written to the file together: one write for each text would cost more than the write itself."""

FAULTS = frozenset(
    {"missing", "corrupt"}
    | {f"{who}_{how}" for who in ("parser", "worker") for how in ("crash", "timeout", "error", "given_up")}
)
"""Reasons of drops, and figures, that lie in this copy of the repository or in this run, not in what is read.

Another build may do better, so what has one is not reused.
"""


class TextStore:
    """A file that holds all texts of a build one after another: written once, read by span, not held in memory."""

    def __init__(self, file: BinaryIO, earlier: Sequence[Path] = ()) -> None:
        """Use an empty, unbuffered file. `earlier` are files of stores whose texts come before those of this one."""
        self._file = file
        self._size = 0
        self._earlier: list[tuple[int, mmap.mmap]] = []
        for path in earlier:
            if size := path.stat().st_size:
                with path.open("rb") as opened:
                    self._earlier.append((self._size, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)))
                self._size += size
        self._first = self._size
        self._waiting: list[bytes] = []
        self._map: mmap.mmap | None = None

    def put(self, data: bytes) -> Span:
        """Store a text; `get` returns it for the span."""
        self._waiting.append(data)
        if len(self._waiting) >= TEXTS_PER_WRITE:
            self._write()
        start, self._size = self._size, self._size + len(data)
        return Span(start, self._size)

    def get(self, span: Span) -> bytes:
        """The text at a span."""
        if span.start == span.stop:
            return b""
        first = self._first
        if span.start < first:
            first, earlier = next(entry for entry in reversed(self._earlier) if entry[0] <= span.start)
            return earlier[span.start - first : span.stop - first]
        if self._map is None or len(self._map) < span.stop - first:
            self._write()
            if self._map is not None:
                self._map.close()
            self._map = mmap.mmap(self._file.fileno(), self._size - first, access=mmap.ACCESS_READ)
        return self._map[span.start - first : span.stop - first]

    def flush(self) -> None:
        """Write all texts to the file."""
        self._write()

    def _write(self) -> None:
        view = memoryview(b"".join(self._waiting))
        self._waiting.clear()
        while view:
            view = view[self._file.write(view) :]

    def close(self) -> None:
        """Close the file and the memory maps."""
        for _, earlier in self._earlier:
            earlier.close()
        if self._map is not None:
            self._map.close()
        self._file.close()


@dataclass(slots=True)
class StepCounts:
    """The counts of one step. If `seen` is not `kept` plus the sum of `dropped`, the step has a bug."""

    name: str
    progress: Progress
    drops: list[Drop]
    seen: int = 0
    kept: int = 0
    seconds: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter[str])
    figures: dict[str, int | float | str] = field(default_factory=dict[str, int | float | str])
    """Other figures for the manifest. No times: they would change its bytes."""

    def keep(self, count: int = 1) -> None:
        """Count items that the step saw and passes on."""
        self.seen += count
        self.kept += count
        self.progress.advance(count)

    def drop(self, id: str, reason: str, detail: str = "", count: int = 1) -> None:  # noqa: A002 - the column's name
        """Count and record items that the step saw and does not pass on."""
        self.seen += count
        self.dropped[reason] += count
        self.drops.append(Drop(self.name, id, reason, detail, count))
        self.progress.advance(count)


@dataclass(frozen=True, slots=True)
class Pins:
    """What a build takes over from an earlier dataset and does not decide again."""

    splits: Mapping[str, Split] = field(default_factory=dict[str, "Split"])
    """The split of files by their printable path. A leak group with such a file gets its split.

    If commits are held out, this is about the files that they changed. All of the past trains.
    """
    tokenizer: Path | None = None
    """The folder of the tokenizer that is used if the recipe's is to be learned."""

    def digests(self) -> tuple[str, ...]:
        """Hashes of all pins, for the fingerprint of the dataset; none if there are none."""
        digests = [content_id(*(part for item in sorted(self.splits.items()) for part in item))] if self.splits else []
        if self.tokenizer is not None:
            digests.append(content_id((self.tokenizer / "tokenizer.json").read_bytes()))
        return tuple(digests)


NO_PINS = Pins()


class BuildState:
    """One build in progress: the first argument of every step, and its only access to the outside."""

    def __init__(
        self,
        folder: Path,
        seed: int,
        engine: Engine,
        progress: Progress = NO_PROGRESS,
        cache: Cache = NO_CACHE,
        repository: RepositoryLabel | None = None,
        earlier_texts: Sequence[Path] = (),
        pins: Pins = NO_PINS,
    ) -> None:
        self.folder = folder
        """The folder that becomes the dataset."""
        self.scratch = folder / ".scratch"
        """The folder for temporary files of this build."""
        self.seed = seed
        self.engine = engine
        self.cache = cache
        self.progress = progress
        self.steps: list[StepCounts] = []
        self.drops: list[Drop] = []
        self.scratch.mkdir(parents=True, exist_ok=True)
        self.texts = TextStore((self.scratch / TEXTS_FILE).open("w+b", buffering=0), earlier_texts)
        self.repository = repository
        """What rows say about their repository; None if the dataset has only this one."""
        self.pins = pins
        self.has_faults = False
        """Whether something could not be read or computed that another build may find; see `FAULTS`."""

    def dataset_path(self, path: str) -> str:
        """A path of this repository as the dataset writes it."""
        return dataset_path(self.repository.name if self.repository else "", path)

    def rng(self, *key: str) -> random.Random:
        """A random generator that depends only on the recipe's seed and on a key made of content."""
        return random.Random(int.from_bytes(self._digest(*key)))  # noqa: S311 - not for secrets

    def uniform(self, *key: str) -> float:
        """A number from 0 to below 1 that depends only on the recipe's seed and on a key made of content."""
        return int.from_bytes(self._digest("chance", *key)[:7]) / (1 << 56)

    def _digest(self, *key: str) -> bytes:
        data = "\0".join((str(self.seed), *key)).encode("utf-8", "surrogateescape")
        return blake2b(data, digest_size=16).digest()

    @contextmanager
    def count_step(self, name: str, total: int | None = None) -> Generator[StepCounts]:
        """Count, time and report one step.

        Raises:
            AssertionError: the counts do not add up, so the step has a bug.
        """
        step = StepCounts(name, self.progress, self.drops)
        self.progress.begin(name, total)
        start = time.perf_counter()
        yield step
        step.seconds = time.perf_counter() - start
        if step.seen != step.kept + step.dropped.total():
            raise AssertionError(f"{name}: seen {step.seen} != kept {step.kept} + dropped {dict(step.dropped)}")
        self.has_faults |= not FAULTS.isdisjoint({*step.dropped, *step.figures})
        self.steps.append(step)
        self.progress.end(name, step.seconds, step.seen, step.kept, dict(sorted(step.dropped.items())))

    def __enter__(self) -> Self:
        self._garbage_collection = pause_garbage_collection()
        self._garbage_collection.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.texts.close()
        self._garbage_collection.__exit__(None, None, None)


@contextmanager
def pause_garbage_collection() -> Generator[None]:
    """Switch the search for reference cycles off: rows are many and have none, and it would cost 10 % of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()  # with the next line: moves all objects to the oldest generation, which is rarely searched
            gc.unfreeze()
            gc.enable()
