"""Checks of single rows and their samples: keys, lengths, control tokens, text and secrets."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from hashlib import blake2b
from itertools import chain
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import orjson

from git_starcoder.augmentations import header_parts
from git_starcoder.checks.base import READING_ORDER, Check
from git_starcoder.dataset.folder import path_in_repository
from git_starcoder.dataset.read_blocks import NO_TOKEN_IDS
from git_starcoder.dataset.samples import TextRun
from git_starcoder.errors import DatasetError
from git_starcoder.records import parse_printable_path
from git_starcoder.row_layout import BASE, IGNORED_LABEL, scored_spans
from git_starcoder.text.secrets import REDACTED_MARK, redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from git_starcoder.checks.base import CheckContext
    from git_starcoder.dataset.read_blocks import BulkRow, RowBlock
    from git_starcoder.records import Finding, Split

REAL = (int, float)
"""The type of a JSON number that may have a fraction."""
REQUIRED_KEYS: dict[str, type | tuple[type, ...]] = {
    "seq_id": int, "source_file": str, "directory": str, "file_extension": str, "window_size": int, "length": int,
    "chunk_index": int, "total_chunks": int, "complexity": REAL, "priority": str, "is_core": bool, "is_test": bool,
    "augmentation_type": str, "weight": REAL, "age_days": int, "has_dependencies": bool, "type_density": REAL,
    "error_patterns": int, "row_id": str, "group": str, "role": str, "language": str, "split": str, "sample": str,
    "token_start": int,
}  # fmt: skip
"""Metadata that every row has, with their types."""
OPTIONAL_KEYS: dict[str, type | tuple[type, ...]] = {
    "stage": int, "context": int, "is_evolution": bool, "commit": str, "commit_message": str, "kind": str, "blob": str,
    "copy": int, "copies": int, "weight_of_row": REAL, "hole": list, "scored": list, "repository": str, "license": str,
}  # fmt: skip
"""Metadata that some rows have, with their types."""
MAX_VALID_SHAPES = 1000
"""Combinations of keys and types that are remembered as valid. Our datasets have a few dozen; foreign ones must not
fill the memory."""

CONTROL_LETTERS = {
    "r": "<repo_name>", "f": "<file_sep>", "b": "<commit_before>", "m": "<commit_msg>", "a": "<commit_after>",
}  # fmt: skip
"""Letters that stand for control tokens, so that a regular expression can describe their order."""
PREFIX_PATTERNS = {"base": "rf", "git_diff": "f(bma)+", "temporal_context": "(bm)+af", "cross_file_context": "ff+"}
"""The control tokens of a context prefix, by technique."""
UNKNOWN_PREFIX_PATTERN = "[rfbma]*"
"""The control tokens of a context prefix of any other technique."""
MAX_CUT_BYTES = 3
"""Bytes of a character that may remain where a window begins inside it: UTF-8 has at most 4 bytes per character."""
FILES_WITH_TEXT = ("drops.jsonl", "imports.jsonl", "signatures.jsonl", "dataset_metadata.json", "manifest.json")
"""Files besides the rows that hold words from the repository."""


class RowsCheck(Check):
    """Reports each row whose keys, types or place are wrong. The figure is the number of rows."""

    name = "rows"
    promise = "Every row has all metadata keys, each of the right type; seq_id is its line in the file."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        self._valid_shapes: set[tuple[str | type, ...]] = set()

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Check keys and types, and compare the metadata with the row's place."""
        for row in block.rows:
            for problem in self._shape_problems(row) or _place_problems(row, split, block.first_seq_id):
                yield self.row_finding(split, row, problem)

    def finish(self) -> None:
        """Set the figure."""
        self.figure = f"{self.context.row_counts.total():,} rows"

    def _shape_problems(self, row: BulkRow) -> list[str]:
        """What is wrong with the keys and types of a row."""
        metadata = row.metadata
        if not isinstance(cast("Any", metadata), dict):
            return ["metadata is not an object"]
        shape = (*metadata, *map(type, metadata.values()))
        if shape in self._valid_shapes:
            return _span_problems(metadata)
        expected = REQUIRED_KEYS | {key: kind for key, kind in OPTIONAL_KEYS.items() if key in metadata}
        wrong_keys = [key for key, kind in expected.items() if not _has_type(metadata.get(key), kind)]
        if not wrong_keys and len(self._valid_shapes) < MAX_VALID_SHAPES:
            self._valid_shapes.add(shape)
        problems = [f"{key} is {metadata[key]!r}" if key in metadata else f"no {key}" for key in wrong_keys]
        return problems or _span_problems(metadata)


def _span_problems(metadata: Mapping[str, Any]) -> list[str]:
    """What is wrong with the spans of a row, which are pairs of numbers: `hole` is one, `scored` any number."""
    problems: list[str] = []
    for key in ("hole", "scored"):
        edges: list[Any] = metadata.get(key, [])
        is_complete = key not in metadata or (len(edges) == 2 if key == "hole" else len(edges) % 2 == 0)
        if not is_complete or not all(type(edge) is int for edge in edges):
            problems.append(f"{key} is {edges!r}")
    return problems


class LengthsCheck(Check):
    """Reports each row that is too long, or has wrong padding or labels. The figure is the number of tokens."""

    name = "lengths"
    promise = "Every row has exactly window_size tokens: length tokens of the vocabulary, then padding."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        tokenizer = context.samples.tokenizer
        self._padding_bytes = np.uint32(tokenizer.pad_id).tobytes()
        self._vocab_size = tokenizer.vocab_size
        self._has_labels = context.recipe.write.labels
        self._token_count = 0

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Check the tokens and the labels of each row."""
        for row, metadata in zip(block.rows, block.metadata, strict=True):
            self._token_count += metadata["length"]
            problems = list(self._length_problems(row))
            for problem in problems or (_label_problems(row) if self._has_labels else []):
                yield self.row_finding(split, row, problem)

    def finish(self) -> Iterator[Finding]:
        """Compare the totals with the metadata."""
        average = round(self._token_count / max(1, self.context.row_counts.total()), 1)
        counted = {
            "total_tokens": self._token_count, "avg_tokens_per_sequence": average, "vocab_size": self._vocab_size
        }  # fmt: skip
        yield from self.metadata_findings(counted, "{key} is {actual}, but {expected} were counted")
        self.figure = f"{self._token_count:,} tokens of a vocabulary of {self._vocab_size:,}"

    def _length_problems(self, row: BulkRow) -> Iterator[str]:
        ids, length, size = row.token_ids, row.metadata["length"], row.metadata["window_size"]
        if len(ids) != size:
            yield f"{len(ids)} tokens in a window of {size}"
        if not 0 < length <= size:
            yield f"length {length} in a window of {size}"
        elif length < len(ids) and ids[length:].tobytes() != self._padding_bytes * (len(ids) - length):
            yield f"something else than padding after token {length}"
        if row.max_token >= self._vocab_size:
            yield f"token {row.max_token} of a vocabulary of {self._vocab_size}"
        if not 0 <= row.context_length < max(1, length):
            yield f"a context of {row.context_length} tokens in a row of {length}"


class ControlsCheck(Check):
    """Reports each row with a control token too many or too few. The figure is the number of rows that have any.

    A row ends with the end-of-text token if its sample ends there. A masked row has the tokens of fill-in-the-middle
    around its parts, in the order prefix, suffix, middle. A context prefix has the control tokens of its technique.
    Control tokens that the tokenizer lacks are not expected.
    """

    name = "controls"
    promise = "Control tokens such as <fim_prefix> separate the parts of a row and never occur inside a text."

    def __init__(self, context: CheckContext) -> None:
        super().__init__(context)
        tokenizer = self._tokenizer = context.samples.tokenizer
        # A tokenizer that is not byte-level has a control token for unknown text, which may be anywhere.
        letters = dict.fromkeys(tokenizer.control_tokens, "?") if tokenizer.token_byte_counts is not None else {}
        missing_letters = ""
        for letter, control_token in CONTROL_LETTERS.items():
            ids = tokenizer.control_token_ids(control_token)
            if len(ids) == 1 and ids[0] in tokenizer.control_tokens:
                letters[ids[0]] = letter
            else:
                missing_letters += letter
        letters |= dict(zip(tokenizer.fim_ids or (), "PMS", strict=False))
        letters |= {tokenizer.pad_id: "_", tokenizer.end_id: "."}
        self._letters = letters
        """Token id → the letter that stands for it."""
        self._lowest_id = np.uint32(min(letters))
        self._id_range = np.uint32(max(letters)) - self._lowest_id
        self._is_control = np.zeros(tokenizer.vocab_size + 1, dtype=bool)  # the last entry is for ids out of range
        self._is_control[list(letters)] = True
        patterns = PREFIX_PATTERNS.items()
        self._prefix_patterns = {key: without_letters(pattern, missing_letters) for key, pattern in patterns}
        self._rows_with_controls = 0

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Find the control tokens of all rows at once, then compare those of each row with its layout."""
        # Control tokens have neighbouring ids in most tokenizers, so a range test leaves few candidates. It is one
        # comparison, because unsigned numbers below `_lowest_id` wrap around: 3 - 5 is 2**32 - 2.
        positions = np.flatnonzero(block.token_ids - self._lowest_id <= self._id_range)
        positions = positions[self._is_control.take(block.token_ids[positions], mode="clip")]
        row_starts = block.offsets[:-1]
        lengths = [len(row.added.tokens) for row in block.rows]
        # Padding is a control token, too, so only what stands before it becomes Python numbers. For example, with
        # positions [2, 5, 9] and a row of tokens 4 to 8, the edges are (1, 2): `positions[1:2]` lie in the row.
        edges = np.searchsorted(positions, np.column_stack((row_starts, row_starts + lengths)))
        bounds = row_starts.tolist(), edges.tolist()
        for row, length, start, (first, last) in zip(block.rows, lengths, *bounds, strict=True):
            if first == last and _expects_no_control(row):
                continue
            row_positions: list[int] = positions[first:last].tolist()
            found = [(position - start, self._letters[int(block.token_ids[position])]) for position in row_positions]
            self._rows_with_controls += bool(found)
            if length and (problem := self._layout_problem(row, length, found)):
                yield self.row_finding(split, row, problem)

    def finish(self) -> None:
        """Set the figure."""
        row_count = self.context.row_counts.total()
        self.figure = f"{self._rows_with_controls:,} of {row_count:,} rows have control tokens"

    def _layout_problem(self, row: BulkRow, length: int, found: list[tuple[int, str]]) -> str:
        """Compare the control tokens of a row, by position and letter, with its layout; "" if they are right."""
        metadata, prefix_length = row.metadata, row.context_length
        if hole := metadata.get("hole"):
            start, stop = hole
            expected = [(0, "P"), (1 + start, "S"), (length - 2 - (stop - start), "M"), (length - 1, ".")]
        else:
            technique = metadata["augmentation_type"]
            prefix = "".join(letter for position, letter in found if position < prefix_length)
            pattern = self._prefix_patterns.get(technique, UNKNOWN_PREFIX_PATTERN)
            if prefix_length and not re.fullmatch(pattern, prefix):
                return f"the head of a {technique} has the control tokens {self._spell(prefix)}"
            found = [(position, letter) for position, letter in found if position >= prefix_length]
            is_last = metadata["chunk_index"] + 1 == metadata["total_chunks"]
            expected = [(length - 1, ".")] if is_last else []
        if found == expected:
            return ""
        for position, letter in found:
            if (position, letter) not in expected:
                return f"token {position} is the control token {self._spell(letter)}"
        position, letter = next(pair for pair in expected if pair not in found)
        return f"token {position} is not the control token {self._spell(letter)}"

    def _spell(self, letters: str) -> str:
        """The names of the control tokens that letters stand for."""
        controls: Any = self._tokenizer.control_tokens
        names = {letter: controls.get(token, str(token)) for token, letter in self._letters.items()}
        return " ".join(names.get(letter, letter) for letter in letters) or "none"


class HeadersCheck(Check):
    """Reports each file as it is that has no header or a wrong one. The figure is the number of files with a header."""

    name = "headers"
    promise = "Every window of an unchanged file starts with the recipe's header: repository name and path."

    def finish(self) -> Iterator[Finding]:
        """Compare the context prefix of each file, which all its windows share."""
        repository, tokenizer = self.context.recipe.window.header, self.samples.tokenizer
        count = 0
        for sample in self.samples.by_id.values():
            if sample.metadata["augmentation_type"] != BASE:
                continue
            expected: list[int] = []
            if repository is not None:
                path = parse_printable_path(path_in_repository(sample.metadata))
                name = sample.metadata["repository"] if repository == "auto" else repository
                for control_token, text in header_parts(name, path):
                    expected += [*tokenizer.control_token_ids(control_token), *tokenizer.encode([text])[0].tolist()]
            if sample.context_prefix.tolist() != expected:
                found = tokenizer.decode(sample.context_prefix).decode("utf-8", "replace")
                yield self.sample_finding(sample, f"its header is {found!r}")
            count += bool(expected)
        self.figure = f"{count:,} files have a header"


class TextsCheck(Check):
    """Reports rows that disagree with other rows of their sample, and samples whose text is not valid.

    Windows overlap, so a shifted or changed token is seen where two rows disagree. Text is UTF-8 without NUL; half a
    character where a window begins or ends is no problem. The figure is the amount of text, each token counted once.
    """

    name = "texts"
    promise = "Overlapping windows of a text have the same tokens in the overlap, and all tokens decode to text."

    def check_block(self, split: Split, block: RowBlock) -> Iterator[Finding]:
        """Report rows that do not fit into their sample."""
        for row in block.rows:
            if row.added.problem:
                yield self.row_finding(split, row, row.added.problem)

    def finish(self) -> Iterator[Finding]:
        """Decode all samples."""
        size = 0
        for sample in self.samples.by_id.values():
            head, runs = self.samples.prefix_and_runs(sample)
            for run in (TextRun(0, head, has_end=True), *runs):
                size += len(run.text)
                if problem := _text_problem(run):
                    yield self.sample_finding(sample, problem)
        self.figure = f"{len(self.samples.by_id):,} texts of {size / 1e6:,.1f} MB"


class SecretsCheck(Check):
    """Reports each text with a secret, by its first row or by its line. The figure is the amount of text.

    Rows overlap, so samples are searched instead, where each token is there once: context prefix, text, and the commit
    message in the metadata. Findings name the kind of a secret and never the secret.
    """

    name = "secrets"
    promise = "No file of the dataset contains an API key, an access token or a password."

    def finish(self) -> Iterator[Finding]:
        """Search all texts."""
        if self.context.recipe.read.secrets == "off":
            self.skip_reason = "the recipe leaves secrets (read.secrets: off)"
            return
        redaction_count = byte_count = 0
        for sample in self.samples.by_id.values():
            message = str(sample.metadata.get("commit_message", "")).encode()
            texts = [self.samples.prefix_and_runs(sample)[0], *self.samples.run_texts(sample), message]
            kinds: Counter[str] = Counter()
            for text in texts:
                byte_count += len(text)
                kinds += redact(text).counts
                redaction_count += len(REDACTED_MARK.findall(text))
            if kinds:
                yield self.sample_finding(sample, _format_kinds(kinds))
        for place, text in chain(self._parquet_texts(), self._file_texts()):
            byte_count += len(text)
            if kinds := redact(text).counts:
                yield self.finding(place, _format_kinds(kinds))
        self.figure = f"{byte_count / 1e6:,.1f} MB of text, {redaction_count:,} secrets redacted"

    def _parquet_texts(self) -> Iterator[tuple[str, bytes]]:
        """Each text of the columns that Parquet files have for other programs, with the place of its first row."""
        seen_digests: set[bytes] = set()
        for split in READING_ORDER:
            for number, values in enumerate(self.dataset.compatibility_columns(split)):
                for text in (str(value).encode() for value in values.values()):
                    digest = blake2b(text, digest_size=16).digest()
                    if digest not in seen_digests:
                        seen_digests.add(digest)
                        yield self.dataset.row_location(split, number), text

    def _file_texts(self) -> Iterator[tuple[str, bytes]]:
        """The values in other files, with their places: line by line in JSONL, one by one in JSON."""
        for name in FILES_WITH_TEXT:
            path = self.dataset.folder / name
            try:
                if path.suffix == ".json":
                    yield from ((f"{name}:1", text.encode()) for text in _json_texts(orjson.loads(path.read_bytes())))
                    continue
                with path.open("rb") as lines:
                    for number, line in enumerate(lines, 1):
                        yield f"{name}:{number}", "\n".join(_json_texts(orjson.loads(line))).encode()
            except orjson.JSONDecodeError as error:
                raise DatasetError(f"'{path}' is damaged: {error}", where=name) from error
            except OSError as error:
                raise DatasetError(f"'{path}' cannot be read: {error.strerror}", where=name) from error


def _json_texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value, but no keys: those are ours."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            pending += cast("list[Any]", item)
        elif isinstance(item, dict):
            pending += cast("dict[str, Any]", item).values()


def _format_kinds(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} × {kind}" for kind, count in sorted(kinds.items()))


def _has_type(value: Any, kind: type | tuple[type, ...]) -> bool:
    """Like `isinstance`, but a bool is not a number."""
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _place_problems(row: BulkRow, split: str, first_seq_id: int) -> Iterator[str]:
    """What is wrong with the metadata that say where a row stands, and with the form of its tokens."""
    metadata = row.metadata
    if metadata["seq_id"] != row.index - first_seq_id:
        yield f"seq_id is {metadata['seq_id']}, not {row.index - first_seq_id}"
    if metadata["split"] != split:
        yield f"split is {metadata['split']!r}"
    if not 0 <= metadata["chunk_index"] < metadata["total_chunks"]:
        yield f"chunk {metadata['chunk_index']} of {metadata['total_chunks']}"
    if row.token_ids is NO_TOKEN_IDS:
        yield "tokens are not a list of token ids"


def _label_problems(row: BulkRow) -> Iterator[str]:
    """What is wrong with the columns that trainers read."""
    tokens: list[int] = row.token_ids.tolist()
    length = row.metadata["length"]
    padding_length = len(tokens) - length
    labels = [IGNORED_LABEL] * len(tokens)
    for start, stop in scored_spans(row.metadata):
        labels[start:stop] = tokens[start:stop]
    expected: dict[str, Any] = {
        "input_ids": tokens,
        "attention_mask": [1] * length + [0] * padding_length,
        "labels": labels,
    }
    for name, values in expected.items():
        if row.labels.get(name) != values:
            yield f"{name} are not those of the tokens"


def _expects_no_control(row: BulkRow) -> bool:
    """Whether a row is a window from the middle of a plain text."""
    metadata = row.metadata
    is_last = metadata["chunk_index"] + 1 >= metadata["total_chunks"]
    return not is_last and "context" not in metadata and "hole" not in metadata


def without_letters(pattern: str, letters: str) -> str:
    """Remove the letters of control tokens that a tokenizer lacks from a pattern for context prefixes.

    >>> without_letters("f(bma)+", "f")
    '(bma)+'
    """
    short = "".join(letter for letter in pattern if letter not in letters)
    return short.replace("()+", "").replace("++", "+").lstrip("+") if short != pattern else pattern


def _text_problem(run: TextRun) -> str:
    """What is wrong with known text of a sample, or ""."""
    text, start = run.text, 0
    if b"\0" in text:
        return "its text has a NUL"
    # A run that is not at the sample's start may begin with the rest of a character: bytes 0b10xxxxxx.
    while run.start and start < min(MAX_CUT_BYTES, len(text)) and text[start] & 0xC0 == 0x80:
        start += 1
    try:
        codecs.getincrementaldecoder("utf-8")().decode(text[start:], run.has_end)
    except UnicodeDecodeError as error:
        return f"its text is not UTF-8: {error.reason}"
    return ""
