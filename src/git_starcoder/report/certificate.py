"""Whether the dataset keeps its promises, and how much of what is held out stands in training."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from git_starcoder.records import SPLITS
from git_starcoder.report.parts import Figure, Section, Subject, Table, share
from git_starcoder.report.plot import COLOURS, SERIES, label, svg
from git_starcoder.report.tally import lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from git_starcoder.checks import Outcome

RESULTS = ("kept", "broken", "skipped")


class Count(NamedTuple):
    """How many of some things are where they must not be."""

    what: str
    crossing: int
    of: int


def section(subject: Subject) -> Section:
    """What is in training of the held-out files, groups, rows and runs, and every check of the shelf."""
    known = {outcome.check: outcome.certificate for outcome in subject.outcomes if outcome.certificate}
    counts = [*_held(subject), *_looked_for(known)]
    title = "What must not be in training"
    rows = [(one.what, f"{one.crossing:,}", f"{one.of:,}", share(one.crossing, one.of)) for one in counts]
    about = "; ".join(f"{row[1]} of {row[2]} {row[0]}" for row in rows)
    picture = svg("certificate", title, about, lambda figure: _paint(figure, counts), height=70 + 30 * len(counts))
    figures = [Figure(picture, title, "", Table(title, ("things", "in training", "of", "share"), rows))]
    if known.get("overlap"):
        figures.append(_overlap(known["overlap"]))
    tables = [_edges(subject), *([_checks(subject.outcomes)] if subject.outcomes else [])]
    lead = ["Files that share text, or were one file once, are a group, and a group is in one split."]
    if subject.outcomes:
        results = Counter(_result(outcome) for outcome in subject.outcomes)
        lead.append(f"Checks: {', '.join(f'{results[result]} {result}' for result in RESULTS if results[result])}.")
    else:
        lead.append("The checks were not run; git starcoder check runs them.")
    return Section("Leak certificate and checks", lead, figures, tables)


def _held(subject: Subject) -> list[Count]:
    """Of each kind of thing, how many of the held-out ones are in training."""
    found: list[Count] = []
    for kind, owners in subject.tally.owners.items():
        outside = [splits for splits in owners.values() if splits != {"train"}]
        found.append(Count(f"held-out {kind}", sum("train" in splits for splits in outside), len(outside)))
    return found


def _looked_for(known: Mapping[str, Mapping[str, Any]]) -> list[Count]:
    """What the checks of the certificate have counted."""
    found: list[Count] = []
    if near := known.get("near_files"):
        found.append(Count("files nearly the same", near["crossing"], near["compared"]))
    if lines := known.get("held_out_lines"):
        found.append(Count("changes with held-out lines", lines["changes_with_a_line"], lines["changes"]))
    if (canaries := known.get("leak", {}).get("canaries")) and canaries["held_out"]:
        found.append(Count("planted canaries", canaries["crossing"], canaries["held_out"]))
    return found


def _paint(figure: Any, counts: list[Count]) -> None:
    axes = figure.subplots()
    for at, one in enumerate(counts):
        part = min(1.0, one.crossing / one.of) if one.of else 0.0
        axes.barh(at, 1, color=SERIES[2], height=0.6, label=None if at else "not in training")
        axes.barh(at, part, color=SERIES[1], height=0.6, hatch="//", label=None if at else "in training")
        axes.text(1.02, at, f"{one.crossing:,} of {one.of:,}", va="center", fontsize=11)
    axes.set_yticks(range(len(counts)), [label(one.what) for one in counts])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.6)
    axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_visible(False)
    figure.legend(loc="outside upper right", ncols=2)


def _overlap(said: Mapping[str, Any]) -> Figure:
    """The share of held-out runs that are in training, beside what files give that are held out at random."""
    draws: list[float] = sorted(said["draws"])

    def paint(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot(draws, [1] * len(draws), "|", color=SERIES[1], markersize=22, label="files held out at random")
        for at, (name, colour) in enumerate((("overlap", SERIES[0]), ("without_changes", SERIES[3]))):
            axes.plot([said[name]], [2 + at], "D", color=colour, markersize=9)
            axes.text(said[name], 2.3 + at, f"{said[name]:.1%}", ha="center", fontsize=11)
        axes.axvline(said["floor"], color=COLOURS["ink"], linestyle=":", linewidth=1, label="their mean, the floor")
        axes.set_yticks([1, 2, 3], ["at random", "this dataset", "without changes"])
        axes.set_ylim(0.5, 3.8)
        axes.set_xlim(0, 1.15 * max(*draws, said["overlap"], 0.01))
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")  # pyright: ignore[reportUnknownLambdaType]
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper right", ncols=2)

    title = f"Held-out runs of {said['run']} tokens that are in training"
    told = {
        "this dataset": said["overlap"],
        "this dataset, without what shows changes": said["without_changes"],
        "files held out at random, mean": said["floor"],
        "their standard deviation": said["deviation"],
        **{f"draw {number}": draw for number, draw in enumerate(said["draws"], 1)},
    }
    rows = [(what, f"{part:.2%}") for what, part in told.items()]
    about = f"{said['overlap']:.1%} here; {said['floor']:.1%} ± {said['deviation']:.1%} for files held out at random."
    sampled = f", one in {said['one_in']}" if said["one_in"] > 1 else ""
    caption = (
        f"{said['runs']:,} different runs{sampled}. Code repeats itself, so some stand in training in any honest "
        "split; how many, files say that are held out at random."
    )
    return Figure(
        svg("overlap", title, about, paint, height=250), title, caption, Table(title, ("what", "share"), rows)
    )


def _edges(subject: Subject) -> Table:
    found = lines(subject.dataset, "imports.jsonl")
    counts = Counter((str(edge.get("from_split")), str(edge.get("to_split"))) for edge in found)
    rows = [(begin, *(f"{counts[begin, end]:,}" for end in SPLITS)) for begin in SPLITS]
    return Table("Imports from a split (rows) to a split (columns)", ("from", *SPLITS), rows)


def _checks(outcomes: Sequence[Outcome]) -> Table:
    rows = [
        (outcome.check, _result(outcome), outcome.promise, outcome.figure, f"{outcome.finding_count:,}")
        for outcome in outcomes
    ]
    header = ("check", "result", "promise", "figure", "findings")
    return Table("Checks", header, rows, left=4, folded=False)


def _result(outcome: Outcome) -> str:
    return "skipped" if outcome.skipped else "broken" if outcome.finding_count else "kept"
