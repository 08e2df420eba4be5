"""Output of ours that somebody committed: datasets, models, checkpoints, results of runs, reports.

Files are known by what is in them, whatever they and their folders are called. Those that say nothing of themselves (a
recipe, a tokenizer, the configuration of a model) are known by the company they are in: a file beside them that says
what it is.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from git_starcoder.layout import STEPS
from git_starcoder.output_folder import GITIGNORE_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

REASON = "own_output"
PAGE, CARD = 1 << 12, 1 << 14
"""Bytes of a page and of a card in which it says what it is."""
SCHEMA = re.compile(r"git-starcoder/([a-z]+)/\d+")
GENERATOR = b'<meta name="generator" content="git starcoder report">'
TAGGED = (b"\n- git-starcoder\n", b"Made by git-starcoder from one Git repository")
METADATA = {"total_sequences", "source_repo", "augmentation_techniques", "weighting_strategy"}
DROP = {"step", "id", "reason", "because"}
IMPORT = {"from", "to", "from_split", "to_split"}
SIGNATURE = {"path", "line", "name", "owner", "kind", "signature", "visibility", "language", "role", "split"}
_TOKENIZER = r"(tokenizer|tokenizer_config|special_tokens_map|vocab)\.json|merges\.txt"
_RUNNING = r"metrics\.jsonl|tensorboard/[^/]+"
COMPANY = {
    "dataset": re.compile(
        r"recipe\.yaml|(drops|imports|signatures)\.jsonl|training_data_(train|val|test)\.jsonl"
        rf"|data/(train|validation|test)-\d+-of-\d+\.parquet|tokenizer/({_TOKENIZER})"
    ),
    "model": re.compile(
        rf"(config|generation_config)\.json|training\.yaml|loss_curve\.png|adapter/[^/]+|[\w-]+\.safetensors"
        rf"|model\.safetensors\.index\.json|{_TOKENIZER}|{_RUNNING}"
    ),
    "checkpoint": re.compile(r"state\.json|\w+\.safetensors"),
    "training": re.compile(_RUNNING),
}
"""By kind of folder, the files in it that say nothing of themselves. A training is a folder of checkpoints."""


class Own(NamedTuple):
    """What a file of ours says of itself."""

    what: str
    files: Mapping[str, int] = {}
    """Files in its folder, with their bytes, where it lists them."""

    @property
    def kind(self) -> str:
        """The kind of folder that it stands for; empty for a file that stands for itself."""
        word = self.what.rpartition(" ")[2]
        return word if word in COMPANY else ""


def recognise(data: bytes) -> Own | None:
    """What a file of ours is, by its bytes; None for any other."""
    match data.lstrip()[:1]:
        case b"{":
            return _of_line(data) or _of_object(data)
        case b"-" if data.startswith(b"---") and all(mark in data[:CARD] for mark in TAGGED):
            return Own("the card of a dataset")
        case b"<" if GENERATOR in data[:PAGE]:
            return Own("a report")
        case b"#" if len(data) <= 2 * len(GITIGNORE_TEXT) and data.replace(b"\r\n", b"\n") == GITIGNORE_TEXT.encode():
            return Own("the .gitignore of an output")
        case _:
            return None


def company(own: Mapping[str, Own], files: Iterable[tuple[str, int | None]]) -> set[str]:
    """Of files with their bytes, the paths of those that belong to recognised ones.

    Where a folder has a list, they are in it, and have the size that is listed or a name that only output has. Where
    there is none, the name decides.
    """
    if not own:
        return set()
    listed: dict[str, int] = {}
    for path, said in own.items():
        listed |= {posixpath.join(posixpath.dirname(path), name): size for name, size in said.files.items()}
    homes = _homes(own)
    with_list = {posixpath.dirname(path) for path, said in own.items() if said.files}
    without = {(folder, kind) for folder, kind in homes if folder not in with_list}
    found: set[str] = set()
    for path, size in files:
        named = homes if path in listed else without
        if path not in own and ((path in listed and listed[path] == size) or not named.isdisjoint(_places(path))):
            found.add(path)
    return found


def companions(own: Mapping[str, Own], paths: Iterable[str]) -> set[str]:
    """Of paths, those of files that belong to recognised ones by their names alone."""
    homes = _homes(own)
    return {path for path in paths if not homes.isdisjoint(_places(path))}


def may_be_company(path: str) -> bool:
    """Whether a file would belong to a recognised one, were there one beside it."""
    return bool(_places(path))


def _homes(own: Mapping[str, Own]) -> set[tuple[str, str]]:
    """The folders that recognised files stand for, with their kind."""
    homes = {(posixpath.dirname(path), said.kind) for path, said in own.items() if said.kind}
    return homes | {(posixpath.dirname(folder), "training") for folder, kind in homes if kind == "checkpoint"}


def _places(path: str) -> set[tuple[str, str]]:
    """The folders in which the name of a file would be one of ours, with their kind."""
    parts = path.split("/")
    return {
        ("/".join(parts[:-count]), kind)
        for count in range(1, min(2, len(parts)) + 1)
        for kind, names in COMPANY.items()
        if names.fullmatch("/".join(parts[-count:]))
    }


def _of_line(data: bytes) -> Own | None:
    """What the first line of JSON lines says."""
    line = data.lstrip().partition(b"\n")[0]
    if not any(mark in line for mark in (b'"augmentation_type"', b'"because"', b'"from_split"', b'"visibility"')):
        return None
    values = _loaded(line)
    metadata = values.get("metadata")
    if isinstance(values.get("tokens"), list) and isinstance(metadata, dict) and "augmentation_type" in metadata:
        return Own("rows of a dataset")
    keys = set(values)
    if DROP <= keys <= DROP | {"things"} and values["step"] in STEPS:
        return Own("drops of a dataset")
    return Own("facts of a dataset") if keys in (IMPORT, SIGNATURE) else None


def _of_object(data: bytes) -> Own | None:
    """What one JSON object says."""
    if b'"git-starcoder/' not in data and b'"augmentation_techniques"' not in data:
        return None
    values = _loaded(data)
    if said := SCHEMA.fullmatch(str(values.get("schema"))):
        return Own(f"output: {said[1]}", _sizes(values.get("files")))
    return Own("metadata of a dataset") if set(values) >= METADATA else None


def _sizes(files: Any) -> dict[str, int]:
    """The bytes of each file that is listed; a checkpoint calls them its size."""
    found = cast("dict[str, Any]", files) if isinstance(files, dict) else {}
    listed = {name: cast("dict[str, Any]", said) for name, said in found.items() if isinstance(said, dict)}
    return {
        name: size if isinstance(size := said.get("bytes", said.get("size")), int) else -1
        for name, said in listed.items()
    }


def _loaded(data: bytes) -> dict[str, Any]:
    try:
        values = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, Any]", values) if isinstance(values, dict) else {}
