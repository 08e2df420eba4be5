"""Shows a comparison: as a table in plain text, and as an HTML page with a plot."""

from __future__ import annotations

from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from git_starcoder.comparison.compare import SUBJECTS, ArmComparison
from git_starcoder.evals import MIN_RELIABLE_GROUPS
from git_starcoder.report.page import INK, SERIES, Figure, Section, Table, chart, shorten
from git_starcoder.report.render import render_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_starcoder.comparison.effects import Effect, TrainedArm

EFFECT_HEADER = ("arm", "bits per byte", "spread", "difference", "interval from", "to", "result")
LABELLED_CHARACTERS = 34


def format_comparison(comparison: ArmComparison) -> str:
    """Return a comparison as text: a table for each subject, and what a reader must know."""
    lines: list[str] = []
    for subject, rows in _tables(comparison).items():
        lines.append(f"{subject}: bits compared with '{comparison.arms[0].name}' (below 0 %: fewer bits)")
        widths = [max(len(row[column]) for row in (EFFECT_HEADER, *rows)) for column in range(len(EFFECT_HEADER))]
        for row in (EFFECT_HEADER, *rows):
            cells = zip(row, widths, strict=True)
            aligned = [
                f"{cell:<{width}}" if column in {0, len(row) - 1} else f"{cell:>{width}}"
                for column, (cell, width) in enumerate(cells)
            ]
            lines.append(f"  {'  '.join(aligned)}".rstrip())
    lines += [_describe_text(comparison), *_remarks(comparison)]
    return "\n".join(lines)


def render_comparison(comparison: ArmComparison, place: str) -> str:
    """Return a comparison as an HTML page; `place` is the repository or dataset.

    Raises:
        MissingExtraError: A library of the extra `report` is not installed.
    """
    tables = _tables(comparison)
    figures = [
        _plot(comparison, subject, rows, f"effect-{index}")
        for index, (subject, rows) in enumerate(tables.items())
        if len(rows) > 1
    ]
    paragraphs = [_describe_text(comparison), *_remarks(comparison)]
    files = [_bits_by_file(comparison, subject) for subject in tables]
    sections = [Section("Difference in bits", paragraphs, figures), Section("Bits by file", tables=files)]
    facts = [
        ("arms", f"{len(comparison.arms):,}"),
        ("trainings", f"{sum(len(arm.about) for arm in comparison.arms):,}"),
    ]
    if comparison.about.get("tokens"):
        facts.append(("tokens of each training", f"{comparison.about['tokens']:,.0f}"))
    if comparison.about.get("commit"):
        facts.append(("commit", str(comparison.about["commit"])[:12]))
    facts.append(("files scored", f"{len({text.path for text in comparison.texts}):,}"))
    return render_page("Comparison", place, facts, sections, "Digest of the held-out text:", comparison.about["text"])


def _tables(comparison: ArmComparison) -> dict[str, list[tuple[str, ...]]]:
    """The rows of the table of each subject, by subject; the first row is that of the reference."""
    tables: dict[str, list[tuple[str, ...]]] = {}
    reference = comparison.arms[0]
    for subject in SUBJECTS:
        if subject in reference.bits:
            effects = {effect.arm: effect for effect in comparison.effects if effect.subject == subject}
            tables[subject] = [
                (arm.name, *_bits_cells(comparison, arm, subject), *_effect_cells(effects.get(arm.name)))
                for arm in comparison.arms
                if subject in arm.bits
            ]
    return tables


def _bits_cells(comparison: ArmComparison, arm: TrainedArm, subject: str) -> tuple[str, str]:
    """The mean bits per byte over the trainings, and their standard deviation."""
    values = comparison.bits_per_byte(arm, subject)
    return f"{fmean(values):.4f}", f"{stdev(values):.4f}" if len(values) > 1 else ""


def _effect_cells(effect: Effect | None) -> tuple[str, str, str, str]:
    if effect is None:
        return "", "", "", ""
    ends = ("" if end is None else f"{100 * (end - 1):+.2f} %" for end in (effect.low, effect.high))
    return (f"{100 * (effect.ratio - 1):+.2f} %", *ends, effect.verdict)  # pyright: ignore[reportReturnType]


def _describe_text(comparison: ArmComparison) -> str:
    files, groups = (len({getattr(text, key) for text in comparison.texts}) for key in ("path", "group"))
    byte_count = int(comparison.byte_counts.sum())
    return (
        f"All arms are scored on the same {byte_count:,} bytes of {files:,} held-out files in {groups:,} leak groups."
    )


def _remarks(comparison: ArmComparison) -> list[str]:
    """What a reader must know about the intervals, and the notes."""
    remarks: list[str] = []
    effects = comparison.effects
    if effects and effects[0].with_chance_of_training:
        remarks.append("The 95 % intervals include the chance in which files are held out and that of the seeds.")
    elif effects:
        remarks.append(
            "The 95 % intervals do not include the chance in a training, because each arm has only one: "
            "another seed may give another result."
        )
    if effects and effects[0].groups < MIN_RELIABLE_GROUPS:
        remarks.append(f"The figures may be chance: there are under {MIN_RELIABLE_GROUPS} leak groups.")
    return [*remarks, *(f"{note[:1].upper()}{note[1:]}." for note in comparison.notes)]


def _plot(comparison: ArmComparison, subject: str, rows: Sequence[tuple[str, ...]], key: str) -> Figure:
    """A point and a line for the effect of each arm and its interval."""
    effects = [effect for effect in comparison.effects if effect.subject == subject]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.axvline(0, color=INK, linewidth=1)
        for place, effect in enumerate(effects):
            colour = SERIES[5] if effect.verdict in {"no effect shown", "no interval"} else SERIES[0]
            ends = [100 * (end - 1) for end in (effect.low, effect.high) if end is not None]
            axes.plot(ends, [place] * len(ends), color=colour, linewidth=2)
            axes.plot([100 * (effect.ratio - 1)], [place], "o", color=colour)
        axes.set_yticks(range(len(effects)), [shorten(effect.arm, LABELLED_CHARACTERS) for effect in effects])
        axes.set_ylim(len(effects) - 0.5, -0.5)
        axes.set_xlabel(f"bits more or fewer than '{shorten(comparison.arms[0].name, 24)}', in %; left is better")

    title = f"Bits of the {subject} compared with '{comparison.arms[0].name}'"
    description = ", ".join(f"{effect.arm} {100 * (effect.ratio - 1):+.2f} %" for effect in effects)
    caption = "Lines are 95 % confidence intervals. Grey: no effect shown."
    height = 90 + 28 * len(effects)
    return chart(key, title, description, draw, EFFECT_HEADER, rows, caption=caption, wide=True, height=height)


def _bits_by_file(comparison: ArmComparison, subject: str) -> Table:
    """The bits per byte of each text, by arm, as means over the trainings."""
    arms = [arm for arm in comparison.arms if subject in arm.bits]
    means = [arm.bits[subject].mean(axis=0) / comparison.byte_counts for arm in arms]
    rows = [
        (text.path, f"{len(text.scored):,}", *(f"{mean[index]:.3f}" for mean in means))
        for index, text in enumerate(comparison.texts)
    ]
    return Table(f"Bits per byte of the {subject}", ("file", "bytes", *(arm.name for arm in arms)), rows)
