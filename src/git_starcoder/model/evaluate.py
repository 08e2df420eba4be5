"""Ask a model, and the references beside it, about the held-out text of a dataset."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from git_starcoder import shelf
from git_starcoder.errors import DatasetError
from git_starcoder.evals import Exam, bits_per_byte, documents, next_line, sample, xz
from git_starcoder.model.load import again, load, record
from git_starcoder.seams import SILENT, Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from git_starcoder.dataset import Dataset
    from git_starcoder.evals import Score
    from git_starcoder.rows import Split

LIMIT = 65_536
"""Held-out tokens that are asked about; of more, whole files are drawn."""
FEWEST = 2048
"""Of them, within whatever time."""
FEWEST_LINES = 10
"""That are asked for, within whatever time."""
LEAST_GIVEN = 1 << 20
"""Bytes of training text for the compressors, within whatever time."""
SHARES = {"compressing": 0.3, "scoring": 0.35, "writing": 0.25}
"""Of the time, what each may use at most; the rest is for what was not foreseen."""
ORDER = ("bits_per_byte", "untrained", "xz", "ppm", "next_line", "frequent_line")
"""How a table begins; other evals follow."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What the evals of the shelf found, all on the same held-out text."""

    split: Split
    """`test`, or `val` where a small repository has no test split; on that one the kept weights were chosen."""
    files: int
    """Files asked about."""
    of: int
    """Files that the split has."""
    own: bool
    """Whether the model was trained on this very dataset; if not, it may have seen what is held out here."""
    scores: tuple[Score, ...]

    def as_values(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values: dict[str, Any] = {"split": self.split, "files": self.files, "of": self.of, "own": self.own}
        return {**values, "scores": [score._asdict() for score in self.scores]}


def evaluate(
    model: str | Path, dataset: Dataset, *, seconds: float | None = None, seed: int = 0, watch: Watch = SILENT
) -> Scores:
    """Run every eval of the shelf on the `base` text of the test split, at most `LIMIT` tokens of it.

    With `seconds`, as much less is asked as this machine needs to be done by then: fewer tokens and lines, and less
    training text for the compressors, but never less than the smallest numbers above.

    Raises:
        DatasetError: `model` is no model folder, a tokenizer that is not the dataset's, or nothing is held out.
        MissingExtraError: torch, transformers or pyppmd is not installed.

    """
    entered = perf_counter()
    folder = Path(model)
    network, tokenizer = load(folder)
    if (folder / "tokenizer.json").read_bytes() != (dataset.tokenizer_folder / "tokenizer.json").read_bytes():
        raise DatasetError("model and dataset have different tokenizers", where=str(folder), hint="train it again")
    split: Split = "test"
    found = documents(dataset, split)
    if not found:
        split, found = "val", documents(dataset, "val")
    if not found:
        hint = "the repository is too small to hold files out"
        raise DatasetError("nothing is held out", where=str(dataset.folder), hint=hint)
    untrained = again(folder, tokenizer, seed)
    exam = Exam(network, untrained, tokenizer, documents(dataset, "train"), sample(found, LIMIT, seed), seed)
    if seconds is not None:
        exam = _within(exam, lambda: seconds - (perf_counter() - entered))
    names = sorted(shelf.names("evals"), key=lambda key: (ORDER.index(key) if key in ORDER else len(ORDER), key))
    watch.begin("eval", len(names))
    begun = perf_counter()
    scores: list[Score] = []
    for name in names:
        scores.append(shelf.load("evals", name).evaluate(exam))
        watch.advance(1)
    watch.end("eval", perf_counter() - begun, len(names), len(names), {})
    files, of = (len({document.path for document in each}) for each in (exam.heldout, found))
    own = record(folder)["dataset"] == dataset.digest
    return Scores(split, files, of, own, tuple(scores))


def _within(exam: Exam, left: Callable[[], float]) -> Exam:
    """A smaller exam for the seconds that are left, from the speeds of a small one."""

    def measured(work: Callable[[], Any]) -> float:
        begun = perf_counter()
        work()
        return perf_counter() - begun

    few = replace(
        exam, heldout=sample(exam.heldout, FEWEST // 2, exam.seed), lines=FEWEST_LINES, given=LEAST_GIVEN // 4
    )
    training = few.priming()[0]
    per_byte = (
        3 * measured(lambda: xz.compressed(training)) / max(1, len(training))
    )  # twice xz, which gets slower, and PPMd
    per_token = 2 * measured(lambda: bits_per_byte.evaluate(few)) / (FEWEST // 2)  # two models
    per_line = measured(lambda: next_line.evaluate(replace(few, heldout=exam.heldout))) / FEWEST_LINES
    time = max(0.0, left())
    return replace(
        exam,
        heldout=sample(exam.heldout, max(FEWEST, int(time * SHARES["scoring"] / per_token)), exam.seed),
        lines=min(exam.lines, max(FEWEST_LINES, int(time * SHARES["writing"] / per_line))),
        given=min(exam.given, max(LEAST_GIVEN, int(time * SHARES["compressing"] / per_byte))),
    )


def table(scores: Scores) -> str:
    """The scores as plain text: one line for each, with its interval and what it is over."""
    lines: list[str] = []
    for measure, unit, better in (("bits per byte", "bytes", "lower"), ("next line", "lines", "higher")):
        of = [score for score in scores.scores if score.measure == measure]
        if of:
            share = "share that is exactly right, " if measure == "next line" else ""
            lines.append(f"{measure} ({share}{better} is better, {of[0].over:,} {unit} of {scores.files} "
                         f"{scores.split} files)")  # fmt: skip
        for score in of:
            interval = f"{score.low:.3f} to {score.high:.3f}" if score.high > score.low else ""
            lines.append(f"  {score.subject:32} {score.value:7.3f}  {interval}  {score.note}".rstrip())
    if not scores.own:
        lines.append("the model was trained on another dataset, so it may have seen these files")
    return "\n".join(lines)
