"""Who imports whom, among the files that most others use."""

from __future__ import annotations

from typing import Any

from git_starcoder.errors import DatasetError
from git_starcoder.report.parts import Figure, Section, Subject, Table
from git_starcoder.report.plot import FAINT, SERIES, SPLIT, WIDTH, label, svg
from git_starcoder.report.tally import lines

SHOWN = 28
"""Files in the picture."""
LABEL = 60
"""Letters of a name."""
LETTER = 6.6
"""Units that a letter is wide, about."""


def section(subject: Subject) -> Section | None:
    """An arc diagram (Wattenberg, 2002): files one below the other, an arc from the importer to what it imports."""
    edges: set[tuple[str, str]] = set()
    splits: dict[str, str] = {}
    for number, edge in enumerate(lines(subject.dataset, "imports.jsonl"), 1):
        try:
            begin, end = str(edge["from"]), str(edge["to"])
            splits[begin], splits[end] = str(edge["from_split"]), str(edge["to_split"])
        except KeyError as error:
            raise DatasetError(f"line {number} has no {error}", where="imports.jsonl") from error
        edges.add((begin, end))
    if not edges:
        return None
    users: dict[str, int] = {}
    for _, end in edges:
        users[end] = users.get(end, 0) + 1
    chosen = sorted(users, key=lambda path: (-users[path], path))[:SHOWN]
    names = sorted(chosen)
    inner = sorted((begin, end) for begin, end in edges if begin in chosen and end in chosen and begin != end)
    title = f"The {len(names)} most imported of {len(splits):,} files"
    rows = [
        (path, splits[path], f"{users[path]:,}", f"{sum(begin == path for begin, _ in edges):,}",
         ", ".join(end for begin, end in inner if begin == path))
        for path in chosen
    ]  # fmt: skip
    rows = [(row[0], row[1], row[4], row[2], row[3]) for row in rows]
    table = Table(title, ("file", "split", "imports, of these", "imported by", "imports"), rows, left=3)
    about = f"{len(inner)} imports among them. Most imported: " + ", ".join(f"{p} by {users[p]}" for p in chosen[:5])
    picture = svg(
        "imports", title, about, lambda figure: _paint(figure, names, inner, users, splits), width=2 * WIDTH,
        height=60 + 20 * len(names), laid=False,
    )  # fmt: skip
    caption = (
        "A dot is as large as the number of files that import it, and has the colour of its split. Arcs on the right "
        "go down, from the importer above to what it imports; arcs that go up are dashed."
    )
    lead = f"{len(edges):,} imports were resolved to files of the repository."
    return Section("Import graph", [lead], [Figure(picture, title, caption, table, wide=True)])


def _paint(
    figure: Any, names: list[str], edges: list[tuple[str, str]], users: dict[str, int], splits: dict[str, str]
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Arc

    axes = figure.add_axes((0, 0, 1, 0.95))
    axes.axis("off")
    place = {name: at for at, name in enumerate(names)}
    widest = max((abs(place[begin] - place[end]) for begin, end in edges), default=1)
    longest = LETTER * max(len(label(name, LABEL)) + len(str(users[name])) + 4 for name in names)
    axes.set_xlim(-longest / (2 * WIDTH - longest), 1)
    axes.set_ylim(len(names) - 0.3, -0.7)
    for begin, end in edges:
        down = place[end] > place[begin]
        height = abs(place[begin] - place[end])
        arc = Arc(
            (0, (place[begin] + place[end]) / 2), 1.9 * height / widest, height, theta1=-90, theta2=90,
            color=SERIES[1] if down else SERIES[3], linestyle="-" if down else "--", linewidth=1.1, alpha=0.8,
        )  # fmt: skip
        axes.add_patch(arc)
    most = max(users.values())
    for name, at in place.items():
        colour = SPLIT.get(splits[name], FAINT)
        axes.plot([0], [at], "o", color=colour, markersize=3 + 10 * (users[name] / most) ** 0.5, markeredgewidth=0)
        axes.text(-0.02, at, f"{label(name, LABEL)}  {users[name]}", ha="right", va="center", fontsize=11)
    handles = [Line2D([], [], marker="o", linestyle="", color=colour, label=split) for split, colour in SPLIT.items()]
    handles += [
        Line2D([], [], color=SERIES[1], label="down"),
        Line2D([], [], color=SERIES[3], linestyle="--", label="up"),
    ]
    figure.legend(handles=handles, loc="upper right", ncols=5)
