"""Report section with sample rows as a trainer sees them, each variation next to its original."""

from __future__ import annotations

import re
from itertools import groupby
from typing import TYPE_CHECKING, Any, cast

from git_starcoder.dataset.explain_row import split_row
from git_starcoder.errors import DatasetError
from git_starcoder.registry import names, summary
from git_starcoder.report.page import ReportInput, SampleRow, SampleText, Section, StyledText
from git_starcoder.row_layout import BASE
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from git_starcoder.dataset import Dataset, Row
    from git_starcoder.text.tokenizer import Tokenizer

DIFF_WORD = re.compile(r"\w+|\s+|[^\w\s]")
MAX_TEXT_CHARACTERS = 8_000
"""The length at which a part of a row's text is cut: enough for a window of 2,048 tokens."""
MAX_COMPARED_WINDOWS = 64
"""The number of windows of a file among which the original of a variation is searched, nearest first."""
MIN_SIMILARITY = 0.7
"""Two rows with a smaller share of equal words do not show the same place of the file."""
ENOUGH_DIFFERENCES = 4
"""A variation with this many differences is as good an example as one with more."""


def samples_section(report_input: ReportInput) -> Section | None:
    """One training row of each technique, drawn by its hash; None without training rows."""
    dataset, candidates = report_input.dataset, report_input.statistics.candidates
    candidate_numbers = {candidate.row_number for group in candidates.values() for candidate in group}
    varied_files = {
        (candidate.path, candidate.window_size)
        for technique, group in candidates.items() if technique != BASE for candidate in group
    }  # fmt: skip
    rows: dict[int, Row] = {}
    originals: dict[tuple[str, int], list[Row]] = {}

    needed_number = -1

    def is_needed(number: int, metadata: dict[str, Any]) -> bool:
        nonlocal needed_number
        needed_number = number
        file = metadata["source_file"], metadata["window_size"]
        return number in candidate_numbers or (metadata["augmentation_type"] == BASE and file in varied_files)

    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    for selected in dataset.select("train", is_needed):
        # The number of the row in its split; each of many repositories counts its own rows.
        row = selected._replace(metadata=selected.metadata | {"seq_id": needed_number})
        metadata = row.metadata
        if needed_number in candidate_numbers:
            rows[needed_number] = row
        if metadata["augmentation_type"] == BASE:
            originals.setdefault((metadata["source_file"], metadata["window_size"]), []).append(row)
    samples: list[SampleRow] = []
    for technique in sorted(candidates, key=lambda technique: (technique != BASE, technique)):
        try:
            candidate_rows = [rows[candidate.row_number] for candidate in candidates[technique]]
            samples.append(_make_sample(dataset, technique, candidate_rows, originals, tokenizer))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise DatasetError(f"a row of {technique} is damaged: {error}", where=str(dataset.folder)) from error
    paragraph = (
        "One training row of each technique, drawn by its hash from the rows with the smallest windows. Differences "
        "from the original are underlined, the context prefix (not in the loss) is grey, control tokens are framed."
    )
    return Section("Sample rows", [paragraph], samples=samples) if samples else None


def _make_sample(
    dataset: Dataset, technique: str, candidates: list[Row], originals: dict[tuple[str, int], list[Row]],
    tokenizer: Tokenizer,
) -> SampleRow:  # fmt: skip
    """The candidate that differs most clearly from its original, next to it; or the first candidate alone."""
    description = summary("augmentations", technique) if technique in names("augmentations") else ""
    has_original = technique not in {BASE, "git_diff"}
    compared = (_compare(row, originals, tokenizer) for row in candidates if has_original)
    comparisons = [comparison for comparison in compared if comparison]
    if not comparisons:
        text = _sample_text(dataset, "", candidates[0], _styled_words(candidates[0], tokenizer))
        return SampleRow(technique, description, [text])
    _, _, variation, original = max(comparisons, key=lambda comparison: comparison[:2])
    before, after = _mark_differences(_styled_words(original, tokenizer), _styled_words(variation, tokenizer))
    texts = [_sample_text(dataset, "original", original, before), _sample_text(dataset, technique, variation, after)]
    return SampleRow(technique, description, texts)


def _compare(
    row: Row, originals: dict[tuple[str, int], list[Row]], tokenizer: Tokenizer
) -> tuple[int, float, Row, Row] | None:
    """Compares a variation with the most similar window of its file; None if no window is similar, or one is equal.

    Returns:
        The number of differences, the similarity, the variation and the original. The first two say how clearly the
        two rows show the technique.
    """
    from rapidfuzz.distance import Indel

    words, start = _styled_words(row, tokenizer), row.metadata["token_start"]
    nearest = sorted(
        originals.get((row.metadata["source_file"], row.metadata["window_size"]), []),
        key=lambda other: (abs(other.metadata["token_start"] - start), other.metadata["seq_id"]),
    )
    plain_words = _plain_words(words)
    similarities = [  # the shares of equal words, from 0 to 1
        (Indel.normalized_similarity(plain_words, _plain_words(_styled_words(original, tokenizer))), -index)
        for index, original in enumerate(nearest[:MAX_COMPARED_WINDOWS])
    ]
    similarity, index = max(similarities, default=(0.0, 0))  # the nearest of equally similar ones
    if not MIN_SIMILARITY <= similarity < 1:
        return None
    original = nearest[-index]
    differences = _inner_differences(_styled_words(original, tokenizer), words)
    return min(ENOUGH_DIFFERENCES, differences), similarity, row, original


def _sample_text(dataset: Dataset, title: str, row: Row, words: Sequence[StyledText]) -> SampleText:
    metadata = row.metadata
    kind = f", {metadata['kind']}" if metadata.get("kind") else ""
    location = (
        f"{metadata['source_file']}, {dataset.row_location('train', metadata['seq_id'])}, "
        f"{metadata['length']} of {metadata['window_size']} tokens, weight {metadata['weight']:g}{kind}"
    )
    parts: list[StyledText] = []
    for style, run in groupby(words, key=lambda word: word.style):
        texts = [word.text for word in run]
        parts += [StyledText(text, style) for text in (texts if style == "control" else ["".join(texts)])]
    return SampleText(title, location, parts)


def _styled_words(row: Row, tokenizer: Tokenizer) -> list[StyledText]:
    """The row's text, word by word."""
    words: list[StyledText] = []
    for part in split_row(row, tokenizer):
        style = "control" if part.control else "" if part.counts else "head"
        texts = [part.text] if part.control else DIFF_WORD.findall(part.text[:MAX_TEXT_CHARACTERS])
        words += [StyledText(text, style) for text in texts]
    return words


def _plain_words(words: list[StyledText]) -> list[str]:
    """The words that are neither context prefix nor control tokens."""
    return [word.text for word in words if word.style == ""]


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
