"""How full the windows are, and how often they repeat."""

from __future__ import annotations

from typing import Any

from git_starcoder.report.parts import Figure, Section, Subject, Table, share
from git_starcoder.report.plot import COLOURS, SERIES, bars, short, svg
from git_starcoder.report.tally import PARTS


def section(subject: Subject) -> Section:
    """Lengths of rows, and duplication: what was dropped of it, and what overlapping windows make."""
    return Section("Token length and duplication", [], [_lengths(subject), _repeats(subject)], [_dropped(subject)])


def _lengths(subject: Subject) -> Figure:
    tally = subject.tally
    sizes = tally.values("size")

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        bottom = [0] * PARTS
        for number, size in enumerate(sizes):
            rows = [tally.fill[size, part] for part in range(PARTS)]
            places = [(part + 0.5) / PARTS for part in range(PARTS)]
            axes.bar(places, rows, 0.9 / PARTS, bottom=bottom, color=SERIES[number % len(SERIES)], label=str(size))
            bottom = [one + other for one, other in zip(bottom, rows, strict=True)]
        axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 % of the window"])
        axes.set_ylabel("rows")
        axes.yaxis.set_major_formatter(short)
        figure.legend(loc="outside upper right", ncols=5)

    rows: list[tuple[str, ...]] = []
    for size in sizes:
        count = tally.total(size=size).rows
        full = tally.fill[size, PARTS - 1]
        rows.append((str(size), f"{count:,}", share(full, count), share(tally.padding[size], size * count)))
    title = "How much of a window is text"
    header = ("window", "rows", f"filled {1 - 1 / PARTS:.0%} or more", "tokens that are padding")
    about = "; ".join(f"window {row[0]}: {row[2]} of the rows are full, {row[3]} padding" for row in rows)
    return Figure(svg("lengths", title, about, paint), title, "", Table(title, header, rows))


def _repeats(subject: Subject) -> Figure:
    tally = subject.tally
    once = sum(tally.ends.values())
    times = {str(size): tally.shown[size] / once if once else 0.0 for size in tally.values("size")}
    values = {size: {"shown": count} for size, count in times.items()}

    def paint(figure: Any) -> None:
        bars(figure, values, {"shown": COLOURS["one"]}, "times that a token of a file is shown")

    title = "How often windows of each size show the same text"
    rows = [(size, f"{count:.2f}") for size, count in times.items()]
    rows.append(("all", f"{sum(times.values()):.2f}"))
    about = f"A token of a file is shown {sum(times.values()):.2f} times, over all window sizes."
    caption = f"{once:,} tokens of files as they are, in windows that overlap; variations and changes are not counted."
    picture = svg("repeats", title, about, paint, height=90 + 26 * len(values))
    return Figure(picture, title, caption, Table(title, ("window", "times"), rows))


def _dropped(subject: Subject) -> Table:
    rows: list[tuple[str, ...]] = []
    for step in subject.dataset.manifest["steps"]:
        if step["step"] == "dedup":
            for reason, count in sorted(step["dropped"].items()):
                rows.append((f"dropped: {reason}", f"{count:,}", share(count, step["seen"])))
            rows.append(("kept", f"{step['kept']:,}", share(step["kept"], step["seen"])))
    owners = subject.tally.owners["rows"]
    every = subject.tally.total().rows
    rows.append(("kept, equal to a row before it", f"{every - len(owners):,}", share(every - len(owners), every)))
    return Table("Duplicate rows", ("rows", "number", "share"), rows, folded=False)
