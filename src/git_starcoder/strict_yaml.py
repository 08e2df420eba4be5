"""YAML as recipes and trainings are written in: the core schema of YAML 1.2, in which no key may stand twice.

PyYAML reads YAML 1.1, where `5e-1` is text, `off` is false, `010` is eight, `1:30` is ninety, and the last of two equal
keys silently wins.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, ScalarNode

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 200
"""Characters of an explanation."""
_TAG = "tag:yaml.org,2002:"
_SPELLED = {
    "null": (re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")),
    "int": (re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), list("-+0123456789")),
    "float": (
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        list("-+.0123456789"),
    ),
}
"""How values that are not text are written, and what they begin with; the first that fits counts."""

_BREAK = re.compile("[\x85\u2028\u2029]")


class NotYamlError(ValueError):
    """A text is not YAML of this kind. The message says why, and in which line."""


def load(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        NotYamlError: it is none, it has a tag of another schema, or a key stands twice in a mapping.

    """
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" (line {mark.line + 1})" if mark else ""
        raise NotYamlError(f"{_one_line(error.problem or error.context or '')}{line}") from error
    except RecursionError as error:
        raise NotYamlError("too deeply nested") from error
    except (yaml.YAMLError, ValueError) as error:
        raise NotYamlError(_one_line(str(error))) from error


def dump(value: Any) -> str:
    """A text that `load` and readers of YAML 1.1 take for the value; keys stay in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:LONGEST]


class _Loader(yaml.SafeLoader):
    """Knows the seven tags of the core schema, and nothing of merging (`<<`)."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - filled below
    yaml_constructors = {}  # noqa: RUF012 - filled below

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node.

        Raises:
            ConstructorError: a key is no plain value, or stands twice.

        """
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
    """Puts quotes around text that either version of YAML would take for something else."""

    def represent_str(self, data: str) -> ScalarNode:
        """A text as a node; one with a line break of Unicode's in double quotes, or PyYAML would read a space."""
        style = '"' if _BREAK.search(data) else None
        return self.represent_scalar(f"{_TAG}str", data, style)  # pyright: ignore[reportUnknownMemberType]


def _constructed(name: str, make: Callable[[str], Any]) -> Callable[[_Loader, ScalarNode], Any]:
    """What makes the value of a scalar, which may have got its tag from the user (`!!int ten`)."""

    def construct(loader: _Loader, node: ScalarNode) -> Any:
        text: Any = loader.construct_scalar(node)
        if not _SPELLED[name][0].match(text):
            raise ConstructorError(None, None, f"'{text}' is no {name}", node.start_mark)
        return make(text)

    return construct


def _int(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text if base == 10 else text[2:], base)


def _float(text: str) -> float:
    return float(text.replace(".", "", 1) if text[-1] in "fFnN" else text)


_MAKE: dict[str, Callable[[str], Any]] = {
    "null": lambda _: None, "bool": lambda text: text.lower() == "true", "int": _int, "float": _float,
}  # fmt: skip
_loader: Any = _Loader  # the stubs of PyYAML know less than it takes
_dumper: Any = _Dumper
for _name, (_pattern, _first) in _SPELLED.items():
    _loader.add_implicit_resolver(_TAG + _name, _pattern, _first)
    _dumper.add_implicit_resolver(_TAG + _name, _pattern, _first)
    _loader.add_constructor(_TAG + _name, _constructed(_name, _MAKE[_name]))
_loader.add_constructor(_TAG + "str", _loader.construct_yaml_str)
_loader.add_constructor(_TAG + "seq", _loader.construct_yaml_seq)
_loader.add_constructor(_TAG + "map", _loader.construct_yaml_map)
_loader.add_constructor(None, _loader.construct_undefined)
_dumper.add_representer(str, _dumper.represent_str)
