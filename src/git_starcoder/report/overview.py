"""Report sections about the whole dataset: what each step dropped, the sizes of its parts, lengths and duplicates."""

from __future__ import annotations

from typing import Any

from git_starcoder.records import SPLITS
from git_starcoder.report.charts import SERIES, SPLIT_COLOURS, chart, draw_bars, draw_share_bars, format_number
from git_starcoder.report.page import Figure, ReportInput, Section, Table, percent
from git_starcoder.report.statistics import FILL_BINS, RowStatistics, read_json_lines

MAX_EXAMPLE_CHARACTERS = 120
"""The length at which the example of a drop is cut, so that the table stays readable."""
GROUP_TITLES = {
    "split": "By split", "window_size": "By window size", "technique": "By technique", "language": "By language",
    "role": "By role",
}  # fmt: skip
"""The charts of the sizes section, by the `RowGroup` field that they count by."""


def steps_section(report_input: ReportInput) -> Section:
    """What each step saw, kept and dropped, and each reason for drops with an example."""
    steps: list[dict[str, Any]] = report_input.dataset.manifest["steps"]
    rows = [
        (step["step"], f"{step['seen']:,}", f"{step['kept']:,}", f"{step['seen'] - step['kept']:,}",
         percent(step["kept"], step["seen"]))
        for step in steps
    ]  # fmt: skip
    bars = [(step["step"], step["kept"] / step["seen"] if step["seen"] else 0.0, f"{step['seen']:,}") for step in steps]
    segments = ("kept", SERIES[0]), ("dropped", SERIES[1])
    figure = chart(
        "steps", "What each step kept",
        "; ".join(f"{step['step']} kept {percent(step['kept'], step['seen'])} of {step['seen']:,}" for step in steps),
        lambda figure: draw_share_bars(figure, bars, segments, hatched=1, room=1.22, unit=" of what was seen"),
        ("step", "seen", "kept", "dropped", "share kept"), rows, height=300,
        caption="Each step counts its own items: read counts files and changes, analyse counts files, augment counts "
        "attempts to vary a text, window and dedup count rows.",
    )  # fmt: skip
    paragraph = "In every step, seen = kept + dropped. The file drops.jsonl lists everything that was dropped."
    return Section("Steps and drops", [paragraph], [figure], [_drop_reasons(report_input, steps)])


def _drop_reasons(report_input: ReportInput, steps: list[dict[str, Any]]) -> Table:
    examples: dict[tuple[str, str], str] = {}
    for drop in read_json_lines(report_input.dataset, "drops.jsonl"):
        key = str(drop.get("step")), str(drop.get("reason"))
        if key not in examples:
            because = drop.get("because")
            examples[key] = f"{drop.get('id')}{f' ({because})' if because else ''}"
    rows: list[tuple[str, ...]] = []
    for step in steps:
        for reason, count in sorted(step["dropped"].items(), key=lambda item: (-item[1], item[0])):
            example = examples.get((step["step"], reason), "")
            if len(example) > MAX_EXAMPLE_CHARACTERS:
                example = example[: MAX_EXAMPLE_CHARACTERS - 1] + "…"
            rows.append((step["step"], reason.replace("_", " "), example, f"{count:,}", percent(count, step["seen"])))
    header = ("step", "reason", "first example", "dropped", "share of what the step saw")
    return Table("Drops by reason", header, rows, text_columns=3, folded=False)


def sizes_section(report_input: ReportInput) -> Section:
    """Rows, tokens and weight by split, window size, technique, language and role."""
    paragraph = (
        "Tokens are those in the loss. Windows overlap, so a token of the repository counts once for each window that "
        "shows it. Weight is the number of these tokens times how often a trainer should draw their row."
    )
    figures = [_size_chart(report_input.statistics, name, title) for name, title in GROUP_TITLES.items()]
    return Section("Sizes", [paragraph], figures)


def _size_chart(statistics: RowStatistics, name: str, title: str) -> Figure:
    total = statistics.total()
    values = list(SPLITS) if name == "split" else statistics.values(name)
    totals = {str(value): statistics.total(**{name: value}) for value in values}
    rows = [
        (value, f"{group.rows:,}", f"{group.tokens:,}", percent(group.tokens, total.tokens),
         percent(group.weight, total.weight))
        for value, group in totals.items()
    ]  # fmt: skip
    if name == "split":
        bars: dict[str, dict[str, float]] = {split: {split: totals[split].tokens} for split in SPLITS}
    else:
        bars = {
            str(value): {split: statistics.total(split=split, **{name: value}).tokens for split in SPLITS}
            for value in values
        }
    shares = ", ".join(f"{value} {percent(group.tokens, total.tokens)}" for value, group in totals.items())
    header = (name.replace("_", " "), "rows", "tokens", "share of tokens", "share of weight")
    return chart(
        f"sizes-{name.replace('_', '-')}", title, f"Share of tokens: {shares}.",
        lambda figure: draw_bars(figure, bars, SPLIT_COLOURS, "tokens"), header, rows, height=90 + 26 * len(values),
    )  # fmt: skip


def lengths_section(report_input: ReportInput) -> Section:
    """How full windows are, how often overlapping windows repeat a token, and how many duplicate rows were dropped."""
    statistics = report_input.statistics
    figures = [_fill_chart(statistics), _repetition_chart(statistics)]
    return Section("Row lengths and duplicates", (), figures, [_duplicates(report_input)])


def _fill_chart(statistics: RowStatistics) -> Figure:
    window_sizes = statistics.values("window_size")
    fill_counts = statistics.fill_counts

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        centres = [(fill_bin + 0.5) / FILL_BINS for fill_bin in range(FILL_BINS)]
        heights = [0] * FILL_BINS
        for index, size in enumerate(window_sizes):
            counts = [fill_counts[size, fill_bin] for fill_bin in range(FILL_BINS)]
            colour = SERIES[index % len(SERIES)]
            axes.bar(centres, counts, 0.9 / FILL_BINS, bottom=heights, color=colour, label=str(size))
            heights = [height + count for height, count in zip(heights, counts, strict=True)]
        axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 % of the window"])
        axes.set_ylabel("rows")
        axes.yaxis.set_major_formatter(format_number)
        figure.legend(loc="outside upper right", ncols=5)

    rows: list[tuple[str, ...]] = []
    for size in window_sizes:
        count = statistics.total(window_size=size).rows
        full, padding = fill_counts[size, FILL_BINS - 1], statistics.padding_tokens[size]
        rows.append((str(size), f"{count:,}", percent(full, count), percent(padding, size * count)))
    header = ("window", "rows", f"rows filled to {1 - 1 / FILL_BINS:.0%} or more", "share of padding tokens")
    shares = (f"window {size}: {full} of the rows are full, {padding} padding" for size, _, full, padding in rows)
    return chart("lengths", "How much of a window is text", "; ".join(shares), draw, header, rows)


def _repetition_chart(statistics: RowStatistics) -> Figure:
    base_length = sum(statistics.base_lengths.values())
    repetitions = {
        str(size): statistics.base_tokens[size] / base_length if base_length else 0.0
        for size in statistics.values("window_size")
    }
    total = sum(repetitions.values())
    bars = {size: {"rows": count} for size, count in repetitions.items()}
    return chart(
        "repeats", "How often windows of each size show a token",
        f"Windows of all sizes together show a token of a file {total:.2f} times.",
        lambda figure: draw_bars(figure, bars, {"rows": SERIES[0]}, "rows that show a token of a file"),
        ("window", "rows per token"),
        [*((size, f"{count:.2f}") for size, count in repetitions.items()), ("all", f"{total:.2f}")],
        caption=f"The average over the {base_length:,} tokens of files as they are (technique base). Their windows "
        "overlap. Rows of other techniques are not counted.", height=90 + 26 * len(bars),
    )  # fmt: skip


def _duplicates(report_input: ReportInput) -> Table:
    rows: list[tuple[str, ...]] = []
    for step in report_input.dataset.manifest["steps"]:
        if step["step"] == "dedup":
            for reason, count in sorted(step["dropped"].items()):
                rows.append((f"dropped: {reason}", f"{count:,}", percent(count, step["seen"])))
            rows.append(("kept", f"{step['kept']:,}", percent(step["kept"], step["seen"])))
    row_count = report_input.statistics.total().rows
    repeated = row_count - len(report_input.statistics.splits_of["rows"])
    rows.append(("kept, but identical to an earlier row", f"{repeated:,}", percent(repeated, row_count)))
    return Table("Duplicate rows", ("rows", "count", "share"), rows, folded=False)
