"""Report section with sample rows as a trainer sees them, each variation next to its original."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from git_starcoder.errors import DatasetError
from git_starcoder.registry import names, summary
from git_starcoder.report.page import ReportInput, SampleRow, SampleText, Section, StyledText
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.text.pieces import pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_starcoder.dataset import Row
    from git_starcoder.report.statistics import SampleCandidate
    from git_starcoder.text.tokenizer import Tokenizer

WORD = re.compile(r"\w+|\s+|[^\w\s]")
MAX_TEXT_CHARACTERS = 8_000
"""The length at which a part of a row's text is cut: enough for a window of 2,048 tokens."""
MAX_COMPARED_WINDOWS = 64
"""The number of windows of a file among which the original of a variation is searched, nearest first."""
MIN_SIMILARITY = 0.7
"""Two rows with a smaller share of equal words do not show the same place of the file."""
ENOUGH_DIFFERENCES = 4
"""A variation with this many differences is as good an example as one with more."""


class NumberedRow(NamedTuple):
    """A row of the training split and its number, from 0."""

    number: int
    row: Row


class Comparison(NamedTuple):
    """A variation and its most similar original. Comparisons sort by how clearly they show the technique."""

    difference_count: int
    similarity: float
    candidate: SampleCandidate
    original: NumberedRow


def samples_section(report_input: ReportInput) -> Section | None:
    """One training row of each technique, drawn by its hash; None without training rows."""
    dataset, candidates = report_input.dataset, report_input.statistics.candidates
    candidate_numbers = {candidate.row_number for group in candidates.values() for candidate in group}
    varied_files = {
        (candidate.path, candidate.window_size)
        for technique, group in candidates.items() if technique != "base" for candidate in group
    }  # fmt: skip
    rows: dict[int, Row] = {}
    originals: dict[tuple[str, int], list[NumberedRow]] = {}

    def is_needed(number: int, metadata: dict[str, Any]) -> bool:
        file = metadata["source_file"], metadata["window_size"]
        return number in candidate_numbers or (metadata["augmentation_type"] == "base" and file in varied_files)

    tokenizer = tokenizers.load(dataset.tokenizer_folder)
    for row in dataset.select("train", is_needed):
        number = row.metadata["seq_id"]
        if number in candidate_numbers:
            rows[number] = row
        if row.metadata["augmentation_type"] == "base":
            file = row.metadata["source_file"], row.metadata["window_size"]
            originals.setdefault(file, []).append(NumberedRow(number, row))
    samples: list[SampleRow] = []
    for technique in sorted(candidates, key=lambda technique: (technique != "base", technique)):
        try:
            samples.append(_make_sample(report_input, technique, rows, originals, tokenizer))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise DatasetError(f"a row of {technique} is damaged: {error}", where=str(dataset.folder)) from error
    paragraph = (
        "One training row of each technique, drawn by its hash from the rows with the smallest windows. Differences "
        "from the original are underlined, the context prefix (not in the loss) is grey, control tokens are framed."
    )
    return Section("Sample rows", [paragraph], samples=samples) if samples else None


def _make_sample(
    report_input: ReportInput, technique: str, rows: dict[int, Row],
    originals: dict[tuple[str, int], list[NumberedRow]], tokenizer: Tokenizer,
) -> SampleRow:  # fmt: skip
    """The candidate that differs most clearly from its original, next to it; or the first candidate alone."""
    description = summary("augmentations", technique) if technique in names("augmentations") else ""
    candidates = report_input.statistics.candidates[technique]
    comparisons: list[Comparison] = []
    for candidate in candidates if technique not in {"base", "git_diff"} else ():
        file_originals = originals.get((candidate.path, candidate.window_size), [])
        comparison = _compare(candidate, rows[candidate.row_number], file_originals, tokenizer)
        if comparison:
            comparisons.append(comparison)
    if not comparisons:
        number = candidates[0].row_number
        text = _sample_text(report_input, "", number, rows[number], _styled_words(rows[number], tokenizer))
        return SampleRow(technique, description, [text])
    best = max(comparisons, key=lambda comparison: comparison[:2])
    number, (original_number, original) = best.candidate.row_number, best.original
    before, after = _mark_differences(_styled_words(original, tokenizer), _styled_words(rows[number], tokenizer))
    return SampleRow(technique, description, [
        _sample_text(report_input, "original", original_number, original, before),
        _sample_text(report_input, technique, number, rows[number], after),
    ])  # fmt: skip


def _compare(
    candidate: SampleCandidate, row: Row, originals: list[NumberedRow], tokenizer: Tokenizer
) -> Comparison | None:
    """The candidate with the most similar window of its unchanged file; None if none is similar, or one is equal."""
    words, start = _styled_words(row, tokenizer), row.metadata["token_start"]
    nearest = sorted(originals, key=lambda other: (abs(other.row.metadata["token_start"] - start), other.number))
    best: tuple[float, NumberedRow] | None = None
    for original in nearest[:MAX_COMPARED_WINDOWS]:
        similarity = _similarity(words, _styled_words(original.row, tokenizer))
        if similarity >= MIN_SIMILARITY and (best is None or similarity > best[0]):
            best = similarity, original
    if best is None or best[0] >= 1:
        return None
    differences = _inner_differences(_styled_words(best[1].row, tokenizer), words)
    return Comparison(min(ENOUGH_DIFFERENCES, differences), best[0], candidate, best[1])


def _sample_text(
    report_input: ReportInput, title: str, number: int, row: Row, words: Sequence[StyledText]
) -> SampleText:
    metadata = row.metadata
    location = (
        f"{metadata['source_file']}, {report_input.dataset.place('train', number)}, "
        f"{metadata['length']} of {metadata['window_size']} tokens, weight {metadata['weight']:g}"
        f"{', ' + metadata['kind'] if metadata.get('kind') else ''}"
    )
    parts: list[StyledText] = []
    for style, run in groupby(words, key=lambda word: word.style):
        texts = [word.text for word in run]
        parts += [StyledText(text, style) for text in (texts if style == "control" else ["".join(texts)])]
    return SampleText(title, location, parts)


def _styled_words(row: Row, tokenizer: Tokenizer) -> list[StyledText]:
    """The row's text, word by word."""
    words: list[StyledText] = []
    for piece in pieces(row, tokenizer):
        if piece.control:
            words.append(StyledText(piece.text, "control"))
        else:
            style = "" if piece.counts else "head"
            words += [StyledText(word, style) for word in WORD.findall(piece.text[:MAX_TEXT_CHARACTERS])]
    return words


def _plain_words(words: list[StyledText]) -> list[str]:
    """The words that are neither context prefix nor control tokens."""
    return [word.text for word in words if word.style == ""]


def _similarity(left: list[StyledText], right: list[StyledText]) -> float:
    """The share of equal words, from 0 to 1."""
    from rapidfuzz.distance import Indel

    return Indel.normalized_similarity(_plain_words(left), _plain_words(right))


def _edit_operations(left: list[str], right: list[str]) -> list[tuple[str, int, int, int, int]]:
    """The operations that turn one list of words into the other, in the form of `difflib`'s opcodes."""
    from rapidfuzz.distance import Indel

    return cast("list[tuple[str, int, int, int, int]]", list(Indel.opcodes(left, right)))


def _inner_differences(original: list[StyledText], variation: list[StyledText]) -> int:
    """Counts insertions between equal words. Those at the ends only show that one window reaches further."""
    operations = _edit_operations(_plain_words(original), _plain_words(variation))
    equal = [index for index, operation in enumerate(operations) if operation[0] == "equal"]
    return sum(operation[0] == "insert" for operation in operations[equal[0] : equal[-1]]) if equal else 0


def _mark_differences(left: list[StyledText], right: list[StyledText]) -> tuple[list[StyledText], list[StyledText]]:
    """Gives the words that only one of the two texts has the style `changed`."""
    left, right = list(left), list(right)
    operations = _edit_operations([word.text for word in left], [word.text for word in right])
    for name, left_start, left_stop, right_start, right_stop in operations:
        if name != "equal":
            for words, start, stop in ((left, left_start, left_stop), (right, right_start, right_stop)):
                for index in range(start, stop):
                    if words[index].style == "":
                        words[index] = StyledText(words[index].text, "changed")
    return left, right
