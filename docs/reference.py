"""Generates the reference pages from the code when the site is built. It is a hook of mkdocs."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
from typing import TYPE_CHECKING, Any, ForwardRef

import click
from mkdocs.structure.files import File

import git_starcoder
from git_starcoder import bases, checks, cli, errors, evals, recipe, registry
from git_starcoder.checks import files, rows
from git_starcoder.checks.seed_suites import answered_tests
from git_starcoder.cli import seed_trainer_script, shared_options
from git_starcoder.model import config, exports
from git_starcoder.strict_config import describe_type, field_types

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

EXIT_CODES = {
    errors.ExitCode.SUCCESS: "success",
    errors.ExitCode.FINDINGS: "a check found an error in the dataset",
    errors.ExitCode.USAGE_ERROR: "invalid usage or input; a line names the problem, its place and a hint",
    errors.ExitCode.BUG: "a bug in git-starcoder; the message names a file with the traceback",
    errors.ExitCode.INTERRUPTED: "interrupted, for example with Ctrl-C",
    errors.ExitCode.BROKEN_PIPE: "the program that reads the output has closed the pipe",
    errors.ExitCode.TERMINATED: "ended by SIGTERM, for example by `timeout` or a scheduler",
}
EXAMPLES = {
    "build": """\
from git_starcoder import Recipe, build

recipe = Recipe.load("natural", ("window.size=256", "seed=7"))
dataset = build(".", recipe, "dataset")
print(dataset.metadata["total_sequences"], "rows")
""",
    "show": """\
from git_starcoder import show

overview = show("dataset")
print(overview.splits["train"], "training rows,", sum(drop.drops for drop in overview.drops), "drops")
row = show("dataset", "train:0")
print(row.facts["file"], row.facts["weight"])
""",
    "check": """\
from git_starcoder import Dataset, check

for outcome in check(Dataset.open("dataset")):
    for finding in outcome.findings:
        print(outcome.check, finding.where, finding.what)
""",
    "train": """\
from git_starcoder import Dataset, TrainConfig, train

result = train(Dataset.open("dataset"), "model", TrainConfig(size="0.2M", steps=2))
print(result.steps, "steps,", result.loss, "bits per token")
""",
    "evaluate": """\
from git_starcoder import Dataset, evaluate

scores = evaluate("model", Dataset.open("dataset"), seconds=2)
for score in scores.scores:
    print(score.subject, score.measure, score.value)
""",
    "complete": """\
from git_starcoder import complete

print(complete("model", "def load(path):\\n", max_tokens=16))
""",
    "Model": """\
from git_starcoder import Model

model = Model.open("model")
print(model.complete("def load(", suffix="return text", max_tokens=16))
print(model.bits_per_byte("def load(path):\\n    return path.read_text()\\n"))
""",
    "Dataset": """\
from git_starcoder import Dataset

dataset = Dataset.open("dataset")
for row in dataset.rows("val"):
    print(row.metadata["source_file"], len(row.tokens))
""",
    "Recipe": """\
from git_starcoder import Recipe, RecipeError

print(Recipe.load("elite").to_yaml())
try:
    Recipe.load("elite", ("window.sise=256",))
except RecipeError as error:
    print(error.what, error.where, error.hint)  # unknown key 'sise' --set window.sise did you mean 'size'?
""",
}
"""Examples of the Python page, in the order in which they run in one folder; a test runs them."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages to the site."""
    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def pages() -> dict[str, str]:
    """The Markdown of each page, by name."""
    contents = {
        "commands": ("Commands", _commands_page()),
        "recipe": ("Recipe keys", _recipe_page()),
        "config": ("Training keys", _config_page()),
        "python": ("Python", _python_page()),
        "registries": ("Registries", _registries_page()),
        "rows": ("Row and metadata keys", _rows_page()),
        "checks": ("Checks", _checks_page()),
        "exit-codes": ("Exit codes", _exit_codes_page()),
    }
    return {name: f"# {title}\n\n" + "\n".join(lines) + "\n" for name, (title, lines) in contents.items()}


def _type_name(annotation: Any) -> str:
    """The text of an annotation, which a `TypedDict` holds as a `ForwardRef`."""
    return annotation.__forward_arg__ if isinstance(annotation, ForwardRef) else str(annotation)


def _table(head: str, rows: list[tuple[str, ...]]) -> Iterator[str]:
    """The lines of a Markdown table; `head` has the column titles with bars between them."""
    titles = head.split("|")
    yield f"| {' | '.join(titles)} |"
    yield "|" + " --- |" * len(titles)
    for row in rows:
        yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


def _cell(text: str) -> str:
    """A text in which `|` ends no cell and `<` begins no tag, except in code."""
    parts = text.split("`")
    parts[::2] = [part.replace("|", r"\|").replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def _commands_page() -> Iterator[str]:
    group = shared_options.cli_group
    context = click.Context(group, info_name=cli.PROGRAM_NAME)
    yield f"The help of `{cli.PROGRAM_NAME} -h` and `{cli.PROGRAM_NAME} COMMAND -h`. `-h` works everywhere.\n"
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
    records = [parameter.get_help_record(context) for parameter in command.get_params(context)]
    yield from _table("flag|what it does", [(f"`{record[0]}`", record[1]) for record in records if record])


def _recipe_page() -> Iterator[str]:
    yield "A recipe is a YAML 1.2 file with one section per step. A key that you leave out has the default value below."
    yield "`extends: NAME` starts from another recipe, and `--set section.key=value` changes one key."
    yield "`git starcoder recipe show NAME` prints a recipe with all its keys.\n"
    sections: dict[str, type] = {"the file itself": recipe.Recipe}
    for key, kind in field_types(recipe.Recipe).items():
        if key == "augment":
            sections[key] = recipe.AugmentationOptions
        elif dataclasses.is_dataclass(kind) and isinstance(kind, type):
            sections[key] = kind
    for title, kind in sections.items():
        yield f"## {title}\n"
        yield inspect.cleandoc(kind.__doc__ or "") + "\n"
        skipped = sections if kind is recipe.Recipe else ()
        yield from _table("key|kind|default|meaning", [row for row in _keys(kind) if row[0].strip("`") not in skipped])


def _config_page() -> Iterator[str]:
    yield "Set these keys in a YAML file (`--config`), with `--set key=value`, or, for some keys, with a flag"
    yield "(`git starcoder train -h` lists them). Flags override `--set`, and `--set` overrides the file."
    yield "`training.yaml` in a model's folder has all keys that the training used.\n"
    yield from _table("key|kind|default|meaning", _keys(config.TrainConfig))
    yield "## Keys of the original trainer\n"
    yield "`training_config_metal_cuda_universal.yaml`, the config of the original trainer, may have the keys of this "
    yield "table and all keys above, except those that a key of this table replaces: "
    yield ", ".join(f"`{key}` (`{theirs}`)" for key, theirs in seed_trainer_script.DERIVED_KEYS.items()) + ". "
    yield "Some keys have another name there: "
    yield ", ".join(f"`{theirs}` is `{ours}`" for theirs, ours in seed_trainer_script.RENAMED_KEYS.items()) + ".\n"
    yield from _table("key|kind|default|meaning", _keys(seed_trainer_script.SeedKeys))


def _keys(kind: type) -> list[tuple[str, str, str, str]]:
    """Key, kind, default and meaning of each field of a config that is not a section."""
    meanings, hints = _field_docstrings(kind), field_types(kind)
    found: list[tuple[str, str, str, str]] = []
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]) or field.default is dataclasses.MISSING:
            continue
        default = "see meaning" if field.default is config._BY_BASE else f"`{json.dumps(field.default)}`"  # noqa: SLF001
        found.append((f"`{field.name}`", describe_type(hints[field.name]), default, meanings.get(field.name, "")))
    return found


def _field_docstrings(kind: type) -> dict[str, str]:
    """The text below each field of a class."""
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


def _python_page() -> Iterator[str]:
    yield "The package `git_starcoder` has these public names. Each is typed, and is imported when it is first used.\n"
    functions = [name for name in EXAMPLES if inspect.isfunction(getattr(git_starcoder, name))]
    kinds = {name: getattr(git_starcoder, name) for name in git_starcoder.__all__ if name not in functions}
    exceptions = {name: kind for name, kind in kinds.items() if issubclass(kind, Exception)}
    for name in functions:
        yield from _function(name, getattr(git_starcoder, name), "##")
        yield f"```python\n{EXAMPLES[name]}```\n"
    for name in sorted(kinds.keys() - exceptions.keys(), key=lambda name: (name not in EXAMPLES, name)):
        yield from _class(name, kinds[name])
    yield "## Errors\n"
    yield "Each error has the attributes `what` (the problem), `where` (its place) and `hint` (what to do).\n"
    yield from _table("error|meaning", [(f"`{name}`", _summary(kind)) for name, kind in exceptions.items()])


def _class(name: str, kind: type[Any]) -> Iterator[str]:
    yield f"## {name}\n"
    yield inspect.cleandoc(kind.__doc__ or "").partition("\n\nExample")[0] + "\n"
    if name in EXAMPLES:
        yield f"```python\n{EXAMPLES[name]}```\n"
    page = {"Recipe": "[Recipe keys](recipe.md)", "TrainConfig": "[Training keys](config.md)"}.get(name)
    fields = dict.fromkeys(getattr(kind, "__annotations__", {}))
    if page:
        yield f"Its fields are the keys on the page {page}.\n"
    elif fields:
        meanings = _field_docstrings(kind)
        types = {field: _type_name(kind.__annotations__[field]) for field in fields if not field.startswith("_")}
        yield from _table("field|type|meaning", [(f"`{field}`", f"`{text}`", meanings.get(field, ""))
                                                 for field, text in types.items()])  # fmt: skip
    for member, value in vars(kind).items():
        function = value.__func__ if isinstance(value, classmethod) else value
        if inspect.isfunction(function) and not member.startswith("_") and function.__doc__:
            yield from _function(f"{name}.{member}", function, "###")
        elif isinstance(value, property) and value.fget is not None and value.__doc__:
            yield f"### {name}.{member}\n\n{inspect.cleandoc(value.__doc__)}\n"


def _function(name: str, function: Any, heading: str) -> Iterator[str]:
    """The signature and the docstring of a function."""
    summary, sections = _docstring(function)
    signature = inspect.signature(function)
    arguments: list[str] = []
    keyword_only = False
    for parameter in signature.parameters.values():
        if parameter.name in {"self", "cls"}:
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            arguments.append("*")
            keyword_only = True
        stars = {parameter.VAR_KEYWORD: "**", parameter.VAR_POSITIONAL: "*"}.get(parameter.kind, "")
        default = parameter.default
        plain = isinstance(default, str | int | float | tuple | None)
        shown = "" if default is parameter.empty else f" = {default!r}" if plain else " = ..."
        arguments.append(f"{stars}{parameter.name}: {parameter.annotation}{shown}")
    code = f"{name}({', '.join(arguments)}) -> {signature.return_annotation}"
    if len(code) > 100:
        lines = "".join(f"    {argument},\n" for argument in arguments)
        code = f"{name}(\n{lines}) -> {signature.return_annotation}"
    yield f"{heading} {name}\n\n```text\n{code}\n```\n\n{summary}\n"
    for title, head in (("Args", "argument"), ("Raises", "error")):
        if title in sections:
            yield from _table(f"{head}|meaning", sections[title])


def _docstring(function: Any) -> tuple[str, dict[str, list[tuple[str, str]]]]:
    """The text of a docstring before its sections, and the items of the sections (`Args:`, `Raises:`)."""
    text = inspect.cleandoc(function.__doc__ or "")
    parts = re.split(r"^(Args|Raises|Returns|Yields|Example):\n", text, flags=re.MULTILINE)
    sections: dict[str, list[tuple[str, str]]] = {}
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        items = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", body, flags=re.MULTILINE)
        sections[title] = [(f"`{name}`", " ".join(meaning.split())) for name, meaning in items]
    return parts[0].strip(), sections


def _summary(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "").partition("\n")[0]


def _registries_page() -> Iterator[str]:
    yield "A registry is a folder of `src/git_starcoder` in which each file is one entry. The file name is the key."
    yield "Evals are functions instead of files; the decorator `evaluation` names the key.\n"
    tables = {
        "augmentations": {key: registry.summary("augmentations", key) for key in registry.names("augmentations")},
        exports.REGISTRY: {key: registry.summary(exports.REGISTRY, key) for key in registry.names(exports.REGISTRY)},
        "evals": {key: _summary(function) for key, function in evals.load_evals().items()},
    }
    for name, summaries in tables.items():
        yield f"## {name}\n"
        yield from _table("key|what it is", [(f"`{key}`", summary) for key, summary in summaries.items()])
    yield "## recipes\n"
    recipes = [(f"`{key}`", recipe.Recipe.load(key).about) for key in registry.names("recipes")]
    yield from _table("key|what it is", recipes)
    yield "## bases\n"
    found = [(f"`{key}`", bases.Base.open(registry.base_folder(key)).about) for key in registry.names("bases")]
    yield from _table("key|what it is", found) if found else ["There is no base yet. A base is a folder, not a file.\n"]
    yield "## languages\n"
    yield (
        ", ".join(f"`{key}`" for key in registry.names("languages"))
        + ". Text in any other language has the language `text`."
    )


def _rows_page() -> Iterator[str]:
    yield "The keys that `git starcoder check` expects in every row and in the metadata."
    yield "[The dataset folder](../dataset.md) explains them.\n"
    for title, keys in (("metadata of every row", rows.REQUIRED_KEYS), ("metadata of some rows", rows.OPTIONAL_KEYS)):
        yield f"## {title}\n"
        yield from _table("key|kind", [(f"`{key}`", _kind(kind)) for key, kind in keys.items()])
    yield "## whole numbers of `dataset_metadata.json`\n"
    yield ", ".join(f"`{key}`" for key in files.INTEGER_METADATA_KEYS)


def _kind(kind: type | tuple[type, ...]) -> str:
    names = {int: "whole number", float: "number", str: "text", bool: "true or false", list: "list"}
    return "number" if isinstance(kind, tuple) else names[kind]


def _checks_page() -> Iterator[str]:
    yield "`git starcoder check DATASET` reads the rows once and runs all of these checks.\n"
    about = [(key, each.promise, answered_tests(key)) for key, each in checks.check_classes().items()]
    yield from _table(
        "check|promise|original tests that it replaces",
        [(f"`{key}`", promise, ", ".join(f"`{name}`" for name in seeds)) for key, promise, seeds in about],
    )


def _exit_codes_page() -> Iterator[str]:
    yield from _table("code|meaning", [(str(int(code)), EXIT_CODES[code]) for code in errors.ExitCode])
    yield "## What can be wrong\n"
    yield "```text\n" + (errors.__doc__ or "").partition("\n\n")[2].strip() + "\n```"
