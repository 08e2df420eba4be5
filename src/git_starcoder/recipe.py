"""Defines recipes: everything that determines a dataset's bytes, one section per step of the pipeline.

A recipe is YAML 1.2. Keys that are left out have the default written here. `extends: NAME` starts from another recipe
of the registry, or from a file in the same folder. Unknown keys are errors with a suggestion.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping  # noqa: TC003 - read by get_type_hints
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, cast

from msgspec import Meta

from git_starcoder import registry, strict_config, user_paths
from git_starcoder.errors import RecipeError
from git_starcoder.records import printable_path
from git_starcoder.strict_config import InvalidValueError, Off, Places, PositiveFloat, PositiveInt, Share, StrictConfig

MAX_EXTENDED = 16
"""The most recipes that extend one another in a row."""
MAX_COPIES = 16
"""Variations of one file by one augmentation. More would be near-duplicates of each other."""
WindowSize = Annotated[int, Meta(ge=16, le=1_048_576)]
"""Tokens of a row."""
Factor = Annotated[float, Meta(ge=0.05, le=1000), Off(1.0)]
"""A factor of weights. These are written with four decimals, and the product of three factors is at least 0.0001."""
RepositoryName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A name on one line."""


@dataclass(frozen=True, slots=True)
class ReadOptions(StrictConfig):
    """Which files and changes are read."""

    max_bytes: PositiveInt = 1_048_576
    """Files with more bytes are dropped."""
    max_line: PositiveInt = 65_536
    """Files with a longer line are dropped. The unit is bytes."""
    mean_line: PositiveInt = 500
    """Files whose lines are longer on average are dropped as minified. The unit is bytes."""
    changes: Annotated[int, Meta(ge=0, le=1_000_000), Off(0)] = 0
    """Number of file changes that are read from the history, newest first. 0 reads no history."""
    commit_files: PositiveInt = 100
    """Commits that touch more files are skipped, because they usually reformat the code or import a library."""
    secrets: Literal["redact", "drop", "off"] = "redact"
    """`redact` replaces secrets by `REDACTED_<KIND>_<hash>`, `drop` skips files with secrets, `off` leaves them."""


@dataclass(frozen=True, slots=True)
class AnalyseOptions(StrictConfig):
    """Which files are used, once they are parsed."""

    skip: Annotated[tuple[Literal["generated", "vendored"], ...], Off(())] = ("generated", "vendored")
    """Roles that are dropped."""


@dataclass(frozen=True, slots=True)
class SplitOptions(StrictConfig):
    """What is held out, and how leak groups of files are divided among the splits."""

    holdout: Literal["files", "commits", "none"] = "files"
    """`files` holds out groups of files. `commits` holds out what the newest commits added: training sees the
    repository as it was before them. `none` holds out nothing, for a model that you keep."""
    commits: PositiveInt | Literal["auto"] = "auto"
    """Number of newest commits on the main line (first parents) that are held out, if `holdout` is `commits`. `auto`
    takes as many as it needs for the lines that they added to be the shares `val` and `test` of all lines."""
    train: PositiveFloat = 0.85
    """Share of the training split."""
    val: PositiveFloat = 0.10
    """Share of the validation split, on which the loss is measured during training."""
    test: PositiveFloat = 0.05
    """Share of the test split, on which `git starcoder eval` scores the finished model."""
    near: Share = 0.5
    """Files that are at least this similar get the same split. The similarity of two files is the Jaccard similarity of
    token shingles, or the share of one file's shingles that the other file contains."""

    def _check(self) -> None:
        if abs(self.train + self.val + self.test - 1) > 1e-9:
            raise InvalidValueError("train, val and test must add up to 1", ("train", "val", "test"))
        if self.holdout != "commits" and self.commits != "auto":
            raise InvalidValueError("commits can be set only if holdout is commits", ("commits",))


@dataclass(frozen=True, slots=True)
class AugmentationOptions(StrictConfig):
    """How often an augmentation is applied. A plain number sets `share`, and `copies` is then 1."""

    share: Annotated[Share, Off(0.0)] = 0.0
    """Share of the files that the augmentation is applied to."""
    copies: Annotated[int, Meta(ge=1, le=MAX_COPIES)] = 1
    """Number of different variations of each of these files."""


@dataclass(frozen=True, slots=True)
class WindowOptions(StrictConfig):
    """How texts become rows of tokens."""

    size: Annotated[WindowSize | tuple[WindowSize, ...] | Literal["auto", "scales"], Off("auto")] = "auto"
    """Tokens per row: a number, or a list of numbers. `auto` (one size) and `scales` (several sizes) depend on the
    memory of the GPU. With the tokenizer of a base, they have at most as many tokens as the rows of the base."""
    overlap: Annotated[float, Meta(ge=0, lt=1), Off(0.0)] = 0.75
    """Share of a window's tokens that the next window repeats."""
    tokenizer: str = "learn"
    """`learn` trains a byte-level BPE tokenizer on the training split. Any other value is the name of a base (`git
    starcoder base list`), or the folder or the Hugging Face id of a tokenizer."""
    vocab_size: Annotated[int, Meta(ge=512, le=1_000_000)] = 4096
    """Vocabulary size of a learned tokenizer, including special tokens."""
    header: Annotated[RepositoryName | None, Off(None)] = None
    """The name of the repository. It stands before every window of a file as it is, followed by the path of the file.
    `auto` takes the last part of the URL of the remote `origin`. With null, windows have no header."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes in rising order, once `stages.window.resolve_sizes` has replaced `auto` and `scales` by numbers."""
        if isinstance(self.size, str):
            what = f"resolve the recipe first: a window of {self.size!r} has no size"
            raise ValueError(what)  # noqa: TRY004 - a bug of ours
        return (self.size,) if isinstance(self.size, int) else tuple(sorted(self.size))

    @property
    def primary(self) -> int:
        """The middle one of the sizes."""
        return self.sizes[len(self.sizes) // 2]

    def _check(self) -> None:
        if isinstance(self.size, tuple) and (not self.size or len(set(self.size)) < len(self.size)):
            raise InvalidValueError("window sizes need at least one value, all distinct", ("size",))


@dataclass(frozen=True, slots=True)
class DedupOptions(StrictConfig):
    """Which rows and files count as duplicates."""

    exact: Annotated[bool, Off(False)] = True
    """Drop rows with the same tokens."""
    near: Annotated[Share | None, Off(None)] = None
    """Of two rows that are at least this similar, the later one is dropped. The similarity is the Jaccard similarity of
    5-token shingles. null keeps all rows."""
    files: Annotated[Share | None, Off(None)] = None
    """Of two files that are at least this similar, the less important one is dropped, with all its rows. The
    similarity is that of `near`. null keeps all files."""
    embedding: Annotated[str | None, Off(None)] = None
    """Folder or Hugging Face id of a static embedding model, which finds files with a similar meaning. null uses
    none."""
    embedded: Share = 0.95
    """Of two files of a leak group whose embeddings have at least this cosine similarity, the less important one is
    dropped."""


@dataclass(frozen=True, slots=True)
class WeighOptions(StrictConfig):
    """How often a trainer should draw a row, relative to other rows: the product of the factors that apply to the row.

    The age of a row is the number of days from the last change of its file to the newest commit.
    """

    IS_ONE_FEATURE = True

    core: Factor = 1.0
    """Factor of rows from core files."""
    utility: Factor = 1.0
    """Factor of rows from utility files."""
    test: Factor = 1.0
    """Factor of rows from test files."""
    recent: Factor = 1.0
    """Factor of rows that are younger than 60 days."""
    old: Factor = 1.0
    """Factor of rows that are 90 days old or older. Between 60 and 90 days the factor is 1."""
    evolution: Factor = 1.0
    """Factor of rows that show what a commit changed."""


@dataclass(frozen=True, slots=True)
class OrderOptions(StrictConfig):
    """The order of the rows in a split file."""

    by: Annotated[Literal["curriculum", "random"], Off("random")] = "random"
    """`curriculum` sorts rows from easy to hard, in three stages. `random` shuffles them."""


@dataclass(frozen=True, slots=True)
class WriteOptions(StrictConfig):
    """The files of the dataset folder."""

    format: Literal["jsonl", "parquet"] = "jsonl"
    """The format of the split files."""
    copies: bool = False
    """Whether a training row of weight 3 is written three times, for trainers that ignore weights."""
    labels: bool = False
    """Whether rows also have `input_ids`, `attention_mask` and `labels`, the columns that most trainers read."""


@dataclass(frozen=True, slots=True)
class RepositoryOptions(StrictConfig):
    """Which repositories are used, and how much each counts, if the dataset is made from many."""

    weights: Literal["size", "equal", "temperature"] = "size"
    """How often a trainer should draw rows of a repository. `size`: as often as it has rows. `equal`: all repositories
    equally often. `temperature`: in proportion to the number of its rows to the power of 1 / `temperature`. All this is
    a factor of the weights of rows."""
    temperature: Annotated[float, Meta(ge=1)] = 2.0
    """1 is the same as `size`; the higher it is, the more equal repositories are."""
    licenses: tuple[str, ...] = ()
    """SPDX identifiers of licences. Repositories with another licence, or with none, are left out. If the list is
    empty, all are used."""


@dataclass(frozen=True, slots=True)
class Recipe(StrictConfig):
    """Everything that determines a dataset. Two equal recipes on the same commit give the same bytes."""

    name: str = "recipe"
    """Name of the recipe. It does not change the rows."""
    about: str = ""
    """Description of the recipe in one line."""
    seed: int = 0
    """Random seed of the build."""
    read: ReadOptions = field(default_factory=ReadOptions)
    analyse: AnalyseOptions = field(default_factory=AnalyseOptions)
    split: SplitOptions = field(default_factory=SplitOptions)
    augment: Mapping[str, AugmentationOptions] = field(default_factory=dict[str, AugmentationOptions])
    """The options of each augmentation, by its name."""
    window: WindowOptions = field(default_factory=WindowOptions)
    dedup: DedupOptions = field(default_factory=DedupOptions)
    weigh: WeighOptions = field(default_factory=WeighOptions)
    order: OrderOptions = field(default_factory=OrderOptions)
    write: WriteOptions = field(default_factory=WriteOptions)
    repos: RepositoryOptions = field(default_factory=RepositoryOptions)

    @classmethod
    def load(cls, name: str | Path = registry.DEFAULT_RECIPE, overrides: tuple[str, ...] = ()) -> Recipe:
        """Load a recipe of the registry or of a YAML file, with overrides such as `window.size=2048` on top.

        Raises:
            RecipeError: there is no such recipe, it is not YAML, a key is unknown, or a value is invalid.
        """
        values = _load_values(str(name))
        places = Places(f"recipe {name}")
        for override in overrides:
            keys, value = strict_config.parse_override(override, "window.size=2048", 2, RecipeError)
            target = values
            if len(keys) > 1:
                section = values.get(keys[0])
                target = values[keys[0]] = dict(cast("dict[str, Any]", section)) if isinstance(section, dict) else {}
            target[keys[-1]] = value
            places.of_keys[".".join(keys)] = f"--set {'.'.join(keys)}"
        if "augment" in values:
            values["augment"] = _normalise_augmentations(values["augment"], places)
        return strict_config.from_values(cls, values, places, RecipeError)

    def to_yaml(self) -> str:
        """The complete recipe as YAML, with every default written out."""
        return strict_config.dump(_as_plain_values(self))

    def fingerprint(self) -> str:
        """A hash of everything in the recipe except its name and description."""
        values = _as_plain_values(self)
        del values["name"], values["about"]
        return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def _as_plain_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe as dictionaries and lists, as YAML and JSON have them.

    A header that is null, a section `repos` with defaults, and how to hold out if that is files, are left out: datasets
    without them keep the bytes that they had before there were any.
    """
    values: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    if recipe.split.holdout != "commits":
        del values["split"]["commits"]
    if recipe.split.holdout == "files":
        del values["split"]["holdout"]
    if recipe.window.header is None:
        del values["window"]["header"]
    if recipe.repos == RepositoryOptions():
        del values["repos"]
    return values


def _load_values(
    name: str, chain: Mapping[str, str] = MappingProxyType({}), folder: Path | None = None
) -> dict[str, Any]:
    """The values of a recipe, merged over those of the recipe that it extends.

    `chain` has the recipes that led here by `extends`: the name of each by its real path, or by its name if it is one
    of ours. A file is looked for in `folder`.
    """
    title = f"recipe '{name}'"
    known = registry.names("recipes")
    path = (folder or Path()) / user_paths.expand_user(name)
    place = name if name in known else os.path.realpath(path)
    if place in chain:
        raise RecipeError(f"recipe '{name}' extends itself", where=" → ".join((*chain.values(), name)))
    if len(chain) > MAX_EXTENDED:
        raise RecipeError(f"more than {MAX_EXTENDED} recipes extend one another", where=next(iter(chain.values())))
    if name in known:
        own = strict_config.parse_mapping(registry.read("recipes", name), title, name, RecipeError)
    elif path.suffix in {".yaml", ".yml"} and path.is_file():
        own = strict_config.read_mapping(path, title, str(path), RecipeError)
    else:
        hint = f"{registry.suggest(name, known)} `git starcoder recipe list` shows all"
        where = f"{[*chain.values()][-1]}, extends" if chain else "--recipe"
        raise RecipeError(f"recipe '{name}' is not known", where=where, hint=hint)
    own.setdefault("name", printable_path(Path(name).stem))
    try:
        parent = strict_config.check_value("extends", own.pop("extends", None), str | None)
    except strict_config.InvalidValueError as error:
        raise RecipeError(error.what, where=f"{name}, extends", hint="give the name or the path of a recipe") from error
    if parent is None:
        return own
    merged = _load_values(parent, {**chain, place: name}, None if name in known else path.parent)
    for key, value in own.items():
        below = merged.get(key)
        both = isinstance(value, dict) and isinstance(below, dict)
        merged[key] = cast("dict[str, Any]", below) | value if both else value
    return merged


def _normalise_augmentations(values: Any, places: Places) -> Any:
    """The section `augment` with plain numbers as shares, in the order of the registry, so that order means nothing."""
    if not isinstance(values, dict):
        return values
    section = cast("dict[str, Any]", values)
    known = registry.names("augmentations")
    for key in section:
        if key not in known:
            where = places.of_keys.get(f"augment.{key}") or places.locate(("augment",))
            raise RecipeError(f"unknown augmentation '{key}'", where=where, hint=registry.suggest(str(key), known))
    return {
        key: section[key] if isinstance(section[key], dict) else {"share": section[key]}
        for key in known
        if key in section
    }
