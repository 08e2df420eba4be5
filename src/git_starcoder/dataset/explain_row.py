"""Explains one row: its text and loss mask, where it is in its file, and how its weight came about."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.dataset.samples import UNKNOWN_TOKEN, JoinedWindows
from git_starcoder.errors import DatasetError
from git_starcoder.row_layout import BASE, CURRICULUM_STAGES, loss_token_count, scored_spans
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.weight_rules import age_factor, role_factor

if TYPE_CHECKING:
    from git_starcoder.dataset.folder import Dataset
    from git_starcoder.dataset.read_rows import Row
    from git_starcoder.dataset.show import RowPosition
    from git_starcoder.recipe import Recipe
    from git_starcoder.text.tokenizer import Tokenizer


class RowSegment(NamedTuple):
    """A part of a row's text. The fields are keys in the output of `show --json`."""

    text: str
    counts: bool
    """Whether it is in the loss."""
    control: bool = False
    """Whether it is a control token, as it is spelled."""


class FileExtent(NamedTuple):
    """Which part of its file a row is. The file has LF line ends and no byte order mark.

    The fields are keys in the output of `show --json`.
    """

    first_byte: int
    last_byte: int
    """Exclusive."""
    first_line: int
    """Counted from 1."""
    last_line: int


class RowExplanation(NamedTuple):
    """All that can be said about a row."""

    row: Row
    location: str
    """File and line."""
    row_id: str
    facts: dict[str, str]
    """Sentences for a person, each with a heading."""
    weight_factors: dict[str, float]
    """The weight is their product."""
    extent: FileExtent | None
    segments: list[RowSegment]


def explain_row(dataset: Dataset, position: RowPosition) -> RowExplanation:
    """Explain the row at a position. A `DatasetError` says that there is none, or that the dataset is damaged."""
    row = next(dataset.select(position.split, lambda index, _: index == position.row_index), None)
    if row is None:
        hint = f"the last one is {position.split}:{dataset.count(position.split) - 1}; rows are numbered from 0"
        what = f"there is no row {position.split}:{position.row_index}"
        raise DatasetError(what, where=str(dataset.folder), hint=hint)
    recipe = dataset.load_recipe()
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    location = dataset.row_location(*position)
    try:
        factors = weight_factors(recipe, row.metadata, dataset.repository_factors())
        extent = _file_extent(dataset, position, row, tokenizer)
        facts = _facts(row, factors, extent, position, dataset.count(position.split))
        row_id = str(row.metadata["row_id"])
        return RowExplanation(row, location, row_id, facts, factors, extent, split_row(row, tokenizer))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise DatasetError(f"the row is damaged: {error}", where=location) from error


def split_row(row: Row, tokenizer: Tokenizer) -> list[RowSegment]:
    """Return the text of a row without padding, cut where the loss begins and at control tokens."""
    tokens = np.array(row.tokens[: row.metadata["length"]], dtype=np.int64)
    controls = [index for index, token in enumerate(tokens.tolist()) if token in tokenizer.control_tokens]
    edges = {min(edge, len(tokens)) for span in scored_spans(row.metadata) for edge in span}
    cuts = sorted({0, len(tokens), *edges, *controls, *(index + 1 for index in controls)})
    segments: list[RowSegment] = []
    for start, stop in pairwise(cuts):
        text = tokenizer.decode(tokens[start:stop]).decode("utf-8", "replace")
        counts = any(first <= start < last for first, last in scored_spans(row.metadata))
        segments.append(RowSegment(text, counts, start in controls))
    return segments


def weight_factors(recipe: Recipe, metadata: dict[str, Any], repository_factors: dict[str, float]) -> dict[str, float]:
    """Return the factors whose product is the weight of a row; that of the repository if there are many."""
    options = recipe.weigh
    factors = {
        "role": role_factor(metadata["role"], options.core, options.utility, options.test),
        "age": age_factor(metadata["age_days"], options.recent, options.old),
        "evolution": options.evolution if metadata.get("is_evolution") else 1.0,
    }
    return factors | {"repository": repository_factors[metadata["repository"]]} if repository_factors else factors


def _facts(
    row: Row, factors: dict[str, float], extent: FileExtent | None, position: RowPosition, row_count: int
) -> dict[str, str]:
    metadata = row.metadata
    length, size = metadata["length"], metadata["window_size"]
    part = ", lines {2:,}-{3:,}, bytes {0:,}-{1:,}".format(*extent) if extent else ""
    made_by = metadata["augmentation_type"] + (f" ({metadata['kind']})" if metadata.get("kind") else "")
    product = " × ".join(f"{name} {factor:g}" for name, factor in factors.items())
    weight = metadata.get("weight_of_row", metadata["weight"])
    copies = f", copy {metadata['copy'] + 1} of {metadata['copies']}" if "copies" in metadata else ""
    stage = f"stage {metadata['stage']} of {CURRICULUM_STAGES}, " if "stage" in metadata else ""
    commit = metadata["commit"] or "unknown"
    facts = {
        "file": f"{metadata['source_file']}{part}",
        "commit": f"{commit}, {metadata['age_days']} days before the newest; blob {metadata['blob']}",
        "made by": f"{made_by}, window {metadata['chunk_index'] + 1} of {metadata['total_chunks']}, "
        f"from token {metadata['token_start']:,}",
        "tokens": f"{size:,}, {size - length:,} of them padding; {loss_token_count(metadata):,} count for the loss",
        "weight": f"{weight:g} = {product}{copies}",
        "role": f"{metadata['role']}, {metadata['language']}",
        "order": f"{stage}complexity {metadata['complexity']:g}, row {position.row_index + 1:,} of {row_count:,}",
        "split": f"{position.split}, group {metadata['group']}, sample {metadata['sample']}",
    }
    if metadata.get("commit_message"):
        facts["message"] = metadata["commit_message"]
    return facts


def _file_extent(dataset: Dataset, position: RowPosition, row: Row, tokenizer: Tokenizer) -> FileExtent | None:
    """Return where the text of a `base` row stands in its file; None if rows do not show all text before it."""
    metadata = row.metadata
    if metadata["augmentation_type"] != BASE or tokenizer.token_byte_counts is None:
        return None
    sample, start = metadata["sample"], metadata["token_start"]

    def is_earlier(_: int, other: dict[str, Any]) -> bool:
        return other["sample"] == sample and other["token_start"] < start

    earlier = JoinedWindows()
    for other in dataset.select(position.split, is_earlier) if start else ():
        earlier.join(other.metadata["token_start"], np.array(_text_tokens(other), dtype=np.int32))
    before = earlier.tokens[: min(start, earlier.length)]
    if len(before) < start or UNKNOWN_TOKEN in before:
        return None
    text = tokenizer.decode(before)
    tokens = [token for token in _text_tokens(row) if token not in tokenizer.control_tokens]
    own = tokenizer.decode(np.array(tokens, dtype=np.int64))
    first_line = text.count(b"\n") + 1
    last_line = first_line + own.removesuffix(b"\n").count(b"\n")
    return FileExtent(len(text), len(text) + len(own), first_line, last_line)


def _text_tokens(row: Row) -> list[int]:
    """The tokens of a row that are from its file: those behind the header, without padding."""
    return row.tokens[row.context_length : row.metadata["length"]]
