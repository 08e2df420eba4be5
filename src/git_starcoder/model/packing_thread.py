"""Packs the steps of a training on a thread of its own, some steps ahead of the network.

Packing is a function of the plan and the corpus alone, so it changes nothing when it happens.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from queue import Empty, Queue
from threading import Event, Thread
from typing import TYPE_CHECKING, NamedTuple, Self

from git_starcoder.model.packing import TokenCounter, TokenCounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from git_starcoder.model.packing import PackedRows
    from git_starcoder.model.plan import PlannedStep

STEPS_AHEAD = 4
"""Steps that are packed before the network asks for them. A step of 131,072 tokens takes 4 MB."""
WAIT_SECONDS = 0.05
"""Time between two looks whether the thread has ended."""


class PackedStep(NamedTuple):
    """A step that is ready for the network."""

    step: PlannedStep
    micro_batches: Sequence[PackedRows]
    """The micro-batches of all processes, not only of this one."""
    counts: TokenCounts
    """What was counted up to this step."""


class PackingThread:
    """Packs steps in their order. Iterate over it, and close it at the end, also after an error.

    What the thread raises is raised again where the step is asked for.
    """

    def __init__(
        self,
        steps: Iterator[PlannedStep],
        pack: Callable[[PlannedStep], Sequence[PackedRows]],
        counter: TokenCounter | None,
    ) -> None:
        """Begin to pack `steps`. `counter` checks and counts each step; None counts nothing."""
        self._steps = steps
        self._pack = pack
        self._counter = counter
        self._queue: Queue[PackedStep | BaseException | None] = Queue(STEPS_AHEAD)
        self._is_closed = Event()
        # A daemon, so that a second Ctrl-C ends the process at once: the thread changes no file.
        self._thread = Thread(target=self._run, name="packing", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[PackedStep]:
        """Yield all steps."""
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """End the thread; what it has packed ahead is forgotten."""
        self._is_closed.set()
        while self._thread.is_alive():
            with suppress(Empty):
                self._queue.get(timeout=WAIT_SECONDS)  # it may wait for room

    def _run(self) -> None:
        try:
            for step in self._steps:
                if self._is_closed.is_set():
                    return
                micro_batches = self._pack(step)
                if self._counter:
                    self._counter.add(step, micro_batches)
                counts = replace(self._counter.counts) if self._counter else TokenCounts()
                self._queue.put(PackedStep(step, micro_batches, counts))
            self._queue.put(None)
        except BaseException as error:  # noqa: BLE001 - the thread that asks for the step raises it
            self._queue.put(error)
