"""The progress that commands show while they work: a line for each step that has ended, and bars in terminals."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from git_starcoder.cli.console import use_color
from git_starcoder.protocols import NO_PROGRESS, Progress
from git_starcoder.text.visible import escape_unsafe

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from git_starcoder.cli.console import Console

MAX_REASONS = 3
"""The number of reasons for drops that a line names without --verbose."""
SILENT_SECONDS = 60.0
"""Where there is no bar, a step that takes longer says how far it is."""
REDRAW_SECONDS = 0.05
"""The minimum time between two updates of a bar: more than an eye can see would cost time."""


@contextmanager
def show_progress(console: Console) -> Generator[Progress]:
    """Shows progress: bars in a terminal, otherwise a line per step; nothing with `--quiet`."""
    if console.quiet:
        yield NO_PROGRESS
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with ProgressBars(console) as bars:
            yield bars
    else:
        yield ProgressLines(console)


def step_line(step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int], *, verbose: bool) -> str:
    """The line of a finished step: `read  2,643 seen  2,401 kept  242 dropped (binary 120, …)  0.4 s`."""
    parts = [f"{step:8}", f"{seen:,} seen"]
    if dropped:
        parts += [f"{kept:,} kept", f"{seen - kept:,} dropped ({drop_reasons(dropped, verbose=verbose)})"]
    return "  ".join((*parts, f"{seconds:.1f} s"))


def drop_reasons(dropped: Mapping[str, int], *, verbose: bool) -> str:
    """The reasons for drops with their counts, largest first; without `verbose` only the first few."""
    reasons = [f"{reason} {count:,}" for reason, count in sorted(dropped.items(), key=lambda item: (-item[1], item[0]))]
    return ", ".join(reasons if verbose or len(reasons) <= MAX_REASONS else [*reasons[:MAX_REASONS], "…"])


class ProgressLines(Progress):
    """Prints one line per step when the step ends, and one a minute while it goes on."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step = ""
        self._total: int | None = None
        self._done = 0
        self._begun = self._told = time.monotonic()

    def begin(self, step: str, total: int | None) -> None:
        """Notes which step runs."""
        self._step, self._total, self._done = step, total, 0
        self._begun = self._told = time.monotonic()

    def advance(self, count: int) -> None:
        """Prints how far the step is, if nothing was printed for a minute."""
        self._done += count
        if (now := time.monotonic()) - self._told >= SILENT_SECONDS:
            of_total = "" if self._total is None else f" of {self._total:,}"
            self.note(f"{self._step:8}  {self._done:,}{of_total}  {now - self._begun:.0f} s")

    def end(self, step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int]) -> None:
        """Prints the line of the step."""
        self.note(step_line(step, seconds, seen, kept, dropped, verbose=self._console.verbose))

    def note(self, text: str) -> None:
        """Prints a line."""
        self._told = time.monotonic()
        self._console.print_message(text)


class ProgressBars(ProgressLines):
    """Shows a bar for the current step, below the lines of the finished ones. Only for terminals."""

    def __init__(self, console: Console) -> None:
        import rich.console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        super().__init__(console)
        no_color = not use_color(console.color, sys.stderr)
        self._terminal = rich.console.Console(stderr=True, no_color=no_color, highlight=False)
        columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=self._terminal, transient=True)
        self._task = self._progress.add_task("", visible=False)
        self._undrawn_count = 0
        self._last_drawn = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, step: str, total: int | None) -> None:
        """Shows the bar of a step."""
        self._undrawn_count = 0
        self._progress.remove_task(self._task)  # reset() would keep the previous total if this one is unknown
        self._task = self._progress.add_task(step, total=total)

    def advance(self, count: int) -> None:
        """Moves the bar."""
        self._undrawn_count += count
        now = time.monotonic()
        if now - self._last_drawn >= REDRAW_SECONDS:
            self._progress.advance(self._task, self._undrawn_count)
            self._undrawn_count, self._last_drawn = 0, now

    def end(self, step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int]) -> None:
        """Replaces the bar by the line of the step."""
        self._progress.update(self._task, visible=False)
        super().end(step, seconds, seen, kept, dropped)

    def note(self, text: str) -> None:
        """Prints a line above the bar."""
        self._terminal.print(escape_unsafe(text), markup=False, soft_wrap=True)
