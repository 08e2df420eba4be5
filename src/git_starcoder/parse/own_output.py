"""Recognises our own output that somebody committed: datasets, models, checkpoints, results of runs, reports.

A file is recognised by its content, whatever it and its folders are called. Files whose content says nothing (a
recipe, a tokenizer, the configuration of a model) are recognised as companions: files with typical names in the folder
of a recognised file.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import orjson

from git_starcoder.output.contents import GITIGNORE_TEXT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

DROP_REASON = "own_output"
REPORT_HEAD_BYTES = 1 << 12
"""Bytes at the start of a report that contain its generator tag."""
CARD_HEAD_BYTES = 1 << 14
"""Bytes at the start of a dataset card that contain our tags."""
SCHEMA_PATTERN = re.compile(r"git-starcoder/([a-z]+)/\d+")
REPORT_TAG = b'<meta name="generator" content="git starcoder report">'
CARD_TAGS = (b"\n- git-starcoder\n", b"Made by git-starcoder from one Git repository")
STEP_NAMES = {"read", "analyse", "split", "augment", "window", "dedup", "weigh", "order", "write"}
METADATA_KEYS = {"total_sequences", "source_repo", "augmentation_techniques", "weighting_strategy"}
DROP_KEYS = {"step", "id", "reason", "because"}
IMPORT_KEYS = {"from", "to", "from_split", "to_split"}
SIGNATURE_KEYS = {"path", "line", "name", "owner", "kind", "signature", "visibility", "language", "role", "split"}
_TOKENIZER = r"(tokenizer|tokenizer_config|special_tokens_map|vocab)\.json|merges\.txt"
_RUNNING = r"metrics\.jsonl|tensorboard/[^/]+"
COMPANION_NAMES = {
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
"""For each kind of folder the names of companions in it. A `training` is a folder of checkpoints."""


class OwnOutput(NamedTuple):
    """What the content of one of our files says about it."""

    description: str
    file_sizes: Mapping[str, int] = {}
    """The bytes of each file in its folder, if it lists them."""

    @property
    def kind(self) -> str:
        """The kind of folder that it identifies; empty if it says nothing about its folder."""
        word = self.description.rpartition(" ")[2]
        return word if word in COMPANION_NAMES else ""


def recognise_own_output(data: bytes) -> OwnOutput | None:
    """What a file of ours is, by its content; None for any other file."""
    match data.lstrip()[:1]:
        case b"{":
            return _recognise_json_lines(data) or _recognise_json_object(data)
        case b"-" if data.startswith(b"---") and all(tag in data[:CARD_HEAD_BYTES] for tag in CARD_TAGS):
            return OwnOutput("the card of a dataset")
        case b"<" if REPORT_TAG in data[:REPORT_HEAD_BYTES]:
            return OwnOutput("a report")
        case b"#" if len(data) <= 2 * len(GITIGNORE_TEXT) and data.replace(b"\r\n", b"\n") == GITIGNORE_TEXT.encode():
            return OwnOutput("the .gitignore of an output")
        case _:
            return None


def find_companions(recognised: Mapping[str, OwnOutput], files: Iterable[tuple[str, int | None]]) -> set[str]:
    """The paths of files that belong to recognised files, given the path and size in bytes of all files.

    If a recognised file lists the files of its folder, a companion is in the list, and has the listed size or a name
    that only our output has. If there is no list, the name decides.
    """
    listed_sizes = {
        posixpath.join(posixpath.dirname(path), name): size
        for path, own in recognised.items()
        for name, size in own.file_sizes.items()
    }
    output_folders = _output_folders(recognised)
    folders_with_list = {posixpath.dirname(path) for path, own in recognised.items() if own.file_sizes}
    without_list = {(folder, kind) for folder, kind in output_folders if folder not in folders_with_list}
    return {
        path
        for path, size in (files if recognised else ())
        if path not in recognised
        and (
            (path in listed_sizes and listed_sizes[path] == size)
            or could_be_companion(path, output_folders if path in listed_sizes else without_list)
        )
    }


def find_companions_by_name(recognised: Mapping[str, OwnOutput], paths: Iterable[str]) -> set[str]:
    """The paths that belong to recognised files by their names alone."""
    output_folders = _output_folders(recognised)
    return {path for path in paths if could_be_companion(path, output_folders)}


def could_be_companion(path: str, output_folders: Collection[tuple[str, str]] | None = None) -> bool:
    """Whether the name of a file is typical of a folder of ours: of any kind, or of the given folders and kinds."""
    parts = path.split("/")
    return any(
        names.fullmatch("/".join(parts[-count:]))
        and (output_folders is None or ("/".join(parts[:-count]), kind) in output_folders)
        for count in range(1, min(2, len(parts)) + 1)
        for kind, names in COMPANION_NAMES.items()
    )


def _output_folders(recognised: Mapping[str, OwnOutput]) -> set[tuple[str, str]]:
    """The folders that recognised files identify, with their kind."""
    folders = {(posixpath.dirname(path), own.kind) for path, own in recognised.items() if own.kind}
    return folders | {(posixpath.dirname(folder), "training") for folder, kind in folders if kind == "checkpoint"}


def _recognise_json_lines(data: bytes) -> OwnOutput | None:
    line = data.lstrip().partition(b"\n")[0]
    if not re.search(rb'"(?:augmentation_type|because|from_split|visibility)"', line):
        return None
    values = _parse_object(line)
    metadata = values.get("metadata")
    if isinstance(values.get("tokens"), list) and isinstance(metadata, dict) and "augmentation_type" in metadata:
        return OwnOutput("rows of a dataset")
    keys = set(values)
    if DROP_KEYS <= keys <= DROP_KEYS | {"things"} and str(values["step"]) in STEP_NAMES:
        return OwnOutput("drops of a dataset")
    return OwnOutput("facts of a dataset") if keys in (IMPORT_KEYS, SIGNATURE_KEYS) else None


def _recognise_json_object(data: bytes) -> OwnOutput | None:
    if b'"git-starcoder/' not in data and b'"augmentation_techniques"' not in data:
        return None
    values = _parse_object(data)
    if schema := SCHEMA_PATTERN.fullmatch(str(values.get("schema"))):
        return OwnOutput(f"output: {schema[1]}", _listed_sizes(values.get("files")))
    return OwnOutput("metadata of a dataset") if set(values) >= METADATA_KEYS else None


def _listed_sizes(files: Any) -> dict[str, int]:
    """The size of each listed file: `bytes` in manifests, `size` in checkpoints; -1 if it is not a number."""
    entries = cast("dict[str, Any]", files) if isinstance(files, dict) else {}
    tables = {name: cast("dict[str, Any]", entry) for name, entry in entries.items() if isinstance(entry, dict)}
    sizes = {name: table.get("bytes", table.get("size")) for name, table in tables.items()}
    return {name: size if isinstance(size, int) else -1 for name, size in sizes.items()}


def _parse_object(data: bytes) -> dict[str, Any]:
    """The values of a JSON object; empty if the data is none."""
    try:
        values = orjson.loads(data.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, Any]", values) if isinstance(values, dict) else {}
