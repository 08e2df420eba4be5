"""A recipe says what a dataset is: one section per step, and nothing that does not change its bytes.

A recipe is YAML 1.2. Everything left out has the default written here; `extends: NAME` starts from another recipe of
the shelf or from a file beside this one. Unknown keys are errors with a suggestion.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from git_starcoder import registry, strict_yaml, user_paths
from git_starcoder.errors import RecipeError
from git_starcoder.records import printable_path
from git_starcoder.strict_yaml import NotYamlError

MAX_COPIES = 16


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Which files are read."""

    max_bytes: int = 1_048_576
    """A larger file is skipped."""
    max_line: int = 65_536
    """A file with a longer line, in bytes, is skipped."""
    mean_line: int = 500
    """A file whose lines are longer on average, in bytes, is skipped as minified."""
    changes: int = 0
    """How many changes of files are read from the history, the newest first."""
    commit_files: int = 100
    """A commit that touches more files is not read: a formatter over the whole tree, an import of other code."""
    secrets: Literal["redact", "drop", "off"] = "redact"
    """`redact`: put `REDACTED_<KIND>_<hash>` in their place; `drop`: skip a file that has one; `off`: leave them."""


@dataclass(frozen=True, slots=True)
class AnalyseOptions:
    """Which files are used, once they are understood."""

    skip: tuple[Literal["generated", "vendored"], ...] = ("generated", "vendored")
    """Roles that are dropped."""


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How groups of files are parted."""

    train: float = 0.85
    val: float = 0.10
    test: float = 0.05
    near: float = 0.5
    """Jaccard similarity of token shingles, or share of one file's shingles that stand in the other, from which two
    files belong to one group."""


@dataclass(frozen=True, slots=True)
class AugmentationOptions:
    """How often an augmentation is applied. A plain number is the share, with one copy."""

    share: float = 0.0
    """Share of the files."""
    copies: int = 1
    """Different variations of each of them."""


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How texts become rows of tokens."""

    size: int | tuple[int, ...] | Literal["auto", "scales"] = "auto"
    """Tokens per row, or several such sizes; `auto` and `scales` follow the memory of the detected device."""
    overlap: float = 0.75
    """Share of a window that the next one repeats; the stride is the rest."""
    tokenizer: str = "learn"
    """`learn`: a byte-level BPE from the training split; else a folder or a Hugging Face id."""
    vocab_size: int = 4096
    """Entries of a learned tokenizer, special tokens included."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """The sizes in rising order, once `stages.window.resolve` has made them numbers.

        Raises:
            ValueError: it has not.
        """
        if isinstance(self.size, str):
            what = f"resolve the recipe first: a window of {self.size!r} has no size"
            raise ValueError(what)  # noqa: TRY004 - a bug of ours
        return (self.size,) if isinstance(self.size, int) else tuple(sorted(self.size))

    @property
    def primary(self) -> int:
        """The middle one of the sizes."""
        return self.sizes[len(self.sizes) // 2]


@dataclass(frozen=True, slots=True)
class DedupOptions:
    """Which rows count as the same."""

    exact: bool = True
    near: float | None = None
    """Jaccard similarity of 5-token shingles from which the later row is dropped; null: off."""
    files: float | None = None
    """The same of whole files, from which the lesser one is dropped with all that would be made of it; null: off."""
    embedding: str | None = None
    """A static embedding model that says what files are about: a folder or a Hugging Face id; null: off."""
    embedded: float = 0.95
    """Cosine similarity of two files of a group by that model from which the lesser one is dropped as well."""


@dataclass(frozen=True, slots=True)
class WeighOptions:
    """How often a trainer draws a row: the product of a factor for the role of its file, for its age, and for changes.

    Ages are days from the last change to the newest commit.
    """

    core: float = 1.0
    utility: float = 1.0
    test: float = 1.0
    recent: float = 1.0
    """Younger than 60 days."""
    old: float = 1.0
    """90 days and older; between the two the factor is 1."""
    evolution: float = 1.0
    """Rows that a change made."""


@dataclass(frozen=True, slots=True)
class OrderOptions:
    """The order of the rows in a file."""

    by: Literal["curriculum", "random"] = "random"


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """What the folder looks like."""

    format: Literal["jsonl", "parquet"] = "jsonl"
    copies: bool = False
    """Write a training row as often as its weight says, for trainers that cannot weigh."""
    labels: bool = False
    """Give rows `input_ids`, `attention_mask` and `labels`, too, as most trainers take them."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a dataset is. Two equal recipes on the same commit give the same bytes."""

    name: str = "recipe"
    about: str = ""
    seed: int = 0
    read: ReadOptions = field(default_factory=ReadOptions)
    analyse: AnalyseOptions = field(default_factory=AnalyseOptions)
    split: SplitOptions = field(default_factory=SplitOptions)
    augment: Mapping[str, AugmentationOptions] = field(default_factory=dict[str, AugmentationOptions])
    """By the keys of the augmentations shelf."""
    window: WindowOptions = field(default_factory=WindowOptions)
    dedup: DedupOptions = field(default_factory=DedupOptions)
    weigh: WeighOptions = field(default_factory=WeighOptions)
    order: OrderOptions = field(default_factory=OrderOptions)
    write: WriteOptions = field(default_factory=WriteOptions)

    @classmethod
    def load(cls, name: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
        """Read a recipe of the shelf or of a file, with `section.key=value` overrides on top.

        Raises:
            RecipeError: no such recipe, not YAML, an unknown key, or a value that cannot be.

        """
        values = _resolve(str(name), ())
        for override in overrides:
            _override(values, override)
        return _build(cls, values, f"recipe {name}")

    def to_yaml(self) -> str:
        """The recipe in full, every default written out."""
        return strict_yaml.dump(_plain(self))

    def fingerprint(self) -> str:
        """A hash of everything in the recipe but its name and description."""
        values = _plain(self)
        del values["name"], values["about"]
        return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def _plain(recipe: Any) -> Any:
    if dataclasses.is_dataclass(recipe):
        return {f.name: _plain(getattr(recipe, f.name)) for f in dataclasses.fields(recipe)}
    if isinstance(recipe, Mapping):
        return {key: _plain(value) for key, value in cast("Mapping[str, Any]", recipe).items()}
    return list(cast("tuple[Any, ...]", recipe)) if isinstance(recipe, tuple) else recipe


def _resolve(name: str, seen: tuple[str, ...], beside: Path | None = None) -> dict[str, Any]:
    """The values of a recipe with all that it extends merged in."""
    if name in seen:
        raise RecipeError(f"recipe '{name}' extends itself", where=" → ".join((*seen, name)))
    known = registry.names("recipes")
    path: Path | None = None
    if name in known:
        text = registry.read("recipes", name)
    else:
        path = (beside or Path()) / user_paths.expand_user(name)
        if path.suffix not in {".yaml", ".yml"} or not path.is_file():
            hint = f"{registry.suggest(name, known)} `git starcoder recipe list` shows all"
            where = f"{seen[-1]}, extends" if seen else "--recipe"
            raise RecipeError(f"recipe '{name}' is not known", where=where, hint=hint)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"recipe '{name}' cannot be read: {error}", where=str(path)) from error
    try:
        loaded: Any = strict_yaml.load(text)
    except NotYamlError as error:
        raise RecipeError(f"recipe '{name}' is not YAML: {error}", where=name) from error
    if not isinstance(loaded, dict | None):
        raise RecipeError(f"recipe '{name}' is not a mapping", where=name)
    own = cast("dict[str, Any]", loaded or {})
    own.setdefault("name", printable_path(Path(name).stem))
    parent = own.pop("extends", None)
    if parent is None:
        return own
    base = _resolve(str(parent), (*seen, name), path.parent if path else None)
    return _merge(base, own)


def _merge(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in own.items():
        below = merged.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            merged[key] = {**cast("dict[str, Any]", below), **cast("dict[str, Any]", value)}
        else:
            merged[key] = value
    return merged


def _override(values: dict[str, Any], override: str) -> None:
    if printable_path(override) != override:
        raise RecipeError(
            f"'{override}' is not UTF-8, and a recipe is", where="--set", hint="a link may have another name"
        )
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) > 2 or not all(keys):
        raise RecipeError(
            f"'{override}' is not section.key=value", where="--set", hint="for example --set window.size=2048"
        )
    try:
        value = strict_yaml.load(text)
    except NotYamlError as error:
        raise RecipeError(f"'{text}' is not a YAML value: {error}", where=f"--set {path}") from error
    target = values
    for key in keys[:-1]:
        below = target.get(key)
        target[key] = dict(cast("dict[str, Any]", below)) if isinstance(below, dict) else {}
        target = target[key]
    target[keys[-1]] = value


def _build(kind: type[Any], values: dict[str, Any], where: str) -> Any:
    """A frozen dataclass from plain values, each checked against its annotation."""
    hints = get_type_hints(kind)
    unknown = [key for key in values if key not in hints]
    if unknown:
        raise RecipeError(
            f"unknown key '{unknown[0]}'", where=where, hint=registry.suggest(str(unknown[0]), list(hints))
        )
    made: dict[str, Any] = {}
    for key, value in values.items():
        hint = hints[key]
        inside = f"{where}, {key}"
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, dict):
                raise RecipeError(f"'{key}' is a section, not {value!r}", where=where)
            made[key] = _build(cast("type[Any]", hint), cast("dict[str, Any]", value), inside)
        else:
            made[key] = _value(value, hint, inside)
    built = kind(**made)
    _lint(built, where)
    return built


def _value(value: Any, hint: Any, where: str) -> Any:
    """The value as its annotation wants it, or an error that says what it wants."""
    origin = get_origin(hint)
    if origin is Mapping:
        return _augmentations(value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise RecipeError(f"{value!r} is not a list", where=where)
        return tuple(_value(item, get_args(hint)[0], where) for item in cast("list[Any]", value))
    options = get_args(hint) if origin not in {None, Literal} else (hint,)
    for option in options:
        if get_origin(option) is Literal and value in get_args(option):
            return value
        if get_origin(option) is tuple and isinstance(value, list):
            return tuple(_value(item, get_args(option)[0], where) for item in cast("list[Any]", value))
        if option is type(None) and value is None:
            return None
        if option is float and isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value):
            return float(value)
        if option in {int, str, bool} and type(value) is option:
            return value
        if option is int and isinstance(value, float) and value.is_integer():  # 1e6 is a number of bytes
            return int(value)
    raise RecipeError(f"{value!r} is not {_want(options)}", where=where)


def _augmentations(value: Any, where: str) -> Mapping[str, AugmentationOptions]:
    """The augmentations of a recipe, in the order of the shelf."""
    if not isinstance(value, dict):
        raise RecipeError(f"{value!r} is not a mapping", where=where)
    values = cast("dict[str, Any]", value)
    known = registry.names("augmentations")
    for key in values:
        if key not in known:
            raise RecipeError(f"unknown augmentation '{key}'", where=where, hint=registry.suggest(str(key), known))
    made: dict[str, AugmentationOptions] = {}
    for key in known:
        if key in values:
            inner = values[key] if isinstance(values[key], dict) else {"share": values[key]}
            made[key] = _build(AugmentationOptions, cast("dict[str, Any]", inner), f"{where}, {key}")
    return made


def _want(options: tuple[Any, ...]) -> str:
    words: list[str] = []
    for option in options:
        if get_origin(option) is Literal:
            words.extend(repr(choice) for choice in get_args(option))
        elif get_origin(option) is tuple:
            words.append("a list")
        else:
            words.append(
                {int: "a whole number", float: "a number", str: "text", bool: "true or false"}.get(option, "null")
            )
    return " or ".join(words)


def _lint(section: Any, where: str) -> None:  # noqa: C901 - one arm per section
    """Values that have the right type and cannot be."""
    match section:
        case SplitOptions(train=train, val=val, test=test, near=near):
            if min(train, val, test) <= 0 or abs(train + val + test - 1) > 1e-9:
                raise RecipeError("train, val and test must be above 0 and add up to 1", where=where)
            _share(near, "near", where)
        case AugmentationOptions(share=share, copies=copies):
            _share(share, "share", where)
            if not 1 <= copies <= MAX_COPIES:
                raise RecipeError(f"{copies} copies are out of range", where=where, hint=f"1 to {MAX_COPIES}")
        case WindowOptions(size=size, overlap=overlap, vocab_size=vocab_size):
            sizes = () if isinstance(size, str) else (size,) if isinstance(size, int) else size
            if not isinstance(size, str) and (not sizes or len(set(sizes)) < len(sizes)):
                raise RecipeError("window sizes must be at least one, and each another", where=where)
            for tokens in sizes:
                if not 16 <= tokens <= 1_048_576:
                    raise RecipeError(f"a window of {tokens} tokens is out of range", where=where, hint="16 to 1048576")
            if not 0 <= overlap < 1:
                raise RecipeError(f"an overlap of {overlap} is out of range", where=where, hint="0 to below 1")
            if not 512 <= vocab_size <= 1_000_000:
                raise RecipeError(f"a vocabulary of {vocab_size} is out of range", where=where, hint="512 to 1000000")
        case DedupOptions(near=near, files=files, embedded=embedded):
            _share(near or 0.0, "near", where)
            _share(files or 0.0, "files", where)
            _share(embedded, "embedded", where)
        case WeighOptions():
            if min(dataclasses.astuple(section)) <= 0:
                raise RecipeError("a weight must be above 0", where=where)
        case ReadOptions(
            max_bytes=max_bytes, max_line=max_line, mean_line=mean_line, commit_files=files, changes=changes
        ):
            if min(max_bytes, max_line, mean_line, files) <= 0:
                raise RecipeError("a limit must be above 0", where=where)
            if not 0 <= changes <= 1_000_000:
                raise RecipeError(f"{changes} changes are out of range", where=where, hint="0 to 1000000; 0 is none")
        case _:
            pass


def _share(value: float, key: str, where: str) -> None:
    if not 0 <= value <= 1:
        raise RecipeError(f"{key} is {value}, not from 0 to 1", where=where)
