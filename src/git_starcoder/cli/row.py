"""A row taken apart: what of it counts for the loss, where in its file it stands, and what its weight is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from git_starcoder.errors import DatasetError
from git_starcoder.layout import age_factor
from git_starcoder.recipe import Recipe
from git_starcoder.stages import weigh
from git_starcoder.stages.order import STAGE_COUNT
from git_starcoder.text import tokenizer as tokenizers
from git_starcoder.text.pieces import Piece, pieces

if TYPE_CHECKING:
    from git_starcoder.cli.lookup import Place
    from git_starcoder.dataset import Dataset, Row
    from git_starcoder.text.tokenizer import Tokenizer


class Extent(NamedTuple):
    """Which part of its file a row is; of the text with LF line ends and without a byte order mark."""

    first_byte: int
    last_byte: int
    """Exclusive."""
    first_line: int
    """Counted from 1."""
    last_line: int


class Shown(NamedTuple):
    """All there is to say of a row."""

    row: Row
    where: str
    """File and line."""
    id: str
    facts: dict[str, str]
    """For a person, by a word."""
    factors: dict[str, float]
    """The weight is their product."""
    extent: Extent | None
    pieces: list[Piece]


def describe(dataset: Dataset, place: Place) -> Shown:
    """Take a row apart.

    Raises:
        DatasetError: there is no such row, or the dataset is damaged.
    """
    row = next(dataset.select(place.split, lambda number, _: number == place.number), None)
    if row is None:
        hint = f"the last one is {place.split}:{dataset.count(place.split) - 1}; they count from 0"
        raise DatasetError(f"there is no row {place.split}:{place.number}", where=str(dataset.folder), hint=hint)
    recipe = Recipe.load(dataset.folder / "recipe.yaml")
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    where = dataset.place(*place)
    try:
        factors = factors_of(recipe, row.metadata)
        extent = _extent(dataset, place, row, tokenizer)
        facts = _facts(row, factors, extent, dataset, place)
        return Shown(row, where, str(row.metadata["row_id"]), facts, factors, extent, pieces(row, tokenizer))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise DatasetError(f"the row is damaged: {error}", where=where) from error


def factors_of(recipe: Recipe, about: dict[str, Any]) -> dict[str, float]:
    """What the weight of a row is the product of."""
    return {
        "role": weigh.role_factor(recipe.weigh, about["role"]),
        "age": age_factor(about["age_days"], recipe.weigh.recent, recipe.weigh.old),
        "evolution": recipe.weigh.evolution if about.get("is_evolution") else 1.0,
    }


def _facts(
    row: Row, factors: dict[str, float], extent: Extent | None, dataset: Dataset, place: Place
) -> dict[str, str]:
    about = row.metadata
    length, size = about["length"], about["window_size"]
    where = (
        f", lines {extent.first_line:,}-{extent.last_line:,}, bytes {extent.first_byte:,}-{extent.last_byte:,}"
        if extent
        else ""
    )
    made_by = f"{about['augmentation_type']}{' (' + about['kind'] + ')' if about.get('kind') else ''}"
    product = " × ".join(f"{name} {factor:g}" for name, factor in factors.items())
    weight = about.get("weight_of_row", about["weight"])
    copies = f", copy {about['copy'] + 1} of {about['copies']}" if "copies" in about else ""
    stage = f"stage {about['stage']} of {STAGE_COUNT}, " if "stage" in about else ""
    rows = dataset.count(place.split)
    facts = {
        "file": f"{about['source_file']}{where}",
        "commit": f"{about['commit'] or 'unknown'}, {about['age_days']} days before the newest; blob {about['blob']}",
        "made by": f"{made_by}, window {about['chunk_index'] + 1} of {about['total_chunks']}, "
        f"from token {about['token_start']:,}",
        "tokens": f"{size:,}, {size - length:,} of them padding; {length - row.uncounted:,} count for the loss",
        "weight": f"{weight:g} = {product}{copies}",
        "role": f"{about['role']}, {about['language']}",
        "order": f"{stage}complexity {about['complexity']:g}, row {place.number + 1:,} of {rows:,}",
        "split": f"{place.split}, group {about['group']}, sample {about['sample']}",
    }
    if about.get("commit_message"):
        facts["message"] = about["commit_message"]
    return facts


def _extent(dataset: Dataset, place: Place, row: Row, tokenizer: Tokenizer) -> Extent | None:
    """Where the text of a `base` row stands in its file, if rows of the dataset hold all that is before it."""
    about = row.metadata
    if about["augmentation_type"] != "base" or tokenizer.token_byte_counts is None:
        return None
    sample, start = about["sample"], about["token_start"]
    before: list[int] = []
    if start:
        same = dataset.select(place.split, lambda _, other: other["sample"] == sample and other["token_start"] < start)
        for other in sorted(same, key=lambda other: other.metadata["token_start"]):
            begin = other.metadata["token_start"]
            if begin > len(before):
                return None
            before += other.tokens[len(before) - begin : other.metadata["length"]]
        if len(before) < start:
            return None
    text = tokenizer.decode(np.array(before[:start], dtype=np.int64))
    own = tokenizer.decode(
        np.array([one for one in row.tokens[: about["length"]] if one not in tokenizer.control_tokens])
    )
    line = text.count(b"\n") + 1
    last = line + own.removesuffix(b"\n").count(b"\n")
    return Extent(len(text), len(text) + len(own), line, last)
