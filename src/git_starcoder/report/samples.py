"""Rows as a trainer sees them, each variation beside the row that it varies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from git_starcoder.dataset.explain_row import split_row
from git_starcoder.errors import DatasetError
from git_starcoder.registry import names, summary
from git_starcoder.report.parts import Mark, Sample, Section, Subject, Text
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from git_starcoder.dataset import Row
    from git_starcoder.report.tally import Candidate
    from git_starcoder.text.tokenizer import Tokenizer

WORD = re.compile(r"\w+|\s+|[^\w\s]")
LONGEST = 8_000
"""Characters of a text that are shown."""
COMPARED = 64
"""Windows of a file, at most, among which the one that a row varies is looked for."""
LIKE = 0.7
"""Share of equal words from which on two rows show the same place."""
ENOUGH = 4
"""Differences, of which more show nothing more."""


def section(subject: Subject) -> Section | None:
    """For each technique a row drawn by its hash, whatever it shows."""
    dataset, candidates = subject.dataset, subject.tally.candidates
    drawn = {one.number: one for best in candidates.values() for one in best}
    varied = {(one.path, one.size) for made_by, best in candidates.items() if made_by != "base" for one in best}
    rows: dict[int, Row] = {}
    originals: dict[tuple[str, int], list[tuple[int, Row]]] = {}

    def wanted(number: int, about: dict[str, Any]) -> bool:
        place = about["source_file"], about["window_size"]
        return number in drawn or (about["augmentation_type"] == "base" and place in varied)

    tokenizer = tokenizers.load(dataset.tokenizer_folder)
    for row in dataset.select("train", wanted):
        number = row.metadata["seq_id"]
        if number in drawn:
            rows[number] = row
        if row.metadata["augmentation_type"] == "base":
            originals.setdefault((row.metadata["source_file"], row.metadata["window_size"]), []).append((number, row))
    samples: list[Sample] = []
    for made_by in sorted(candidates, key=lambda made_by: (made_by != "base", made_by)):
        try:
            samples.append(_sample(subject, made_by, candidates[made_by], rows, originals, tokenizer))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise DatasetError(f"a row of {made_by} is damaged: {error}", where=str(dataset.folder)) from error
    if not samples:
        return None
    lead = (
        "One training row of each technique, drawn by its hash from the smallest windows. Underlined is what differs "
        "from the original; what stands in grey is context that does not count for the loss; control tokens are framed."
    )
    return Section("Sample rows", [lead], samples=samples)


def _sample(
    subject: Subject,
    made_by: str,
    best: list[Candidate],
    rows: dict[int, Row],
    originals: dict[tuple[str, int], list[tuple[int, Row]]],
    tokenizer: Tokenizer,
) -> Sample:
    """The candidate with the most differences inside beside the row most like it of its file as it is; or one alone."""
    about = summary("augmentations", made_by) if made_by in names("augmentations") else ""
    clearest: tuple[int, float, Candidate, int, Row] | None = None
    for one in best if made_by not in {"base", "git_diff"} else []:
        words = _marks(rows[one.number], tokenizer)
        found: tuple[float, int, Row] | None = None
        for number, other in _near(rows[one.number], originals.get((one.path, one.size), [])):
            like = _likeness(words, _marks(other, tokenizer))
            if like >= LIKE and (found is None or like > found[0]):
                found = like, number, other
        if found and found[0] < 1:
            inside = min(ENOUGH, _inside(_marks(found[2], tokenizer), words))
            if clearest is None or (inside, found[0]) > clearest[:2]:
                clearest = inside, found[0], one, found[1], found[2]
    if clearest is None:
        marks = _marks(rows[best[0].number], tokenizer)
        return Sample(made_by, about, [_text(subject, "", best[0].number, rows[best[0].number], marks)])
    _, _, one, number, original = clearest
    before, after = _compared(_marks(original, tokenizer), _marks(rows[one.number], tokenizer))
    return Sample(made_by, about, [
        _text(subject, "original", number, original, before),
        _text(subject, made_by, one.number, rows[one.number], after),
    ])  # fmt: skip


def _near(row: Row, originals: list[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """Those that begin nearest to where the row begins."""
    start = row.metadata["token_start"]
    return sorted(originals, key=lambda other: (abs(other[1].metadata["token_start"] - start), other[0]))[:COMPARED]


def _text(subject: Subject, title: str, number: int, row: Row, marks: list[Mark]) -> Text:
    about = row.metadata
    kind = f", {about['kind']}" if about.get("kind") else ""
    where = (
        f"{about['source_file']}, {subject.dataset.row_location('train', number)}, "
        f"{about['length']} of {about['window_size']} tokens, weight {about['weight']:g}{kind}"
    )
    return Text(title, where, _joined(marks))


def _marks(row: Row, tokenizer: Tokenizer) -> list[Mark]:
    """The row's text, word by word."""
    found: list[Mark] = []
    for piece in split_row(row, tokenizer):
        if piece.control:
            found.append(Mark(piece.text, "control"))
        else:
            found += [Mark(word, "" if piece.counts else "head") for word in WORD.findall(piece.text[:LONGEST])]
    return found


def _likeness(one: list[Mark], other: list[Mark]) -> float:
    """The share of words that are equal, of what counts."""
    from rapidfuzz.distance import Indel

    left, right = ([mark.text for mark in marks if mark.kind == ""] for marks in (one, other))
    return Indel.normalized_similarity(left, right)


def _codes(one: list[Mark], other: list[Mark]) -> list[tuple[str, int, int, int, int]]:
    """What makes the words of one text those of the other: in the order of `difflib`'s opcodes."""
    from rapidfuzz.distance import Indel

    codes = Indel.opcodes([mark.text for mark in one], [mark.text for mark in other])
    return cast("list[tuple[str, int, int, int, int]]", list(codes))


def _inside(one: list[Mark], other: list[Mark]) -> int:
    """How many differences are neither at the beginning nor at the end: there one window just reaches further."""
    codes = _codes(*([mark for mark in marks if mark.kind == ""] for marks in (one, other)))
    equal = [at for at, code in enumerate(codes) if code[0] == "equal"]
    return sum(code[0] == "insert" for code in codes[equal[0] : equal[-1]]) if equal else 0


def _compared(one: list[Mark], other: list[Mark]) -> tuple[list[Mark], list[Mark]]:
    """Both texts with the words marked that only one of them has."""
    before, after = list(one), list(other)
    for tag, begin, end, start, stop in _codes(one, other):
        if tag != "equal":
            for marks, first, last in ((before, begin, end), (after, start, stop)):
                for at in range(first, last):
                    if marks[at].kind == "":
                        marks[at] = Mark(marks[at].text, "changed")
    return before, after


def _joined(marks: list[Mark]) -> list[Mark]:
    """Neighbours of one kind as one."""
    found: list[Mark] = []
    for mark in marks:
        if found and found[-1].kind == mark.kind and mark.kind != "control":
            found[-1] = Mark(found[-1].text + mark.text, mark.kind)
        else:
            found.append(mark)
    return found
