"""The reference pages, made from the code when the site is built: a hook of mkdocs."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
from typing import TYPE_CHECKING

import click
from mkdocs.structure.files import File

from git_starcoder import checks, cli, errors, recipe, registry
from git_starcoder.checks import metadata, rows
from git_starcoder.classic import config as classic
from git_starcoder.cli import commands
from git_starcoder.model import config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

EXIT_CODES = {
    errors.ExitCode.FINE: "all is well",
    errors.ExitCode.FOUND: "a check or a test found something",
    errors.ExitCode.USAGE: "wrong use or input; one line says what, where, and a hint",
    errors.ExitCode.BUG: "a bug of ours; the message names a file with the traceback",
    errors.ExitCode.INTERRUPTED: "interrupted",
    errors.ExitCode.BROKEN_PIPE: "the reader of the output went away",
}
KINDS = {
    "str": "text",
    "bool": "true or false",
    "int": "whole number from 0",
    "float": "number from 0",
    "Count": "whole number above 0",
    "Positive": "number above 0",
    "Share": "from 0 to below 1",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to the site."""
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def pages() -> dict[str, str]:
    """Markdown of each page, by name."""
    made = {
        "commands": ("Commands", _commands()),
        "recipe": ("Recipe keys", _recipe()),
        "config": ("Training keys", _config()),
        "shelves": ("Shelves", _shelves()),
        "rows": ("Row and metadata keys", _rows()),
        "checks": ("Checks", _checks()),
        "exit-codes": ("Exit codes", _exit_codes()),
    }
    return {name: f"# {title}\n\n" + "\n".join(lines) + "\n" for name, (title, lines) in made.items()}


def _table(head: str, rows: list[tuple[str, ...]]) -> Iterator[str]:
    cells = head.split("|")
    yield f"| {' | '.join(cells)} |"
    yield "|" + " --- |" * len(cells)
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


def _cell(text: str) -> str:
    """A text whose bars end no cell and whose smaller-than signs begin no tag; code is shown as it is."""
    parts = text.split("`")
    parts[::2] = [part.replace("|", r"\|").replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def _commands() -> Iterator[str]:
    group = commands.cli_group
    context = click.Context(group, info_name=cli.PROGRAM_NAME)
    yield f"What `{cli.PROGRAM_NAME} -h` and `{cli.PROGRAM_NAME} COMMAND -h` say. `-h` works everywhere.\n"
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None:
            yield from _command(command, click.Context(command, info_name=name, parent=context))


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}\n"
    yield f"```text\n{command.get_usage(context)}\n```\n"
    yield inspect.cleandoc(command.help or "") + "\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None:
                yield from _command(below, click.Context(below, info_name=name, parent=context))
        return
    found = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    yield from _table("flag|what it does", [(f"`{record[0]}`", record[1]) for record in found if record])


def _recipe() -> Iterator[str]:
    yield "A recipe is YAML 1.2 without repeated keys: a section for each step, and what is left out has the default."
    yield "`extends: NAME` starts from another. `git starcoder recipe show` prints one in full;"
    yield "`--set section.key=value` changes a key.\n"
    for kind in (recipe.Recipe, *(_section(field) for field in dataclasses.fields(recipe.Recipe))):
        if kind is None:
            continue
        top = kind is recipe.Recipe
        yield f"## {'the file itself' if top else kind.__name__.lower()}\n"
        yield inspect.cleandoc(kind.__doc__ or "") + "\n"
        about = _documented(kind)
        yield from _table(
            "key|kind|default|meaning",
            [(f"`{field.name}`", f"`{field.type}`", _default(field), about.get(field.name, ""))
             for field in dataclasses.fields(kind) if not (top and _section(field) not in {None, recipe.Augmentation})],
        )  # fmt: skip


def _config() -> Iterator[str]:
    yield "A training is said by YAML of these keys (`--config`), by `--set key=value`, and by flags of the same names,"
    yield "later ones over earlier ones. `training.yaml` in a model's folder has all of them as they were.\n"
    about, kinds = _documented(config.Config), _annotated(config.Config)
    yield from _table(
        "key|kind|default|meaning",
        [(f"`{key}`", kinds[key], f"`{json.dumps(field.default)}`", about.get(key, ""))
         for key, field in config.Config.model_fields.items()],
    )  # fmt: skip
    yield "## keys of the seeds' trainer\n"
    yield "`training_config_metal_cuda_universal.yaml` has these, and those above but for "
    yield ", ".join(f"`{key}` (`{theirs}`)" for key, theirs in classic.DECIDED.items()) + ". "
    yield ", ".join(f"`{theirs}` is `{ours}`" for theirs, ours in classic.SAME.items()) + ".\n"
    about, kinds = _documented(classic.Seeds), _annotated(classic.Seeds)
    yield from _table(
        "key|kind|default|meaning",
        [(f"`{key}`", kinds[key], f"`{json.dumps(field.default)}`", about.get(key, ""))
         for key, field in classic.Seeds.model_fields.items()],
    )  # fmt: skip


def _annotated(kind: type) -> dict[str, str]:
    """What each key of a config may be, in words."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101
    found: dict[str, str] = {}
    for field in body.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            words: list[str] = []
            for node in ast.walk(field.annotation):
                if isinstance(node, ast.Name) and node.id in KINDS:
                    words.append(KINDS[node.id])
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    words.append(f"`{node.value}`")
            found[field.target.id] = ", ".join(dict.fromkeys(words))
    return found


def _section(field: dataclasses.Field[object]) -> type | None:
    """The dataclass of a section, or of what it holds."""
    if field.name == "augment":
        return recipe.Augmentation
    found = getattr(recipe, str(field.type), None)
    return found if dataclasses.is_dataclass(found) and isinstance(found, type) else None


def _default(field: dataclasses.Field[object]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    return "none"


def _documented(kind: type) -> dict[str, str]:
    """The text below each field of a dataclass."""
    body = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(body, ast.ClassDef)  # noqa: S101
    found: dict[str, str] = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
            case _:
                pass
    return found


def _shelves() -> Iterator[str]:
    yield "A shelf is a folder of `src/git_starcoder`; the name of a file is its key, its first line is its help.\n"
    for name in ("augmentations", "evals"):
        yield f"## {name}\n"
        yield from _table("key|what it is", [(f"`{key}`", registry.summary(name, key)) for key in registry.names(name)])
    yield "## recipes\n"
    yield from _table(
        "key|what it is", [(f"`{key}`", recipe.Recipe.load(key).about) for key in registry.names("recipes")]
    )
    yield "## languages\n"
    yield ", ".join(f"`{key}`" for key in registry.names("languages")) + "; every other text is `text`."


def _rows() -> Iterator[str]:
    yield "What `git starcoder check` asks of every row and of the metadata. What the keys mean is said in"
    yield "[The dataset folder](../dataset.md).\n"
    for title, keys in (("metadata of every row", rows.KEYS), ("metadata of some rows", rows.OPTIONAL)):
        yield f"## {title}\n"
        yield from _table("key|kind", [(f"`{key}`", _kind(kind)) for key, kind in keys.items()])
    yield "## whole numbers of `dataset_metadata.json`\n"
    yield ", ".join(f"`{key}`" for key in metadata.COUNTS)


def _kind(kind: type | tuple[type, ...]) -> str:
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", list: "list"}
    return "number" if isinstance(kind, tuple) else names[kind]


def _checks() -> Iterator[str]:
    yield "`git starcoder check DATASET` runs all of them over one reading of the rows.\n"
    about = [(key, registry.summary("checks", key), registry.load("checks", key).SEEDS) for key in checks.names()]
    yield from _table(
        "check|promise|answers for these tests of the seeds",
        [(f"`{key}`", promise, ", ".join(f"`{name}`" for name in seeds)) for key, promise, seeds in about],
    )


def _exit_codes() -> Iterator[str]:
    yield from _table("code|meaning", [(str(int(code)), EXIT_CODES[code]) for code in errors.ExitCode])
    yield "## What can be wrong\n"
    yield "```text\n" + (errors.__doc__ or "").partition("\n\n")[2].strip() + "\n```"
