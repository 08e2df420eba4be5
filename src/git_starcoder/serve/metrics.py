"""Counts what the server does, in the text format of Prometheus. It holds numbers and names of fields, never text."""

from __future__ import annotations

import re
import resource
import sys
from bisect import bisect_left
from collections import Counter, deque
from pathlib import Path
from typing import NamedTuple

BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
"""Upper bounds of durations, in seconds."""
MAX_FIELD_NAMES = 64
"""Names of ignored fields that are counted apart; a client could invent any number."""
OTHER_FIELDS = "other"
FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
RECENT = 256
"""Completions that the median is of."""


class Metrics:
    """The numbers of a server."""

    def __init__(self) -> None:
        self.requests = Counter[tuple[str, int]]()
        """By route and status."""
        self.dropped = Counter[str]()
        """Completions that were not wanted any more, by the cause."""
        self.ignored_fields = Counter[str]()
        self.reasons = Counter[str]()
        """Completions, by why they ended."""
        self.prompt_tokens = self.cached_tokens = self.tokens = self.drafted_tokens = 0
        self._seconds = [0] * (len(BUCKETS) + 1)
        self._seconds_sum = 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)

    def ignore_fields(self, names: list[str]) -> None:
        """Count fields of a request that mean nothing here."""
        for name in names:
            known = FIELD_NAME.fullmatch(name) and (
                name in self.ignored_fields or len(self.ignored_fields) < MAX_FIELD_NAMES
            )
            self.ignored_fields[name if known else OTHER_FIELDS] += 1

    def complete(self, reason: str, seconds: float, prompt: int, cached: int, written: int, drafted: int) -> None:
        """Count a completion."""
        self.reasons[reason] += 1
        self._seconds[bisect_left(BUCKETS, seconds)] += 1
        self._seconds_sum += seconds
        self._recent.append(seconds)
        self.prompt_tokens += prompt
        self.cached_tokens += cached
        self.tokens += written
        self.drafted_tokens += drafted

    @property
    def median_seconds(self) -> float | None:
        """The median time of the newest completions; None before the first."""
        return sorted(self._recent)[len(self._recent) // 2] if self._recent else None

    def render(self, waiting: int, updates: int) -> str:
        """Write everything as text. `waiting` requests wait, and the indexes have changed `updates` times."""
        lines: list[str] = []

        def add(name: str, kind: str, about: str, samples: list[Sample]) -> None:
            lines.extend((f"# HELP starcoder_{name} {about}", f"# TYPE starcoder_{name} {kind}"))
            lines.extend(f"starcoder_{name}{sample.labels} {sample.value:g}" for sample in samples)

        def by(label: str, counts: Counter[str]) -> list[Sample]:
            return [Sample(f'{{{label}="{name}"}}', count) for name, count in sorted(counts.items())]

        requests = sorted(self.requests.items())
        by_route = [Sample(f'{{route="{route}",status="{status}"}}', count) for (route, status), count in requests]
        add("requests_total", "counter", "Requests by route and status.", by_route)
        add("completions_total", "counter", "Completions by why they ended.", by("reason", self.reasons))
        add("dropped_total", "counter", "Completions that were not wanted any more.", by("cause", self.dropped))
        add("ignored_fields_total", "counter", "Fields that mean nothing here.", by("field", self.ignored_fields))
        totals = {
            "prompt_tokens": "Tokens of prompts.",
            "cached_tokens": "Tokens of prompts that were not read again.",
            "tokens": "Tokens that were written.",
            "drafted_tokens": "Tokens of drafts that the network read.",
        }
        for name, about in totals.items():
            add(f"{name}_total", "counter", about, [Sample("", getattr(self, name))])
        counts = [sum(self._seconds[: index + 1]) for index in range(len(self._seconds))]
        bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
        buckets = [Sample(f'_bucket{{le="{bound}"}}', count) for bound, count in zip(bounds, counts, strict=True)]
        sums = [Sample("_sum", self._seconds_sum), Sample("_count", counts[-1])]
        add("completion_seconds", "histogram", "Time of a completion, without waiting.", buckets + sums)
        add("waiting", "gauge", "Requests that wait or are worked on.", [Sample("", waiting)])
        add("index_updates_total", "counter", "How often the repository's indexes have changed.", [Sample("", updates)])
        add("memory_bytes", "gauge", "Resident memory of the process.", [Sample("", resident_bytes())])
        return "\n".join(lines) + "\n"


class Sample(NamedTuple):
    """A line of the metrics."""

    labels: str
    value: float


def resident_bytes() -> int:
    """The memory of this process; where that is not known, the most that it ever had."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak << 10
