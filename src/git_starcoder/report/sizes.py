"""How large the parts of the dataset are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_starcoder.records import SPLITS
from git_starcoder.report.parts import Figure, Section, Subject, Table, share
from git_starcoder.report.plot import SPLIT, bars, svg

if TYPE_CHECKING:
    from git_starcoder.report.tally import Tally

KINDS = {
    "split": "By split", "size": "By window size", "made_by": "By technique", "language": "By language",
    "role": "By role",
}  # fmt: skip


def section(subject: Subject) -> Section:
    """Rows, tokens and weight by everything that rows are counted by."""
    lead = (
        "Tokens are those that count for the loss; windows overlap, so a token of the repository counts as often as "
        "it is shown. Weight is how often a trainer draws a row, times these tokens."
    )
    return Section("Sizes", [lead], [_figure(subject.tally, name, title) for name, title in KINDS.items()])


def _figure(tally: Tally, name: str, title: str) -> Figure:
    every = tally.total()
    values = list(SPLITS) if name == "split" else tally.values(name)
    amounts = {str(value): tally.total(**{name: value}) for value in values}
    header = (name.replace("_", " "), "rows", "tokens", "share of tokens", "share of weight")
    rows = [
        (word, f"{amount.rows:,}", f"{amount.tokens:,}", share(amount.tokens, every.tokens),
         share(amount.weight, every.weight))
        for word, amount in amounts.items()
    ]  # fmt: skip
    of_split: dict[str, dict[str, float]] = {
        str(value): {split: tally.total(**{"split": split, name: value}).tokens for split in SPLITS} for value in values
    }
    if name == "split":
        of_split = {split: {split: amounts[split].tokens} for split in SPLITS}

    def paint(figure: Any) -> None:
        bars(figure, of_split, SPLIT, "tokens")

    about = ", ".join(f"{word} {share(amount.tokens, every.tokens)}" for word, amount in amounts.items())
    picture = svg(f"sizes-{name}", title, f"Share of tokens: {about}.", paint, height=90 + 26 * len(values))
    return Figure(picture, title, "", Table(title, header, rows))
