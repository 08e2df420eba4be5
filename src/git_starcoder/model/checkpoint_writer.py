"""Writes checkpoints on a thread of its own while training goes on.

Tensors are copied first, so a checkpoint has the state of one step whatever training does meanwhile.
"""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def copy_to_cpu(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of tensors on the CPU, which share no memory with them."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


class CheckpointWriter:
    """Runs one function at a time on a thread of its own. What that raises is raised again at the next call."""

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def start(self, write: Callable[[], None]) -> None:
        """Begin to write, after what is being written."""
        self.wait()
        # A daemon, so that a second Ctrl-C ends the process at once: then the checkpoint is not there.
        self._thread = Thread(target=self._run, args=(write,), name="checkpoint", daemon=True)
        self._thread.start()

    def raise_error(self) -> None:
        """Raise the error of what was written, if there was one."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Wait until everything is written."""
        self.join()
        self.raise_error()

    def join(self) -> None:
        """Wait for the thread, and leave its error for later."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, write: Callable[[], None]) -> None:
        try:
            write()
        except BaseException as error:  # noqa: BLE001 - the training thread raises it
            self._error = error
