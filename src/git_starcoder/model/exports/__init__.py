"""Registry: every other file here is one format in which a model leaves for another program.

A module offers

- `NUMBER_TYPES`: the types of numbers in which it can write weights, the default first; empty if it writes none;
- `write(model_folder, folder, number_type) -> list[str]`: write the files into a new folder, and return what the user
  should know about them, one sentence each.

An export is an output folder with the marker `export.json`. Its bytes depend only on the model.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Protocol, cast

import orjson

from git_starcoder import registry
from git_starcoder.errors import DatasetError, UsageError
from git_starcoder.model.base_lineage import BaseLineage
from git_starcoder.model.card import CARD_FILE, render_export_card
from git_starcoder.model.loading import MODEL_HINT, TRAINING_RECORD, read_training_record
from git_starcoder.model.weight_files import MODEL_CONFIG, hint_of_model_inside
from git_starcoder.model.with_context import CONTEXT_FOLDER
from git_starcoder.model.with_memory import MEMORY_FOLDER
from git_starcoder.output.contents import OutputKind, describe_files
from git_starcoder.output.folder import atomic_folder
from git_starcoder.text.tokenizer import summarize_error

REGISTRY = "model/exports"
MARKER_FILE = "export.json"
EXPORT_SCHEMA = "git-starcoder/export/1"
EXPORT_KIND = OutputKind(
    "export", "export", MARKER_FILE, EXPORT_SCHEMA.rstrip("0123456789"), frozenset({MARKER_FILE, CARD_FILE})
)


class Format(Protocol):
    """A module of this registry."""

    NUMBER_TYPES: tuple[str, ...]

    def write(self, model_folder: Path, folder: Path, number_type: str) -> list[str]:
        """Write the files of the export; see the top of this module."""
        ...


class ExportResult(NamedTuple):
    """An export that was written. The names are keys of the JSON output."""

    folder: Path
    files: dict[str, int]
    """The size of each file in bytes, without the marker."""
    notes: list[str]
    """What the user should know, one sentence each."""


def export(
    model_folder: str | Path, target: str, out: str | Path | None = None, *, number_type: str | None = None,
    force: bool = False,
) -> ExportResult:  # fmt: skip
    """Write a model in the format of another program.

    Args:
        model_folder: The folder of a causal model that transformers reads, such as `train` writes.
        target: The format: a name of this registry.
        out: The folder to write; by default beside the model, called `MODEL_target`.
        number_type: The type of the weights, one of the format's `NUMBER_TYPES`.
        force: Whether files of an earlier export are replaced even if they were changed since.

    Raises:
        UsageError: There is no such format or type, or the format cannot express this model or its tokenizer.
        DatasetError: The folder is not a model, or it is damaged.
        OutputError: The folder cannot be written.
        MissingExtraError: A library that the format needs is not installed.
    """
    model_folder = Path(model_folder)
    known = registry.names(REGISTRY)
    if target not in known:
        raise UsageError(f"there is no format '{target}'", where="--to", hint=registry.suggest(target, known))
    made = cast("Format", registry.load(REGISTRY, target))
    if number_type is not None and number_type not in made.NUMBER_TYPES:
        choice = f"known: {', '.join(made.NUMBER_TYPES)}" if made.NUMBER_TYPES else "leave it out: nothing is converted"
        raise UsageError(f"{target} has no type '{number_type}'", where="--type", hint=choice)
    if not (model_folder / MODEL_CONFIG).is_file():
        what = f"'{model_folder}' is not a model: it has no {MODEL_CONFIG}"
        raise DatasetError(what, where=str(model_folder), hint=hint_of_model_inside(model_folder) or MODEL_HINT)
    place = model_folder.resolve()
    out = place.with_name(f"{place.name}_{target}") if out is None else Path(out)
    number_type = number_type or next(iter(made.NUMBER_TYPES), "")
    with atomic_folder(out, EXPORT_KIND, lambda _: None, force=force) as (folder, _):
        notes = made.write(model_folder, folder, number_type)
        if (model_folder / TRAINING_RECORD).is_file():
            (folder / CARD_FILE).write_text(_render_card(model_folder, target), encoding="utf-8")
        files = describe_files(folder)
        marker = {"schema": EXPORT_SCHEMA, "target": target, "type": number_type or None, "files": files}
        (folder / MARKER_FILE).write_bytes(orjson.dumps(marker, option=orjson.OPT_INDENT_2) + b"\n")
    if left_out := [name for name in (MEMORY_FOLDER, CONTEXT_FOLDER) if (model_folder / name).exists()]:
        notes.append(f"not exported: {' and '.join(left_out)}, which only git-starcoder can use")
    return ExportResult(out, {name: int(file["bytes"]) for name, file in files.items()}, notes)


def _render_card(model_folder: Path, target: str) -> str:
    """The card of the export. It names the sources of a base, as their licences demand."""
    try:
        record = read_training_record(model_folder)
        return render_export_card(record, BaseLineage.of_model(model_folder, record), target)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"'{model_folder}' is damaged: its {TRAINING_RECORD} cannot be read"
        raise DatasetError(what, where=summarize_error(error)) from error
