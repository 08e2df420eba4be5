"""What a step trains on, row by row, with the places to look them up."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from git_starcoder.model.pack import fills, laid, suffix_first

if TYPE_CHECKING:
    from git_starcoder.dataset import Dataset
    from git_starcoder.model.corpus import Corpus
    from git_starcoder.model.plan import Plan


class Trained(NamedTuple):
    """A row that a step trains on."""

    place: str
    """File and line in the dataset."""
    source_file: str
    technique: str
    """`base`, or the key of the augmentation."""
    tokens: int
    """That the model reads, control tokens included."""
    given: int
    """Of them, those at the beginning that are shown and not learned."""
    weight: float
    draw: int
    """How often it was drawn by then, this time included."""
    draws: int
    """How often the whole run draws it."""
    fill: Literal["", "PSM", "SPM"]
    """In which order its prefix, suffix and middle stand, where a middle is to be filled in."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A step. Its number and its stage count from 1."""

    step: int
    steps: int
    stage: int
    stages: int
    tokens: int
    """That the model reads."""
    rows: tuple[Trained, ...]
    """In the order of the plan."""

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "rows": [row._asdict() for row in self.rows]}


def explain(plan: Plan, corpus: Corpus, dataset: Dataset, number: int) -> Explained:
    """What a step, counted from 0, trains on.

    Raises:
        IndexError: the run has no such step.

    """
    step = plan.step(number)
    wanted = set(step.rows.tolist())
    said = {row: about for row, about in enumerate(dataset.row_metadata("train")) if row in wanted}
    filled = fills(corpus, plan, step.rows, step.draws).tolist()
    first = suffix_first(plan, step.rows, step.draws).tolist()
    rows: list[Trained] = []
    for row, draw, read, fill, spm in zip(
        step.rows.tolist(), step.draws.tolist(), laid(corpus, plan, step), filled, first, strict=True
    ):
        rows.append(
            Trained(
                place=dataset.row_location("train", row),
                source_file=said[row]["source_file"],
                technique=said[row]["augmentation_type"],
                tokens=len(read),
                given=1 if fill else int(corpus.given[row]),
                weight=float(corpus.weights[row]),
                draw=draw + 1,
                draws=int(plan.drawn[row]),
                fill="" if not fill else "SPM" if spm else "PSM",
            )
        )
    tokens = sum(row.tokens for row in rows)
    return Explained(number + 1, plan.steps, step.stage + 1, len(plan.stages), tokens, tuple(rows))
