"""What went in, what was dropped, and why."""

from __future__ import annotations

from typing import Any

from git_starcoder.report.parts import Figure, Section, Subject, Table, share
from git_starcoder.report.plot import COLOURS, svg
from git_starcoder.report.tally import lines

EXAMPLE = 120
"""Characters of an example."""


def section(subject: Subject) -> Section:
    """Every step with what it saw, kept and dropped, and every reason with an example."""
    steps: list[dict[str, Any]] = subject.dataset.manifest["steps"]
    about = "; ".join(f"{step['step']} kept {share(step['kept'], step['seen'])} of {step['seen']:,}" for step in steps)
    header = ("step", "seen", "kept", "dropped", "kept, share")
    rows = [
        (step["step"], *(f"{step[key]:,}" for key in ("seen", "kept")), f"{step['seen'] - step['kept']:,}",
         share(step["kept"], step["seen"]))
        for step in steps
    ]  # fmt: skip
    title = "What each step kept"
    picture = svg("steps", title, about, lambda figure: _paint(figure, steps), height=300)
    caption = (
        "Steps do not count the same things: read counts entries of the tree and changes of files, analyse files, "
        "augment attempts to vary a text, window and dedup rows."
    )
    table = Table(title, header, rows)
    return Section(
        "What went in, and what was dropped",
        ["In every step, seen = kept + dropped. Each thing that was dropped has a line in drops.jsonl."],
        [Figure(picture, title, caption, table)],
        [_reasons(subject, steps)],
    )


def _paint(figure: Any, steps: list[dict[str, Any]]) -> None:
    axes = figure.subplots()
    for at, step in enumerate(steps):
        kept = step["kept"] / step["seen"] if step["seen"] else 0.0
        axes.barh(at, kept, color=COLOURS["one"], height=0.7, label="kept" if not at else None)
        axes.barh(at, 1 - kept, left=kept, color=COLOURS["two"], height=0.7, hatch="//", label="" if at else "dropped")
        axes.text(1.02, at, f"{step['seen']:,}", va="center", fontsize=11)
    axes.set_yticks(range(len(steps)), [step["step"] for step in steps])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.22)
    axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 % of what was seen"])
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    figure.legend(loc="outside upper right", ncols=2)


def _reasons(subject: Subject, steps: list[dict[str, Any]]) -> Table:
    examples: dict[tuple[str, str], str] = {}
    for drop in lines(subject.dataset, "drops.jsonl"):
        kind = str(drop.get("step")), str(drop.get("reason"))
        if kind not in examples:
            because = drop.get("because")
            examples[kind] = f"{drop.get('id')}{f' ({because})' if because else ''}"
    rows: list[tuple[str, ...]] = []
    for step in steps:
        for reason, count in sorted(step["dropped"].items(), key=lambda item: (-item[1], item[0])):
            example = examples.get((step["step"], reason), "")
            cut = example if len(example) <= EXAMPLE else example[: EXAMPLE - 1] + "…"
            rows.append((step["step"], reason.replace("_", " "), cut, f"{count:,}", share(count, step["seen"])))
    header = ("step", "reason", "the first one", "dropped", "of what the step saw")
    return Table("Why things were dropped", header, rows, left=3, folded=False)
