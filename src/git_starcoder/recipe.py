"""Defines recipes: everything that determines a dataset's bytes, one section per step of the pipeline.

A recipe is YAML 1.2. Keys that are left out have the default written here. `extends: NAME` starts from another recipe
of the registry, or from a file in the same folder. Unknown keys are errors with a suggestion.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping  # noqa: TC003 - read by get_type_hints
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from msgspec import Meta

from git_starcoder import registry, strict_config, user_paths
from git_starcoder.errors import RecipeError
from git_starcoder.records import printable_path
from git_starcoder.strict_config import InvalidValueError, Places, PositiveFloat, PositiveInt, Share, StrictConfig

MAX_COPIES = 16
"""Variations of one file by one augmentation. More would be near-duplicates of each other."""
WindowSize = Annotated[int, Meta(ge=16, le=1_048_576)]
"""Tokens of a row."""
RepositoryName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A name on one line."""


@dataclass(frozen=True, slots=True)
class ReadOptions(StrictConfig):
    """Which files and changes are read."""

    max_bytes: PositiveInt = 1_048_576
    """A larger file is skipped."""
    max_line: PositiveInt = 65_536
    """A file with a longer line, in bytes, is skipped."""
    mean_line: PositiveInt = 500
    """A file whose lines are longer on average, in bytes, is skipped as minified."""
    changes: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """How many changes of files are read from the history, the newest first."""
    commit_files: PositiveInt = 100
    """A commit that touches more files is skipped: it formats the whole tree, or imports other code."""
    secrets: Literal["redact", "drop", "off"] = "redact"
    """`redact` replaces secrets by `REDACTED_<KIND>_<hash>`, `drop` skips files with secrets, `off` leaves them."""


@dataclass(frozen=True, slots=True)
class AnalyseOptions(StrictConfig):
    """Which files are used, once they are parsed."""

    skip: tuple[Literal["generated", "vendored"], ...] = ("generated", "vendored")
    """Roles that are dropped."""


@dataclass(frozen=True, slots=True)
class SplitOptions(StrictConfig):
    """How leak groups of files are divided among the splits."""

    train: PositiveFloat = 0.85
    """Share of the training split."""
    val: PositiveFloat = 0.10
    """Share of the validation split, on which the loss is measured during training."""
    test: PositiveFloat = 0.05
    """Share of the test split, on which the finished model is scored."""
    near: Share = 0.5
    """Two files belong to one leak group from this Jaccard similarity of token shingles, or if one file contains this
    share of the other's shingles."""

    def _check(self) -> None:
        if abs(self.train + self.val + self.test - 1) > 1e-9:
            raise InvalidValueError("train, val and test must add up to 1", ("train", "val", "test"))


@dataclass(frozen=True, slots=True)
class AugmentationOptions(StrictConfig):
    """How often an augmentation is applied. A plain number is the share, with one copy."""

    share: Share = 0.0
    """Share of the files."""
    copies: Annotated[int, Meta(ge=1, le=MAX_COPIES)] = 1
    """Different variations of each of these files."""


@dataclass(frozen=True, slots=True)
class WindowOptions(StrictConfig):
    """How texts become rows of tokens."""

    size: WindowSize | tuple[WindowSize, ...] | Literal["auto", "scales"] = "auto"
    """Tokens per row, or several such sizes; `auto` and `scales` follow the memory of the detected device."""
    overlap: Annotated[float, Meta(ge=0, lt=1)] = 0.75
    """Share of a window that the next one repeats; the stride is the rest."""
    tokenizer: str = "learn"
    """`learn`: a byte-level BPE from the training split; otherwise a folder or a Hugging Face id."""
    vocab_size: Annotated[int, Meta(ge=512, le=1_000_000)] = 4096
    """Entries of a learned tokenizer, special tokens included."""
    header: RepositoryName | None = None
    """The repository's name, which stands before every window of a file as it is, followed by the file's path; `auto`
    takes the last part of the URL of the remote `origin`; null: windows have no header."""

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

    exact: bool = True
    """Drop rows with the same tokens."""
    near: Share | None = None
    """Jaccard similarity of 5-token shingles from which the later row is dropped; null: off."""
    files: Share | None = None
    """The same of whole files; the less important file is dropped with everything made from it; null: off."""
    embedding: str | None = None
    """A static embedding model that compares what files are about: a folder or a Hugging Face id; null: off."""
    embedded: Share = 0.95
    """Cosine similarity by that model from which the less important of two files of a group is dropped as well."""


@dataclass(frozen=True, slots=True)
class WeighOptions(StrictConfig):
    """How often a trainer should draw a row: the product of a factor for its role, for its age, and for changes.

    Ages are days from the last change to the newest commit.
    """

    core: PositiveFloat = 1.0
    """Rows of core files."""
    utility: PositiveFloat = 1.0
    """Rows of utility files."""
    test: PositiveFloat = 1.0
    """Rows of test files."""
    recent: PositiveFloat = 1.0
    """Rows younger than 60 days."""
    old: PositiveFloat = 1.0
    """Rows of 90 days and older; between the two limits the factor is 1."""
    evolution: PositiveFloat = 1.0
    """Rows made from a change."""


@dataclass(frozen=True, slots=True)
class OrderOptions(StrictConfig):
    """The order of the rows in a split file."""

    by: Literal["curriculum", "random"] = "random"
    """`curriculum`: from easy to hard, in three stages."""


@dataclass(frozen=True, slots=True)
class WriteOptions(StrictConfig):
    """The files of the dataset folder."""

    format: Literal["jsonl", "parquet"] = "jsonl"
    """The format of the split files."""
    copies: bool = False
    """Write a training row as often as its weight says, for trainers that cannot weigh rows."""
    labels: bool = False
    """Also give rows `input_ids`, `attention_mask` and `labels`, the columns that most trainers read."""


@dataclass(frozen=True, slots=True)
class Recipe(StrictConfig):
    """Everything that determines a dataset. Two equal recipes on the same commit give the same bytes."""

    name: str = "recipe"
    """The name of the recipe or of its file; it does not change the bytes of rows."""
    about: str = ""
    """One line that says what the recipe is for."""
    seed: int = 0
    """Seed of everything that is random."""
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

    @classmethod
    def load(cls, name: str | Path = registry.DEFAULT_RECIPE, overrides: tuple[str, ...] = ()) -> Recipe:
        """Load a recipe of the registry or of a YAML file, with overrides such as `window.size=2048` on top.

        Raises:
            RecipeError: there is no such recipe, it is not YAML, a key is unknown, or a value is invalid.
        """
        values = _load_values(str(name), ())
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
        """A hash of everything in the recipe but its name and description."""
        values = _as_plain_values(self)
        del values["name"], values["about"]
        return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def _as_plain_values(recipe: Recipe) -> dict[str, Any]:
    """The recipe as dictionaries and lists, as YAML and JSON have them.

    A header that is null is left out: datasets without headers keep the bytes that they had before there were any.
    """
    values: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    if recipe.window.header is None:
        del values["window"]["header"]
    return values


def _load_values(name: str, chain: tuple[str, ...], folder: Path | None = None) -> dict[str, Any]:
    """The values of a recipe, merged over those of the recipe that it extends.

    `chain` names the recipes that led here by `extends`; a file is looked for in `folder`.
    """
    if name in chain:
        raise RecipeError(f"recipe '{name}' extends itself", where=" → ".join((*chain, name)))
    title = f"recipe '{name}'"
    known = registry.names("recipes")
    path = (folder or Path()) / user_paths.expand_user(name)
    if name in known:
        own = strict_config.parse_mapping(registry.read("recipes", name), title, name, RecipeError)
    elif path.suffix in {".yaml", ".yml"} and path.is_file():
        own = strict_config.read_mapping(path, title, str(path), RecipeError)
    else:
        hint = f"{registry.suggest(name, known)} `git starcoder recipe list` shows all"
        where = f"{chain[-1]}, extends" if chain else "--recipe"
        raise RecipeError(f"recipe '{name}' is not known", where=where, hint=hint)
    own.setdefault("name", printable_path(Path(name).stem))
    parent = own.pop("extends", None)
    if parent is None:
        return own
    merged = _load_values(str(parent), (*chain, name), None if name in known else path.parent)
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
