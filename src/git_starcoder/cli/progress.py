"""Watches that tell a person how a run goes, on stderr."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from git_starcoder.cli.talk import coloured, escape_unsafe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_starcoder.cli.talk import Talk

FEW = 3
"""Reasons for drops that a line names without --verbose."""
PAUSE = 0.05
"""Seconds between two redraws."""


def line(step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int], *, verbose: bool) -> str:
    """What a finished step comes to: `read  2,643 seen  2,401 kept  242 dropped (binary 120, …)  0.4 s`."""
    parts = [f"{step:8}"]
    if dropped:
        parts += [f"{seen:,} seen", f"{kept:,} kept", f"{seen - kept:,} dropped ({reasons(dropped, verbose=verbose)})"]
    else:
        parts.append(f"{seen:,} seen")
    return "  ".join((*parts, f"{seconds:.1f} s"))


def reasons(dropped: Mapping[str, int], *, verbose: bool) -> str:
    """Drops by reason, most first."""
    most = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    shown = most if verbose else most[:FEW]
    return ", ".join([*(f"{reason} {count:,}" for reason, count in shown), *(["…"] if len(shown) < len(most) else [])])


class Plain:
    """One plain line per step, when it ends."""

    def __init__(self, talk: Talk) -> None:
        self._talk = talk

    def begin(self, step: str, total: int | None) -> None:
        """Nothing yet."""

    def advance(self, count: int) -> None:
        """Nothing yet."""

    def end(self, step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int]) -> None:
        """The step's line."""
        self._talk.tell(line(step, seconds, seen, kept, dropped, verbose=self._talk.verbose))

    def note(self, text: str) -> None:
        """A line."""
        self._talk.tell(text)


class Live:
    """A bar for the step that runs, a line for each that is done. Only for terminals."""

    def __init__(self, talk: Talk) -> None:
        import sys

        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._talk = talk
        console = Console(stderr=True, no_color=not coloured(talk.color, sys.stderr), highlight=False)
        columns = (TextColumn("{task.description:8}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True)
        self._task = self._progress.add_task("", visible=False)
        self._waiting = 0
        self._drawn = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begin(self, step: str, total: int | None) -> None:
        """Show the step's bar."""
        self._waiting = 0
        self._progress.remove_task(self._task)  # reset() would keep the last total where this one is not known
        self._task = self._progress.add_task(step, total=total)

    def advance(self, count: int) -> None:
        """Move the bar, not more often than an eye can see."""
        self._waiting += count
        now = time.monotonic()
        if now - self._drawn >= PAUSE:
            self._progress.advance(self._task, self._waiting)
            self._waiting, self._drawn = 0, now

    def end(self, step: str, seconds: float, seen: int, kept: int, dropped: Mapping[str, int]) -> None:
        """The step's line instead of its bar."""
        self._progress.update(self._task, visible=False)
        self.note(line(step, seconds, seen, kept, dropped, verbose=self._talk.verbose))

    def note(self, text: str) -> None:
        """A line above the bar."""
        self._progress.console.print(escape_unsafe(text), markup=False, soft_wrap=True)
