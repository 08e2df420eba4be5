"""What a trainer meets as it reads the training file from its beginning."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from git_starcoder.report.parts import Figure, Section, Subject, Table, share
from git_starcoder.report.plot import COLOURS, SERIES, WIDTH, svg

PARTS = 100
"""Of the file, each a point of the curve."""
TOLD = 10
"""Of these, in the table."""


def section(subject: Subject) -> Section | None:
    """Difficulty and window sizes along the file."""
    complexity = np.array(subject.tally.complexity)
    sizes, stages = np.array(subject.tally.sizes), np.array(subject.tally.stages)
    if not len(complexity):
        return None
    edges = np.unique(np.linspace(0, len(complexity), PARTS + 1).round().astype(np.int64))
    low, middle, high = np.array(
        [np.percentile(complexity[begin:end], (10, 50, 90)) for begin, end in pairwise(edges)]
    ).T
    kinds = np.unique(sizes)
    mix = np.stack([np.diff(np.concatenate(([0], np.cumsum(sizes == kind)))[edges]) / np.diff(edges) for kind in kinds])
    at = (edges[:-1] + edges[1:]) / 2 / len(complexity)
    borders = (np.flatnonzero(np.diff(stages)) + 1) / len(complexity)

    def paint(figure: Any) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True)
        upper.fill_between(at, low, high, color=SERIES[0], alpha=0.3, linewidth=0, label="10 to 90 % of the rows")
        upper.plot(at, middle, color=SERIES[0], label="median")
        upper.set_ylabel("difficulty")
        upper.set_ylim(0, 1)
        upper.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2)
        lower.stackplot(
            at, mix, labels=[str(kind) for kind in kinds.tolist()], edgecolor=COLOURS["paper"], linewidth=0.6,
            colors=[SERIES[number % len(SERIES)] for number in range(len(kinds))],
        )  # fmt: skip
        for axes in (upper, lower):
            for border in borders.tolist():
                axes.axvline(border, color=COLOURS["ink"], linestyle=":", linewidth=1)
        lower.set_ylabel("window sizes, share")
        lower.set_xlim(0, 1)
        lower.set_xticks([0, 0.25, 0.5, 0.75, 1], ["first row", "25 %", "50 %", "75 %", "last row"])
        figure.legend(*lower.get_legend_handles_labels(), loc="outside lower center", ncols=6)

    title = "Difficulty and window sizes along the training file"
    told = np.array_split(np.arange(len(at)), min(TOLD, len(at)))
    rows = [
        (f"{share(float(edges[part[0]]), len(complexity))} to {share(float(edges[part[-1] + 1]), len(complexity))}",
         *(f"{values[part].mean():.3f}" for values in (low, middle, high)),
         *(f"{values[part].mean():.0%}" for values in mix))
        for part in told
    ]  # fmt: skip
    header = ("rows", "10 %", "median", "90 %", *(f"window {kind}" for kind in kinds.tolist()))
    about = (
        f"The median difficulty is {middle[0]:.3f} in the first rows and {middle[-1]:.3f} in the last; "
        f"{len(borders) + 1} stages begin at {', '.join(f'{border:.0%}' for border in (0, *borders.tolist()))}."
    )
    picture = svg("curriculum", title, about, paint, width=2 * WIDTH, height=380)
    order = subject.dataset.metadata.get("learning_strategy", "unknown")
    lead = f"The order of the rows is called {order}. Dotted lines are where a stage of the curriculum begins."
    return Section("Curriculum", [lead], [Figure(picture, title, "", Table(title, header, rows), wide=True)])
