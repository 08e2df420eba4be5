"""Makes a base: a folder that training can start from. `make base BASE=NAME` calls it; see docs/how-to/base.md.

    python benchmarks/make_base.py fetch BASE WORK [--mirrors FOLDER]
    python benchmarks/make_base.py export BASE WORK MODEL DATASET [--memorisation FILE] [--languages FILE]

BASE is the folder of the base. Its file `sources.txt` has a line for each repository, with tabs between its parts: URL,
commit, SPDX identifier of the licence, name in the dataset, and `tokenizer` if the tokenizer is learned from this repository.
`fetch` clones the repositories into WORK/repositories, unless they are in the folder of mirrors, and writes two lists for
`git starcoder build --list`: of all repositories, and of those that the tokenizer is learned from.
`export` turns the model that was trained on the dataset into the base, with a card that has what `memorisation.py` and
`by_language.py` measured. It reads no clock, so it always writes the same bytes. Nothing else uses a network.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from git_starcoder import strict_config
from git_starcoder.bases import BASE_FILE, BASE_SCHEMA, BLOBS_FILE, Base, BaseSource
from git_starcoder.bases.blobs import BlobFilter
from git_starcoder.dataset import Dataset
from git_starcoder.dataset.contamination import text_bytes
from git_starcoder.dataset.held_out import load_documents
from git_starcoder.errors import DatasetError, StarcoderError, UsageError
from git_starcoder.model.card import CARD_FILE, sources_table
from git_starcoder.model.loading import read_training_record
from git_starcoder.model.weight_files import MODEL_CONFIG, WEIGHT_FILES
from git_starcoder.text.tokenizer import load_tokenizer

SOURCES_FILE = "sources.txt"
LIST_FILE = "repositories.txt"
"""In the work folder: the list for `git starcoder build --list`."""
TOKENIZER_LIST_FILE = "tokenizer_repositories.txt"
"""In the work folder: the same for the dataset whose tokenizer is used. The sample that a build takes by itself is stable
rather than balanced, and a base should know every language."""
TOKENIZER_MARK = "tokenizer"
FETCHED_FILE = "sources.json"
"""In the work folder: the sources with the dates of their commits."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
CURVE_FILE = "loss_curve.png"
OTHER_FILES = ("generation_config.json", CURVE_FILE)
MAX_BASE_BYTES = 25 << 20
MAX_FILTER_BYTES = 1 << 20
READ_SPLITS = ("train", "val")
"""What a base has read: the training split, and the val split, by which its weights were chosen."""

BY_LANGUAGE = """## Held-out text by language

Bits per byte of files of the test split. PPM (PPMd-24) has read as many bytes of training files of the language as the base,
and forgets each held-out file afterwards. Brackets are 95 % intervals. Where there is a star, the base has read more than the statistics
of PPM have room for. {note}

{table}

"""
"""A section of the card."""


class Source(NamedTuple):
    """A line of `sources.txt`."""

    url: str
    commit: str
    licence: str
    name: str
    teaches_tokenizer: bool


def read_sources(path: Path) -> list[Source]:
    """The lines of `sources.txt`."""
    sources: list[Source] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = [part.strip() for part in line.split("\t")]
        is_source = 4 <= len(parts) <= 5 and re.fullmatch(r"[0-9a-f]{40}", parts[1]) and all(parts)
        if not is_source or parts[4:] not in ([], [TOKENIZER_MARK]):
            hint = (
                f"URL, commit (40 hexadecimal digits), licence, name and perhaps `{TOKENIZER_MARK}`, with tabs between"
            )
            raise UsageError(f"{line!r} is not a source", where=f"{path}:{number}", hint=hint)
        sources.append(Source(*parts[:4], teaches_tokenizer=len(parts) == 5))
    for key in ("commit", "name"):
        ((value, count),) = Counter(getattr(source, key) for source in sources).most_common(1) or [("", 2)]
        if count > 1:
            raise UsageError(f"{key} '{value}' occurs twice, or there is no source", where=str(path))
    return sources


def git(*arguments: str | Path, folder: Path | None = None) -> str:
    """The output of a git command in a folder."""
    command = ["git", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"git {arguments[0]} failed: {done.stderr.strip()}", where=str(arguments[-1]))
    return done.stdout.strip()


def fetch(folder: Path, work: Path, mirrors: Path | None) -> None:
    """Clone what is not there yet, and write the list of repositories and the facts about them."""
    work.mkdir(parents=True, exist_ok=True)
    facts: list[dict[str, str]] = []
    lines: list[str] = []
    sources = read_sources(folder / SOURCES_FILE)
    for source in sources:
        mirror = mirrors / source.name if mirrors else None
        place = mirror if mirror and mirror.is_dir() else work / "repositories" / source.name
        if not place.is_dir():
            partial = place.with_name(f".{place.name}")
            shutil.rmtree(partial, ignore_errors=True)
            git("clone", "--quiet", "--bare", source.url, partial)
            partial.rename(place)
        seconds = int(git("show", "--no-patch", "--format=%ct", f"{source.commit}^{{commit}}", folder=place))
        date = datetime.fromtimestamp(seconds, UTC).isoformat()
        facts.append(
            {"url": source.url, "commit": source.commit, "licence": source.licence, "name": source.name, "date": date}
        )
        lines.append(f"{place.absolute()}\t{source.commit}\t{source.name}\n")
    marked = [line for line, source in zip(lines, sources, strict=True) if source.teaches_tokenizer]
    (work / LIST_FILE).write_text("".join(lines), encoding="utf-8")
    (work / TOKENIZER_LIST_FILE).write_text("".join(marked), encoding="utf-8")
    (work / FETCHED_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def export(
    folder: Path, work: Path, model: Path, dataset: Dataset, memorisation: dict[str, Any] | None = None,
    languages: dict[str, Any] | None = None,
) -> Base:  # fmt: skip
    """Write the base of a trained model into a folder, beside the files that it is made from.

    `memorisation` and `languages` are what `memorisation.py` and `by_language.py` printed.
    """
    training = read_training_record(model)
    if training["dataset"] != dataset.digest:
        raise DatasetError("the model was trained on another dataset", where=str(model))
    if training["config"]["base"] is not None:
        raise DatasetError("the model was not trained from scratch", where=str(model))
    for name in (MODEL_CONFIG, *OTHER_FILES, *TOKENIZER_FILES):
        if (model / name).is_file():
            shutil.copyfile(model / name, folder / name)
    write_weights(model, folder)
    blobs = BlobFilter.build(
        str(row["blob"]) for split in READ_SPLITS for row in dataset.row_metadata(split) if row.get("blob")
    )
    blobs.save(folder / BLOBS_FILE)
    sources = find_sources(dataset, json.loads((work / FETCHED_FILE).read_text(encoding="utf-8")))
    recipe = strict_config.load((dataset.folder / "recipe.yaml").read_text(encoding="utf-8"))
    record = {
        "schema": BASE_SCHEMA,
        "name": folder.name,
        "about": f"{training['parameters'] / 1e6:.1f} million parameters, trained on {len(sources):,} repositories",
        "date": max(source.date for source in sources),
        "parameters": training["parameters"],
        "window": dataset.metadata["max_tokens_per_sequence"],
        "weights": digest(folder / WEIGHT_FILES[0]),
        "tokenizer": load_tokenizer(folder).digest,
        "dataset": dataset.digest,
        "dataset_tokens": dataset.metadata["total_tokens"],
        "steps": training["result"]["steps"],
        "tokens": training["result"]["tokens"],
        "held_out": training["result"]["held_out"],
        "blobs": {"files": len(blobs.keys), "false_positive_rate": blobs.false_positive_rate},
        "memorisation": memorisation,
        "languages": languages,
        "sources": [source._asdict() for source in sources],
        "recipe": recipe,
        "config": training["config"],
        "versions": training["versions"],
    }
    (folder / BASE_FILE).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    base = Base.open(folder)
    (folder / CARD_FILE).write_text(render_card(base), encoding="utf-8")
    refuse_large_files(folder)
    return base


def write_weights(model: Path, folder: Path) -> None:
    """Write the weights of a model in bfloat16, and the configuration that says so."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = {name: value.to(torch.bfloat16) for name, value in load_file(model / WEIGHT_FILES[0]).items()}
    save_file(weights, folder / WEIGHT_FILES[0], metadata={"format": "pt"})
    config = json.loads((folder / MODEL_CONFIG).read_text(encoding="utf-8"))
    config["dtype"] = config["torch_dtype"] = "bfloat16"
    (folder / MODEL_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def find_sources(dataset: Dataset, fetched: list[dict[str, str]]) -> list[BaseSource]:
    """The repositories of a dataset, with what the base has read of each."""
    known = {source["commit"]: source for source in fetched}
    tokenizer = load_tokenizer(dataset.tokenizer_folder)
    repositories = list_repositories(dataset)
    files, sizes = Counter[str](), Counter[str]()
    for split in READ_SPLITS:
        documents = load_documents(dataset, split)
        names = [document.path.partition("/")[0] if len(repositories) > 1 else "" for document in documents]
        files.update(name for name, _ in {*zip(names, (document.path for document in documents), strict=True)})
        for name, document in zip(names, documents, strict=True):
            sizes[name] += text_bytes(document.tokens, tokenizer)
    sources: list[BaseSource] = []
    for name, commit in sorted(repositories.items()):
        if commit not in known:
            hint = f"add its commit to {SOURCES_FILE}, and run `fetch` again"
            raise DatasetError(f"no source has the commit {commit} of '{name}'", where=FETCHED_FILE, hint=hint)
        source, key = known[commit], name if len(repositories) > 1 else ""
        about = (source["url"], commit, source["date"], source["licence"])
        sources.append(BaseSource(source["name"], *about, files[key], sizes[key]))
    return sources


def list_repositories(dataset: Dataset) -> dict[str, str]:
    """The commit of each repository of a dataset, by the name that its paths begin with if there are several."""
    path = dataset.folder / "repositories.jsonl"
    if not path.is_file():
        return {"": dataset.manifest["commit"]}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {line["repository"]: line["commit"] for line in lines if line["result"] == "kept"}


def render_card(base: Base) -> str:
    """The card of a base."""
    record = base.record
    header = {
        "license": "apache-2.0",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["code", "git", "git-starcoder"],
    }
    held_out = record["held_out"]
    quality = "" if held_out is None else f" It needs {held_out:.3f} bits per byte of the validation text."
    memorisation = record["memorisation"]
    remembered = "This was not measured." if memorisation is None else memorisation["line"]
    languages = record.get("languages")
    by_language = "" if languages is None else BY_LANGUAGE.format(**languages)
    curve = f"![Loss of training and validation]({CURVE_FILE})\n\n" if (base.folder / CURVE_FILE).is_file() else ""
    return f"""---
{strict_config.dump(header)}---

# The base `{record["name"]}`

A small code model from which `git starcoder train --base {record["name"]}` starts: {base.about}. It saw
{record["tokens"]:,} tokens in {record["steps"]:,} steps, in rows of up to {base.window:,} tokens that were drawn from a
dataset of {record["dataset_tokens"]:,} tokens.{quality}

The weights are in bfloat16; their SHA-256 is `{base.weights_digest}`. `base.json` says how the base was made, and
`make base BASE={record["name"]}` makes a base like it from `sources.txt`.

{curve}{by_language}## What it has read

`blobs.npy` holds the first 32 bits of the id of each of the {record["blobs"]["files"]:,} files that rows were drawn from, as
`git hash-object FILE` prints it. All of them count as read. Scores of a model that was trained from this base leave these files out. A file that was
changed since is not recognised, however small the change.

Secrets were redacted before training. The model may still repeat what it has read. {remembered}

## Sources

{sources_table(base)}"""


def refuse_large_files(folder: Path) -> None:
    """Raise an error if a base is too large for the package."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    for name, size, limit in (
        (BLOBS_FILE, sizes[BLOBS_FILE], MAX_FILTER_BYTES),
        ("the base", sum(sizes.values()), MAX_BASE_BYTES),
    ):
        if size > limit:
            raise UsageError(f"{name} has {size:,} bytes, and the package has room for {limit:,}", where=str(folder))


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Run a command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("fetch", "export"):
        command = commands.add_parser(name)
        command.add_argument("base", type=Path)
        command.add_argument("work", type=Path)
        if name == "fetch":
            command.add_argument("--mirrors", type=Path)
        else:
            command.add_argument("model", type=Path)
            command.add_argument("dataset", type=Path)
            command.add_argument("--memorisation", type=Path)
            command.add_argument("--languages", type=Path)
    arguments = parser.parse_args()
    try:
        if arguments.command == "fetch":
            fetch(arguments.base, arguments.work, arguments.mirrors)
            return
        memorisation, languages = (
            json.loads(path.read_text(encoding="utf-8")) if path else None
            for path in (arguments.memorisation, arguments.languages)
        )
        dataset = Dataset.open(arguments.dataset)
        base = export(arguments.base, arguments.work, arguments.model, dataset, memorisation, languages)
        print(f"{base.folder}: {base.about}")
    except StarcoderError as error:
        sys.exit(f"error: {error.what}\n  in {error.where}\nhint: {error.hint}")


if __name__ == "__main__":
    main()
