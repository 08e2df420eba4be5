"""How hard a file is to follow, 0 (trivial) to 1: a function of the file alone, from branching, nesting and size.

    0.4 · b / (b + 40)  +  0.3 · n / (n + 4)  +  0.3 · l / (l + 400)

with b the places where control may go two ways (`branch` and `case` captures of the language's `[difficulty]` query),
n how deep branches stand within branches (a case adds none, nor does an `else if`), and l the lines that are not
blank. Each part is 0 for none, half of its weight at the constant, and rises with its count, so more of anything is
never easier. A file without a tree has b = 0, and for n the levels of its indentation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from git_starcoder.parse.tree import Captures

BRANCHING = (0.4, 40)
NESTING = (0.3, 4)
SIZE = (0.3, 400)


def difficulty(branches: int, nesting: int, lines: int) -> float:
    """0 to below 1, six decimals."""
    parts = ((BRANCHING, branches), (NESTING, nesting), (SIZE, lines))
    return round(sum(weight * count / (count + half) for (weight, half), count in parts), 6)


def lines_of(data: bytes) -> int:
    """Lines that are not blank."""
    return sum(not line.isspace() for line in data.split(b"\n") if line)


def of_code(captures: Captures, lines: int) -> float:
    """The difficulty of a file with a tree."""
    branches = captures.get("branch", ())
    return difficulty(len(branches) + len(captures.get("case", ())), _nesting(captures), lines)


def of_text(data: bytes) -> float:
    """The difficulty of a file without a tree."""
    lines = [line for line in data.split(b"\n") if line and not line.isspace()]
    levels = {len(line) - len(line.lstrip(b" \t")) for line in lines}
    return difficulty(0, max(0, len(levels) - 1), len(lines))


def _nesting(captures: Captures) -> int:
    """The most branches that stand within one another; `chain` captures are branches that add no level."""
    chained = {node.id for node in captures.get("chain", ())}
    most = 0
    ends: list[int] = []
    levels = (node for node in captures.get("branch", ()) if node.id not in chained)
    for start, end in sorted((node.start_byte, -node.end_byte) for node in levels):
        while ends and ends[-1] <= start:
            ends.pop()
        ends.append(-end)
        most = max(most, len(ends))
    return most
