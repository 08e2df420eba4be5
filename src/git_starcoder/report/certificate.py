"""Whether the dataset keeps its promises, and how much of what is held out stands in training."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from git_starcoder.report.parts import Figure, Section, Subject, Table, share
from git_starcoder.report.plot import SERIES, label, svg
from git_starcoder.report.tally import lines
from git_starcoder.rows import SPLITS

if TYPE_CHECKING:
    from git_starcoder.checks import Outcome

RESULTS = ("kept", "broken", "skipped")


def section(subject: Subject) -> Section:
    """What is in training of the held-out files, groups and rows, and every check of the shelf."""
    held = _held(subject)
    title = "What is held out and stands in training, too"
    rows = [(kind, f"{crossing:,}", f"{count:,}", share(crossing, count)) for kind, (crossing, count) in held.items()]
    about = "; ".join(f"{row[1]} of {row[2]} held-out {row[0]}" for row in rows)
    picture = svg("certificate", title, about, lambda figure: _paint(figure, held), height=70 + 30 * len(held))
    table = Table(title, ("held-out things", "in training", "of", "share"), rows)
    tables = [_edges(subject), *([_checks(subject)] if subject.outcomes else [])]
    lead = ["Files that share text, or were one file once, are a group, and a group is in one split."]
    if not subject.outcomes:
        lead.append("The checks were not run; git starcoder check runs them.")
    else:
        counts = Counter(_result(outcome) for outcome in subject.outcomes)
        said = ", ".join(f"{counts[result]} {result}" for result in RESULTS if counts[result])
        lead.append(f"Checks: {said}.")
    return Section("Leak certificate and checks", lead, [Figure(picture, title, "", table)], tables)


def _held(subject: Subject) -> dict[str, tuple[int, int]]:
    """Of each kind of thing, how many of the held-out ones are in training, and how many are held out."""
    found: dict[str, tuple[int, int]] = {}
    for kind, owners in subject.tally.owners.items():
        outside = [splits for splits in owners.values() if splits != {"train"}]
        found[kind] = sum("train" in splits for splits in outside), len(outside)
    return found


def _paint(figure: Any, held: dict[str, tuple[int, int]]) -> None:
    axes = figure.subplots()
    for at, (crossing, count) in enumerate(held.values()):
        part = crossing / count if count else 0.0
        axes.barh(at, 1, color=SERIES[2], height=0.6, label=None if at else "only held out")
        axes.barh(at, part, color=SERIES[1], height=0.6, hatch="//", label=None if at else "in training")
        axes.text(1.02, at, f"{crossing:,} of {count:,}", va="center", fontsize=11)
    axes.set_yticks(range(len(held)), [label(kind) for kind in held])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.35)
    axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    figure.legend(loc="outside upper right", ncols=2)


def _edges(subject: Subject) -> Table:
    counts = Counter(
        (str(edge.get("from_split")), str(edge.get("to_split"))) for edge in lines(subject.dataset, "imports.jsonl")
    )
    rows = [(begin, *(f"{counts[begin, end]:,}" for end in SPLITS)) for begin in SPLITS]
    return Table("Imports from a split (rows) to a split (columns)", ("from", *SPLITS), rows)


def _checks(subject: Subject) -> Table:
    rows = [
        (outcome.check, _result(outcome), outcome.promise, outcome.figure, f"{outcome.found:,}")
        for outcome in subject.outcomes
    ]
    header = ("check", "result", "promise", "figure", "findings")
    return Table("Checks", header, rows, left=4, folded=False)


def _result(outcome: Outcome) -> str:
    return "skipped" if outcome.skipped else "broken" if outcome.found else "kept"
