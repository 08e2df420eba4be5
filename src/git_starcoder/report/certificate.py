"""Report section about leaks: how much held-out content is in the training split, and the outcomes of all checks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from git_starcoder.records import SPLITS
from git_starcoder.report.page import INK, SERIES, Figure, ReportInput, Section, Table, chart, draw_share_bars, percent
from git_starcoder.report.statistics import read_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_starcoder.checks import Outcome

RESULTS = ("kept", "broken", "skipped")
LeakCount = tuple[str, int, int]
"""A kind of held-out items, how many of them are also in the training split, and how many there are."""


def certificate_section(report_input: ReportInput) -> Section:
    """How many held-out files, groups, rows and token runs are in training, and the outcome of every check."""
    outcomes = report_input.outcomes
    certificates = {outcome.check: outcome.certificate for outcome in outcomes if outcome.certificate}
    counts = [*_counts_of_rows(report_input), *_counts_of_checks(certificates)]
    rows = [(kind, f"{leaked:,}", f"{total:,}", percent(leaked, total)) for kind, leaked, total in counts]
    bars = [
        (kind, min(1.0, leaked / total) if total else 0.0, f"{leaked:,} of {total:,}") for kind, leaked, total in counts
    ]
    segments = ("in training", SERIES[1]), ("not in training", SERIES[2])
    figure = chart(
        "certificate", "Held-out content in the training split",
        "; ".join(f"{leaked} of {total} {kind}" for kind, leaked, total, _ in rows),
        lambda figure: draw_share_bars(figure, bars, segments, hatched=0, room=1.6),
        ("content", "in training", "checked", "share"), rows, height=70 + 30 * len(counts),
    )  # fmt: skip
    figures = [figure]
    if certificates.get("overlap"):
        figures.append(_overlap_chart(certificates["overlap"]))
    paragraphs = ["Files that share text, or were once one file, form a leak group. A group is always in one split."]
    imports = Counter(
        (str(line.get("from_split")), str(line.get("to_split")))
        for line in read_json_lines(report_input.dataset, "imports.jsonl")
    )
    rows = [(importer, *(f"{imports[importer, imported]:,}" for imported in SPLITS)) for importer in SPLITS]
    tables = [Table("Imports from files of one split (rows) to files of another (columns)", ("from", *SPLITS), rows)]
    if outcomes:
        results = Counter(outcome_result(outcome) for outcome in outcomes)
        paragraphs.append(f"Checks: {', '.join(f'{results[name]} {name}' for name in RESULTS if results[name])}.")
        rows = [
            (outcome.check, outcome_result(outcome), outcome.promise, outcome.figure, f"{outcome.finding_count:,}")
            for outcome in outcomes
        ]
        header = ("check", "result", "promise", "figure", "findings")
        tables.append(Table("Checks", header, rows, text_columns=4, folded=False))
    else:
        paragraphs.append("The checks were not run. `git starcoder report` runs them without --no-check.")
    return Section("Leak certificate and checks", paragraphs, figures, tables)


def _counts_of_rows(report_input: ReportInput) -> Iterator[LeakCount]:
    """Counts the held-out files, groups and rows that are also in training, by their names alone."""
    for kind, splits_by_name in report_input.statistics.splits_of.items():
        held_out = [splits for splits in splits_by_name.values() if splits != {"train"}]
        yield f"held-out {kind}", sum("train" in splits for splits in held_out), len(held_out)


def _counts_of_checks(certificates: Mapping[str, Mapping[str, Any]]) -> Iterator[LeakCount]:
    """The counts of leaks that the checks recorded in the certificate."""
    if near := certificates.get("near_files"):
        yield "near-duplicate files across splits", near["crossing"], near["compared"]
    lines = certificates.get("held_out_lines", {})
    if "in_runs" in lines:
        yield "lines of held-out commits, copied in a row", lines["in_runs"], lines["lines"]
        yield "lines of held-out commits, one by one", lines["known"], lines["lines"]
    elif lines:
        yield "changes with held-out lines", lines["changes_with_a_line"], lines["changes"]
    if (canaries := certificates.get("leak", {}).get("canaries")) and canaries["held_out"]:
        yield "planted canaries", canaries["crossing"], canaries["held_out"]


def _overlap_chart(overlap: Mapping[str, Any]) -> Figure:
    """The share of held-out token runs that are in training, compared with random splits of the same repository."""
    draws: list[float] = overlap["draws"]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot(sorted(draws), [1] * len(draws), "|", color=SERIES[1], markersize=22, label="random splits")
        for height, key, colour in ((2, "overlap", SERIES[0]), (3, "without_changes", SERIES[3])):
            axes.plot([overlap[key]], [height], "D", color=colour, markersize=9)
            axes.text(overlap[key], height + 0.3, f"{overlap[key]:.1%}", ha="center", fontsize=11)
        axes.axvline(overlap["floor"], color=INK, linestyle=":", linewidth=1, label="mean of random splits")
        axes.set_yticks([1, 2, 3], ["random splits", "this dataset", "without changes"])
        axes.set_ylim(0.5, 3.8)
        axes.set_xlim(0, 1.15 * max(*draws, overlap["overlap"], 0.01))
        axes.xaxis.set_major_formatter(lambda share, _: f"{share:.0%}")  # pyright: ignore[reportUnknownLambdaType]
        axes.tick_params(axis="y", length=0)
        figure.legend(loc="outside upper right", ncols=2)

    shares = {
        "this dataset": overlap["overlap"],
        "this dataset, without rows that show changes": overlap["without_changes"],
        "random splits, mean": overlap["floor"],
        "random splits, standard deviation": overlap["deviation"],
        **{f"random split {number}": draw for number, draw in enumerate(draws, 1)},
    }
    sampled = f", a sample of one in {overlap['one_in']}" if overlap["one_in"] > 1 else ""
    return chart(
        "overlap", f"Held-out runs of {overlap['run']} tokens that are in training",
        f"{overlap['overlap']:.1%} here, {overlap['floor']:.1%} ± {overlap['deviation']:.1%} in random splits.",
        draw, ("split", "share"), [(name, f"{share:.2%}") for name, share in shares.items()], height=250,
        caption=f"{overlap['runs']:,} different runs{sampled}. Code repeats itself, so every honest split has some "
        "overlap. Splits with randomly chosen held-out files show how much is normal for this repository.",
    )  # fmt: skip


def outcome_result(outcome: Outcome) -> str:
    """The result of a check in one word: `kept`, `broken` or `skipped`."""
    return "skipped" if outcome.skipped else "broken" if outcome.finding_count else "kept"
