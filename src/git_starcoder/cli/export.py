"""`git starcoder export`: writes a model in the format of another program."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from git_starcoder import registry
from git_starcoder.cli.console import align_columns
from git_starcoder.cli.shared_options import PATH_TYPE, common_options
from git_starcoder.text.visible import escape_line

if TYPE_CHECKING:
    from pathlib import Path

    from git_starcoder.cli.console import Console
    from git_starcoder.errors import ExitCode


@click.command("export")
@click.argument("model_folder", metavar="MODEL", type=PATH_TYPE)
@click.option("--to", "target", required=True, type=click.Choice(registry.names("model/exports")),
              help="gguf for llama.cpp and programs built on it, ollama for Ollama, adapter for PEFT.")  # fmt: skip
@click.option("-o", "--out", type=PATH_TYPE, help="Folder to write (default: beside the model, MODEL_<format>).")
@click.option("--type", "number_type", metavar="TYPE",
              help="Number format of the weights: f16 (16 bits, default) or q8_0 (8 bits, half the size).")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace files of an earlier export even if you edited them.")
@common_options
def command(
    console: Console, model_folder: Path, target: str, out: Path | None, number_type: str | None, force: bool
) -> ExitCode:
    """Write a model in the format of another program.

    MODEL is the folder of the model. Only the network is exported: other programs cannot use the memory of the
    repository, nor choose parts of other files as context. `adapter` needs a model that was tuned with --tune lora
    or qlora.
    """
    from git_starcoder.model.exports import export

    result = export(model_folder, target, out, number_type=number_type, force=force)
    for note in result.notes:
        console.print_message(f"note: {note}")
    values = {**result._asdict(), "folder": str(result.folder), "to": target}
    sizes = align_columns([(f"  {name}", f"{size:,} bytes") for name, size in result.files.items()])
    return console.answer(values, "\n".join((escape_line(str(result.folder)), *sizes)))
