"""Loads recipes and training configs: strict YAML first, then typed values, and one clear line for what is wrong.

The YAML is the core schema of YAML 1.2, and no key may stand twice. PyYAML alone reads YAML 1.1, where `5e-1` is text,
`off` is false, `010` is eight, `1:30` is ninety, and the last of two equal keys silently wins.

The types are frozen dataclasses that derive from `StrictConfig`. Ranges are annotations that msgspec checks:

    @dataclass(frozen=True, slots=True)
    class Options(StrictConfig):
        size: Annotated[int, Meta(ge=1, le=64)] = 8

    from_values(Options, parse_mapping("size: 65", "'own.yaml'"), Places("own.yaml"))
    # UsageError: 'size' is 65 and should be a whole number from 1 to 64 (in own.yaml, size)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

import msgspec
import yaml
from msgspec import Meta
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, ScalarNode

from git_starcoder.errors import StarcoderError, UsageError
from git_starcoder.records import printable_path
from git_starcoder.registry import suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

T = TypeVar("T")

MAX_SHOWN_CHARACTERS = 200
"""Characters of a value, or of a reason, that an error shows."""
MAX_SHOWN_ITEMS = 8
"""Items of a list that an error shows."""

PositiveInt = Annotated[int, Meta(ge=1)]
PositiveFloat = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
"""A number from 0 to 1, both included."""


class InvalidValueError(UsageError):
    """A value, or several values together, that a config cannot have."""

    def __init__(self, what: str, keys: tuple[str, ...], hint: str = "") -> None:
        super().__init__(what, where=", ".join(keys), hint=hint)
        self.keys = keys


@dataclass(frozen=True, slots=True)
class StrictConfig:
    """Base of configs: an object cannot be constructed with a value of the wrong type or out of range.

    Whole numbers are taken for floats, and floats without a fraction for whole numbers (`1e6`).
    """

    IS_ONE_FEATURE = False
    """Whether all keys of the section together are one feature, so that none is switched off alone."""

    def __post_init__(self) -> None:
        self._fill_defaults()
        for key, hint in field_types(type(self)).items():
            if not is_section(hint):
                object.__setattr__(self, key, check_value(key, getattr(self, key), hint))
        self._check()

    def _fill_defaults(self) -> None:
        """Set the defaults that depend on other values."""

    def _check(self) -> None:
        """Raise an `InvalidValueError` if values do not go together."""


@dataclass(frozen=True, slots=True)
class Off:
    """An annotation of a key that is a feature: the value that switches the feature off.

    `git starcoder compare` switches features off to measure them. A key whose values only choose between equals, such
    as a size or a schedule, has no such value.
    """

    value: Any


def off_values(kind: type[Any]) -> dict[str, Any]:
    """The value that switches each feature off, by key."""
    marks = {key: [mark for mark in get_args(hint) if isinstance(mark, Off)] for key, hint in field_types(kind).items()}
    return {key: found[0].value for key, found in marks.items() if found}


@dataclass(frozen=True, slots=True)
class Places:
    """Where the values of a config come from, for its errors."""

    default: str
    """A file, or the name of a recipe."""
    of_keys: dict[str, str] = field(default_factory=dict[str, str])
    """By dotted key, where it is another place: `{"window.size": "--set window.size"}`."""

    def locate(self, section: tuple[str, ...], keys: Sequence[str] = ()) -> str:
        """The place of a section, of a value in it, or of several values that do not go together."""
        paths = [".".join((*section, key)) for key in keys] or [".".join(section)]
        # Several values of one file are named by their section only.
        path_in_file = paths[0] if len(paths) == 1 else ".".join(section)
        in_file = ", ".join(filter(None, (self.default, path_in_file)))
        return ", ".join(dict.fromkeys(self.of_keys.get(path, in_file) for path in paths))


def from_values(
    kind: type[T], values: Mapping[Any, Any], places: Places, error: type[StarcoderError] = UsageError,
    path: tuple[str, ...] = (),
) -> T:  # fmt: skip
    """A `StrictConfig` of plain values, such as YAML gives. Nested dataclasses and mappings to them are sections.

    Raises an error of class `error` if a key is unknown or a value is invalid. `path` is the section that `kind` is of
    the whole config.
    """
    hints = field_types(kind)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        inside = (*path, str(key))
        if key not in hints:
            hint = suggest(str(key), list(hints))
            where = places.of_keys.get(".".join(inside)) or places.locate(path)
            raise error(f"unknown key '{_cut(key)}'", where=where, hint=hint)
        if not is_section(hints[key]):
            arguments[key] = value
            continue
        if not isinstance(value, Mapping):
            what = f"'{key}' is a section with keys, not {_format_value(value)}"
            raise error(what, where=places.locate(inside))
        section = cast("Mapping[Any, Any]", value)
        if get_origin(hints[key]) is Mapping:
            inner = get_args(hints[key])[1]
            arguments[key] = {
                name: from_values(inner, below, places, error, (*inside, name)) for name, below in section.items()
            }
        else:
            arguments[key] = from_values(hints[key], section, places, error, inside)
    try:
        return kind(**arguments)
    except InvalidValueError as wrong:
        # A rule about several values is reported where they were set.
        keys = [key for key in arguments if key in wrong.keys] or wrong.keys
        raise error(wrong.what, where=places.locate(path, keys), hint=wrong.hint) from wrong


@cache
def field_types(kind: type[Any]) -> dict[str, Any]:
    """The type of each field of a dataclass, with its annotations."""
    hints = get_type_hints(kind, include_extras=True)
    return {each.name: hints[each.name] for each in fields(kind)}


def is_section(hint: Any) -> bool:
    """Whether a field is a dataclass, or a mapping to dataclasses."""
    return is_dataclass(hint) or get_origin(hint) is Mapping


def check_value(key: str, value: Any, hint: Any) -> Any:
    """The value converted to its type; an `InvalidValueError` if it has another type or is out of range."""
    is_float = isinstance(value, float)
    for candidate in (value, int(value)) if is_float and isfinite(value) and value.is_integer() else (value,):
        try:
            if not is_float or isfinite(value):
                return msgspec.convert(candidate, hint)
        except msgspec.ValidationError:
            continue
    choices = _choices(hint)
    help_text = suggest(value, choices) if choices and isinstance(value, str) else ""
    raise InvalidValueError(f"'{key}' is {_format_value(value)} and should be {describe_type(hint)}", (key,), help_text)


def describe_type(hint: Any) -> str:
    """What values a type takes, in words: `a whole number from 1 to 64, 'auto' or null`."""
    *words, last = _alternatives(hint)
    return f"{', '.join(words)} or {last}" if words else last


def _alternatives(hint: Any) -> list[str]:
    """What a type takes, in words: an item for each alternative."""
    if isinstance(hint, type):
        words = {int: ["a whole number"], float: ["a number"], str: ["text"], bool: ["true", "false"]}
        return words.get(hint, ["null"])
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return list(map(repr, arguments))
    if origin is tuple:
        items = " or ".join(_alternatives(arguments[0]))
        return ["a list of whole numbers" if "whole number" in items else f"a list of {items}"]
    if origin is Annotated:
        limits = next((mark for mark in arguments[1:] if isinstance(mark, Meta)), None)
        if limits is None:
            return _alternatives(arguments[0])
        (number,) = _alternatives(arguments[0])
        below = "below" if limits.ge is None else "to below"
        words = {"above": limits.gt, "from": limits.ge, "to": limits.le, below: limits.lt}
        return [" ".join([number, *(f"{word} {limit:,}" for word, limit in words.items() if limit is not None)])]
    return [words for part in arguments for words in _alternatives(part)]


def _choices(hint: Any) -> list[str]:
    """All words that a type takes besides other values."""
    if get_origin(hint) is Literal:
        return list(get_args(hint))
    return [choice for part in get_args(hint) for choice in _choices(part)]


def _format_value(value: Any) -> str:
    """A value for an error. Nested values are only named: aliases in YAML can make them endless."""
    if isinstance(value, str | float | None) or (isinstance(value, int) and value.bit_length() < 64):
        return _cut(repr(value))
    if isinstance(value, list):
        items = cast("list[Any]", value)
        if len(items) <= MAX_SHOWN_ITEMS and not any(isinstance(item, list | dict) for item in items):
            return _cut(f"[{', '.join(map(_format_value, items))}]")
        return "a list"
    return "a mapping" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def _cut(text: Any) -> str:
    return str(text)[:MAX_SHOWN_CHARACTERS]


def read_mapping(path: Path, title: str, where: str, error: type[StarcoderError] = UsageError) -> dict[str, Any]:
    """The keys and values of a YAML file; `title` is what an error of class `error` calls it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as wrong:
        raise error(f"{title} cannot be read: {wrong.strerror}", where=where) from wrong
    except UnicodeDecodeError as wrong:
        raise error(f"{title} cannot be read: it is not text ({wrong})", where=where) from wrong
    return parse_mapping(text, title, where, error)


def parse_mapping(text: str, title: str, where: str, error: type[StarcoderError] = UsageError) -> dict[str, Any]:
    """The keys and values of a YAML text; `title` is what an error of class `error` calls it."""
    try:
        values = load(text)
    except NotYamlError as wrong:
        raise error(f"{title} is not YAML: {wrong}", where=where) from wrong
    if not isinstance(values, dict | None):
        raise error(f"{title} is not a mapping of keys to values", where=where)
    return {str(key): value for key, value in cast("dict[Any, Any]", values or {}).items()}


def parse_override(
    text: str, example: str, max_depth: int, error: type[StarcoderError] = UsageError
) -> tuple[list[str], Any]:
    """The keys and the value of `--set key=value` or `--set section.key=value`; otherwise an error of class `error`."""
    if printable_path(text) != text:
        raise error(f"'{text}' is not UTF-8", where="--set", hint="give the file another name, or link to it")
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) > max_depth or not all(keys):
        form = "section.key=value" if max_depth > 1 else "key=value"
        raise error(f"'{text}' is not {form}", where="--set", hint=f"for example --set {example}")
    try:
        return keys, load(value)
    except NotYamlError as wrong:
        raise error(f"'{_cut(value)}' is not YAML: {wrong}", where=f"--set {path.strip()}") from wrong


_TAG = "tag:yaml.org,2002:"
_FLOAT = r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
_SCALARS: dict[str, tuple[re.Pattern[str], list[str], Callable[[str], Any]]] = {
    "null": (re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""], lambda _: None),
    "bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF"), lambda text: text[0] in "tT"),
    "int": (re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), list("-+0123456789"),
            lambda text: _parse_integer(text)),
    "float": (re.compile(_FLOAT), list("-+.0123456789"),
              lambda text: float(text.replace(".", "", 1) if text[-1] in "fFnN" else text)),
}  # fmt: skip
"""How values that are not text are spelled, their first characters, and their value; the first that fits counts."""
MAX_INTEGER_BITS = 1024
"""Larger whole numbers are refused: Python does not even print them all."""


def _parse_integer(text: str) -> int:
    number = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if number.bit_length() > MAX_INTEGER_BITS:
        raise ValueError("a whole number is too large")
    return number


_UNICODE_LINE_BREAK = re.compile("[\x85\u2028\u2029]")


class NotYamlError(ValueError):
    """A text is not YAML of this kind. The message says why, and in which line."""


def load(text: str) -> Any:
    """The value of a YAML text; a `NotYamlError` if a tag is of another schema, or a key stands twice, too."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" (line {mark.line + 1})" if mark else ""
        raise NotYamlError(f"{_on_one_line(error.problem or error.context or '')}{line}") from error
    except RecursionError as error:
        raise NotYamlError("too deeply nested") from error
    except (yaml.YAMLError, ValueError) as error:
        raise NotYamlError(_on_one_line(str(error))) from error


def dump(value: Any) -> str:
    """A text that `load` and readers of YAML 1.1 read back as the value; keys keep their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _on_one_line(text: str) -> str:
    return _cut(" ".join(text.split()))


class _Loader(yaml.SafeLoader):
    """Knows the seven tags of the core schema, and does not merge mappings (`<<`)."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - filled below
    yaml_constructors = {}  # noqa: RUF012 - filled below

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node; an error if a key is not a plain value, or stands twice."""
        if not isinstance(node, MappingNode):  # pyright: ignore[reportUnnecessaryIsInstance] - `!!map [1]`
            raise ConstructorError(None, None, "expected a mapping", node.start_mark)
        construct = cast("Callable[..., Any]", self.construct_object)  # pyright: ignore[reportUnknownMemberType]
        values: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                raise ConstructorError(None, None, "a key must be a plain value", key_node.start_mark)
            key = construct(key_node, deep=True)
            if key in values:
                raise ConstructorError(None, None, f"'{key_node.value}' stands twice", key_node.start_mark)
            values[key] = construct(value_node, deep=deep)
        return values


class _Dumper(yaml.SafeDumper):
    """Quotes text that either version of YAML would read as something else."""

    def represent_str(self, data: str) -> ScalarNode:
        """A node of text. PyYAML reads a line break of Unicode as a space, unless it is in double quotes."""
        style = '"' if _UNICODE_LINE_BREAK.search(data) else None
        return self.represent_scalar(f"{_TAG}str", data, style)  # pyright: ignore[reportUnknownMemberType]


def _scalar_constructor(name: str) -> Callable[[_Loader, ScalarNode], Any]:
    """What makes the value of a scalar. Its tag may be the user's (`!!int ten`), so the spelling is checked again."""
    pattern, _, convert = _SCALARS[name]

    def construct(loader: _Loader, node: ScalarNode) -> Any:
        text: Any = loader.construct_scalar(node)
        if not pattern.match(text):
            raise ConstructorError(None, None, f"'{text}' is no {name}", node.start_mark)
        return convert(text)

    return construct


def _construct_text(loader: Any, node: ScalarNode) -> str:
    text: str = loader.construct_yaml_str(node)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConstructorError(None, None, "a text has half of a surrogate pair", node.start_mark) from error
    return text


_loader: Any = _Loader  # the stubs of PyYAML know less than it takes
_dumper: Any = _Dumper
for _name, (_pattern, _first, _) in _SCALARS.items():
    _loader.add_implicit_resolver(_TAG + _name, _pattern, _first)
    _dumper.add_implicit_resolver(_TAG + _name, _pattern, _first)
    _loader.add_constructor(_TAG + _name, _scalar_constructor(_name))
for _name in ("seq", "map"):
    _loader.add_constructor(_TAG + _name, getattr(_loader, f"construct_yaml_{_name}"))
_loader.add_constructor(_TAG + "str", _construct_text)
_loader.add_constructor(None, _loader.construct_undefined)
_dumper.add_representer(str, _dumper.represent_str)
