"""Bases: models that have read other repositories, from which training can start. Each folder here is one.

A base folder has weights, configuration and tokenizer as transformers reads them, and what is known about its training:

    base.json       the record: sources, tokens, settings of the training, digest of the weights
    blobs.npy       which files it has read; see `bases.blobs`
    README.md       the card
    sources.txt, recipe.yaml, training.yaml    what `make base` makes it from

A base folder need not be part of the package: a path works wherever a name does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from git_starcoder import registry
from git_starcoder.bases.blobs import BlobFilter
from git_starcoder.errors import DatasetError, UsageError
from git_starcoder.user_paths import expand_user

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BASE_FILE = "base.json"
BLOBS_FILE = "blobs.npy"
BASE_SCHEMA = "git-starcoder/base/1"
RECORD_KEYS: dict[str, type | tuple[type, ...]] = {
    "name": str, "about": str, "date": str, "parameters": int, "window": int, "weights": str, "steps": int,
    "tokens": int, "held_out": (float, int, NoneType), "blobs": dict, "sources": list,
}  # fmt: skip
"""Keys that every record has, with their types."""
FILTER_KEYS = {"files": int, "false_positive_rate": (float, int)}
"""Keys of `blobs` in the record, with their types."""
NO_BASE = "none"
"""What a command takes in place of the name of a base to train from scratch."""
NO_SHIPPED_BASE = "git-starcoder comes with no base"


class BaseSource(NamedTuple):
    """A repository that a base was trained on. The fields are keys of `base.json`."""

    repository: str
    """Its name in the dataset."""
    url: str
    commit: str
    date: str
    """The date of the commit, in ISO 8601."""
    licence: str
    """SPDX identifier."""
    files: int
    bytes: int
    """Bytes of text of the files that the base has read."""


SOURCE_KEYS = {key: int if key in {"files", "bytes"} else str for key in BaseSource._fields}
"""Keys of a source in the record, with their types."""


@dataclass(frozen=True, slots=True)
class Base:
    """A base folder and its record."""

    name: str
    """The name of a base of the package, or the path of a folder, as the user gave it."""
    folder: Path
    record: dict[str, Any]
    """The content of `base.json`."""

    @classmethod
    def open(cls, folder: Path, name: str = "") -> Base:
        """Read the record in a folder.

        Raises:
            DatasetError: The record cannot be read, or has another format.
        """
        try:
            record = json.loads((folder / BASE_FILE).read_text(encoding="utf-8"))
            schema = record["schema"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            what = f"the base in '{folder}' is damaged: {' '.join(str(error).split())[:200]}"
            raise DatasetError(what, where=BASE_FILE, hint="install git-starcoder again") from error
        if schema != BASE_SCHEMA:
            raise DatasetError(f"the base in '{folder}' has another format", where=BASE_FILE, hint=f"not {BASE_SCHEMA}")
        if problem := _record_problem(record):
            what = f"the base in '{folder}' is damaged: {problem}"
            raise DatasetError(what, where=BASE_FILE, hint="install git-starcoder again")
        return cls(name or str(record["name"]), folder, cast("dict[str, Any]", record))

    @property
    def about(self) -> str:
        """Its description in one line."""
        return str(self.record["about"])

    @property
    def window(self) -> int:
        """Tokens of the rows that it was trained on: rows of a dataset for it should not be longer."""
        return int(self.record["window"])

    @property
    def weights_digest(self) -> str:
        """SHA-256 of `model.safetensors`."""
        return str(self.record["weights"])

    @property
    def sources(self) -> list[BaseSource]:
        """The repositories that it was trained on."""
        return [BaseSource(**{key: source[key] for key in BaseSource._fields}) for source in self.record["sources"]]

    def read_blobs(self) -> BlobFilter:
        """The filter of the files that it has read."""
        return BlobFilter.load(self.folder / BLOBS_FILE)


def _record_problem(record: dict[str, Any]) -> str:
    """What is wrong with the keys and types of a record, or an empty text."""
    problem = _first_problem(record, RECORD_KEYS) or _first_problem(record["blobs"], FILTER_KEYS)
    sources: list[Any] = [] if problem else record["sources"]
    return problem or next(filter(None, (_first_problem(source, SOURCE_KEYS) for source in sources)), "")


def _first_problem(values: Any, kinds: Mapping[str, type | tuple[type, ...]]) -> str:
    if not isinstance(values, dict):
        return "a source is not an object"
    for key, kind in kinds.items():
        if key not in values:
            return f"it has no '{key}'"
        if not isinstance(values[key], kind):
            return f"'{key}' is {str(cast('Any', values[key]))[:40]!r}"
    return ""


def find_base(name: str) -> Base | None:
    """The base of the package that has this name, or the one in the folder of this path; None if it is no bundled base.

    Raises:
        DatasetError: The base is damaged.
    """
    if folder := registry.base_folder(name):
        return Base.open(folder, name)
    folder = expand_user(name)
    return Base.open(folder, name) if (folder / BASE_FILE).is_file() else None


def require_base(name: str, where: str, advice: str = "") -> Base:
    """The base that `find_base` finds. `where` and `advice` are for the error: what gave the name, and what else to do.

    Raises:
        UsageError: There is no such base.
        DatasetError: The base is damaged.
    """
    if base := find_base(name):
        return base
    known = registry.names("bases")
    hint = registry.suggest(name, known) if known else f"{NO_SHIPPED_BASE}{advice}"
    raise UsageError(f"base '{name}' is not known", where=where, hint=hint)


def default_base() -> Base | None:
    """The base that `git starcoder run` starts from if none is named: the first by name; None if there is none."""
    names = registry.names("bases")
    return find_base(names[0]) if names else None
