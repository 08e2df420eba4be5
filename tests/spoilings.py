"""Ways to spoil a good dataset: for each check at least one that breaks its promise, and little else.

`benchmarks/checks.py` prints them in the documentation, and `tests/checks/test_spoilings.py` tries all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

import orjson

import planted
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

SPLITS = ("train", "val", "test")
ELITE = (
    "window.vocab_size=800", "window.size=[64, 128, 256]", "augment.ast_based=0.7", "augment.token_masking=0.3",
    "augment.temporal_context=0.9", "augment.cross_file_context=0.9",
)  # fmt: skip
"""The good dataset: the elite recipe with these settings."""


class Folder:
    """A dataset's folder to spoil."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, split: str = "train") -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in (self.path / f"training_data_{split}.jsonl").read_bytes().splitlines()]

    def write(self, rows: Iterable[dict[str, Any]], split: str = "train") -> None:
        """Replace the rows of a split, with new row numbers."""
        lines = b""
        for number, row in enumerate(rows):
            row["metadata"] |= {"seq_id": number, "split": split}
            lines += orjson.dumps(row) + b"\n"
        (self.path / f"training_data_{split}.jsonl").write_bytes(lines)

    def edit(self, name: str, change: Callable[[Any], Any]) -> None:
        """Change a JSON file by a function."""
        values = json.loads((self.path / name).read_text())
        change(values)
        (self.path / name).write_text(json.dumps(values))

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.path / name).read_text()
        assert old in text, f"{old!r} is not in {name}"
        (self.path / name).write_text(text.replace(old, new, 1))

    def sign(self) -> None:
        """Update the sizes and digests of the manifest, so that `digests` finds nothing."""

        def change(manifest: dict[str, Any]) -> None:
            for name, said in manifest["files"].items():
                data = (self.path / name).read_bytes()
                said.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
            manifest["digest"] = hashlib.sha256(
                orjson.dumps(manifest["files"], option=orjson.OPT_SORT_KEYS)
            ).hexdigest()

        self.edit("manifest.json", change)

    def recount(self) -> None:
        """Update all counts of the metadata and the manifest, so that `counts` finds nothing."""
        rows = {split: self.rows(split) for split in SPLITS}
        every = [row["metadata"] for part in rows.values() for row in part]
        kinds = Counter(about["augmentation_type"] for about in every)
        tokens = sum(about["length"] for about in every)

        def metadata(said: dict[str, Any]) -> None:
            said.update({f"{split}_sequences": len(part) for split, part in rows.items()})
            said["augmentation_techniques"] = {key: kinds[key] for key in said["augmentation_techniques"]}
            said.update(
                total_sequences=len(every), base_sequences=kinds["base"], total_tokens=tokens,
                augmented_sequences=len(every) - kinds["base"], git_diffs=kinds["git_diff"],
                avg_tokens_per_sequence=round(tokens / max(1, len(every)), 1),
            )  # fmt: skip

        def manifest(said: dict[str, Any]) -> None:
            for split, part in rows.items():
                said["files"][f"training_data_{split}.jsonl"]["rows"] = len(part)
            for step in said["steps"][4:]:
                step.update(seen=len(every), kept=len(every), dropped={})

        self.edit("dataset_metadata.json", metadata)
        self.edit("manifest.json", manifest)
        drops = (self.path / "drops.jsonl").read_bytes().splitlines(keepends=True)
        late = {"window", "dedup", "weigh", "order", "write"}
        kept = (line for line in drops if orjson.loads(line)["step"] not in late)
        (self.path / "drops.jsonl").write_bytes(b"".join(kept))


@dataclass(frozen=True)
class Spoiling:
    """A way to spoil a good dataset."""

    check: str
    what: str
    """A few words for the table."""
    spoil: Callable[[Folder], None]
    also: frozenset[str]
    """Other checks that must find it, too."""
    signed: bool
    source: bool
    """Whether the check finds it only with the repository."""


SPOILINGS: list[Spoiling] = []


def spoils(check: str, what: str, *also: str, signed: bool = True, source: bool = False) -> Callable[..., Any]:
    """Register a function as a spoiling that this check finds, that `also` find, and that no other check finds."""

    def register(function: Callable[[Folder], None]) -> Callable[[Folder], None]:
        SPOILINGS.append(Spoiling(check, what, function, frozenset(also), signed, source))
        return function

    return register


def first(rows: list[dict[str, Any]], wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    return next(row for row in rows if wanted(row["metadata"]))


def single(about: dict[str, Any]) -> bool:
    """Whether the row is the only one of its text."""
    return about["total_chunks"] == 1 and "hole" not in about


def base(about: dict[str, Any]) -> bool:
    return about["augmentation_type"] == "base"


def diff(about: dict[str, Any]) -> bool:
    return about["augmentation_type"] == "git_diff"


def alike(left: dict[str, Any], right: dict[str, Any]) -> bool:
    """Whether one row can replace the other without a change of any count."""
    keys = ("window_size", "length", "augmentation_type", "stage", "complexity", "context", "is_evolution")
    return all(left.get(key) == right.get(key) for key in keys)


@spoils("rows", "the weight of a row is a string instead of a number")
def _(folder: Folder) -> None:
    rows = folder.rows()
    rows[4]["metadata"]["weight"] = "3"
    folder.write(rows)


@spoils("rows", "the training file ends in the middle of its last row")
def _(folder: Folder) -> None:
    path = folder.path / "training_data_train.jsonl"
    path.write_bytes(path.read_bytes()[:-99])


@spoils("rows", "two rows are swapped, but their `seq_id` is not")
def _(folder: Folder) -> None:
    path = folder.path / "training_data_val.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[3], lines[2], *lines[4:]]))


@spoils("headers", "the recipe sets a header that the windows do not have")
def _(folder: Folder) -> None:
    folder.replace("recipe.yaml", "window:\n", "window:\n  header: name\n")


@spoils("files", "the validation file is a symbolic link to a file outside the dataset")
def _(folder: Folder) -> None:
    path = folder.path / "training_data_val.jsonl"
    elsewhere = folder.path.parent / "elsewhere.jsonl"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


@spoils("digests", "one byte of `drops.jsonl` is changed", signed=False)
def _(folder: Folder) -> None:
    path = folder.path / "drops.jsonl"
    data = bytearray(path.read_bytes())
    data[data.index(b'"id":"') + 6] ^= 1
    path.write_bytes(data)


@spoils("digests", "the tokenizer folder contains an extra file", signed=False)
def _(folder: Folder) -> None:
    (folder.path / "tokenizer" / "extra.py").write_text("")


@spoils("counts", "the last line of `drops.jsonl` is missing")
def _(folder: Folder) -> None:
    path = folder.path / "drops.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


@spoils("counts", "`seen` of a step is too high by one in the manifest")
def _(folder: Folder) -> None:
    folder.edit("manifest.json", lambda said: said["steps"][3].update(seen=said["steps"][3]["seen"] + 1))


@spoils("metadata", "the metadata state another `learning_strategy` than the recipe")
def _(folder: Folder) -> None:
    folder.edit("dataset_metadata.json", lambda said: said.update(learning_strategy="random"))


@spoils("metadata", "the metadata name another commit than the manifest")
def _(folder: Folder) -> None:
    folder.edit("dataset_metadata.json", lambda said: said.update(source_repo="git:" + "0" * 40))


@spoils("lengths", "a row has a token after its padding")
def _(folder: Folder) -> None:
    rows = folder.rows()
    first(rows, lambda about: about["length"] < about["window_size"])["tokens"][-1] = 99
    folder.write(rows)


@spoils("lengths", "the total number of tokens in the metadata is too high")
def _(folder: Folder) -> None:
    folder.edit("dataset_metadata.json", lambda said: said.update(total_tokens=said["total_tokens"] * 2))


@spoils("split_ratio", "the recipe sets other shares than the dataset has")
def _(folder: Folder) -> None:
    folder.replace("recipe.yaml", "train: 0.85\n  val: 0.1\n", "train: 0.45\n  val: 0.5\n")


@spoils("duplicates", "a row is replaced by a copy of another row")
def _(folder: Folder) -> None:
    rows = folder.rows()
    for at, row in enumerate(rows):
        twin = next((other for other in rows[:at] if alike(other["metadata"], row["metadata"])), None)
        if twin and row["metadata"]["total_chunks"] > 1 and base(row["metadata"]):
            rows[at] = twin | {"metadata": dict(twin["metadata"])}
            folder.write(rows)
            return


@spoils("near_duplicates", "the recipe sets the near-duplicate threshold to 0.25 instead of 0.95")
def _(folder: Folder) -> None:
    folder.replace("recipe.yaml", "near: 0.95", "near: 0.25")
    folder.edit("dataset_metadata.json", lambda said: said["deduplication"].update(near=0.25))


@spoils("curriculum", "training rows are shuffled")
def _(folder: Folder) -> None:
    rows = folder.rows()
    Random(0).shuffle(rows)
    folder.write(rows)


@spoils("curriculum", "a row of the first stage is labelled as one of the last stage")
def _(folder: Folder) -> None:
    rows = folder.rows("val")
    rows[0]["metadata"]["stage"] = 3
    folder.write(rows, "val")


@spoils("weights", "the weight of a row is doubled")
def _(folder: Folder) -> None:
    rows = folder.rows()
    rows[2]["metadata"]["weight"] *= 2
    folder.write(rows)


@spoils("weights", "the weights of rows from test files are raised to 1")
def _(folder: Folder) -> None:
    rows = folder.rows()
    for row in rows:
        row["metadata"]["weight"] = max(1.0, row["metadata"]["weight"])
    folder.write(rows)


@spoils("ages", "two rows of one commit have different ages")
def _(folder: Folder) -> None:
    rows = folder.rows("val")
    commits = Counter(row["metadata"]["commit"] for row in rows if not base(row["metadata"]))
    row = first(rows, lambda about: commits[about["commit"]] > 1 and single(about) and about["age_days"] < 50)
    row["metadata"]["age_days"] += 1
    folder.write(rows, "val")


@spoils("commits", "the commit of a row is `HEAD` instead of an id")
def _(folder: Folder) -> None:
    rows = folder.rows()
    sample = first(rows, base)["metadata"]["sample"]
    for row in rows:
        if row["metadata"]["sample"] == sample:
            row["metadata"]["commit"] = "HEAD"
    folder.write(rows)


@spoils("commits", "the number of commits in the metadata is too high")
def _(folder: Folder) -> None:
    folder.edit("dataset_metadata.json", lambda said: said.update(git_commits_analyzed=9_999))


@spoils("context_window", "the recipe sets another overlap than the windows have")
def _(folder: Folder) -> None:
    folder.replace("recipe.yaml", "overlap: 0.75", "overlap: 0.5")


@spoils("scales", "the first training rows all have the same window size")
def _(folder: Folder) -> None:
    rows = folder.rows()
    folder.write(sorted(rows, key=lambda row: (row["metadata"]["stage"], row["metadata"]["window_size"])))


@spoils("techniques", "the number of rows of a technique in the metadata is too high")
def _(folder: Folder) -> None:
    folder.edit("dataset_metadata.json", lambda said: said["augmentation_techniques"].update(ast_based=9_999))


@spoils("diversity", "more files have variations than the recipe's share allows")
def _(folder: Folder) -> None:
    folder.replace("recipe.yaml", "token_masking:\n    share: 0.3", "token_masking:\n    share: 0.001")


@spoils("diversity", "the number of `base` rows in the metadata is 0")
def _(folder: Folder) -> None:
    folder.edit("dataset_metadata.json", lambda said: said.update(base_sequences=0))


@spoils("diffs", "a row made from a commit has no commit message")
def _(folder: Folder) -> None:
    rows = folder.rows()
    del first(rows, diff)["metadata"]["commit_message"]
    folder.write(rows)


@spoils("diffs", "the old and the new text of a row are swapped", "controls")
def _(folder: Folder) -> None:
    tokenizer = tokenizers.load_tokenizer(folder.path / "tokenizer")
    before, after = (tokenizer.control_token_ids(mark)[0] for mark in ("<commit_before>", "<commit_after>"))
    rows = folder.rows()
    row = first(rows, lambda about: diff(about) and about["kind"] == "hunk")
    row["tokens"] = [{before: after, after: before}.get(token, token) for token in row["tokens"]]
    folder.write(rows)


@spoils("dependency_graph", "an edge is missing in the import graph")
def _(folder: Folder) -> None:
    path = folder.path / "imports.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


@spoils("dependency_graph", "the file of the import graph is missing", "contexts", "files", "secrets", signed=False)
def _(folder: Folder) -> None:
    folder.edit("manifest.json", lambda said: said["files"].pop("imports.jsonl"))
    (folder.path / "imports.jsonl").unlink()
    folder.sign()


@spoils("signatures", "the name of a symbol is not the one in its signature")
def _(folder: Folder) -> None:
    folder.replace("signatures.jsonl", '"name":"', '"name":"un')


@spoils("signatures", "the number of functions in the metadata is 0")
def _(folder: Folder) -> None:
    folder.edit("dataset_metadata.json", lambda said: said.update(function_signatures=0))


@spoils("file_sizes", "the JSON of rows has spaces between the tokens")
def _(folder: Folder) -> None:
    path = folder.path / "training_data_val.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in folder.rows("val")))


def swap(row: dict[str, Any], text: list[int], tokenizer: tokenizers.Tokenizer) -> None:
    """Replace the text of a row by another, as much as fits, and end it there."""
    about = row["metadata"]
    head = row["tokens"][: about.get("context", 0)]
    tokens = [*head, *text[: about["window_size"] - len(head) - 1], tokenizer.end_id]
    about["length"] = len(tokens)
    row["tokens"] = [*tokens, *[tokenizer.pad_id] * (about["window_size"] - len(tokens))]


def texts_of(folder: Folder, split: str) -> list[list[int]]:
    """The tokens of files that fit into one row, the longest first."""
    rows = [row for row in folder.rows(split) if single(row["metadata"]) and base(row["metadata"])]
    return sorted((row["tokens"][: row["metadata"]["length"] - 1] for row in rows), key=len, reverse=True)


def without_others(rows: list[dict[str, Any]], kept: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Remove other rows of the samples of the kept rows: their texts are also in windows of smaller sizes."""
    samples = {row["metadata"]["sample"] for row in kept}
    return [row for row in rows if row["metadata"]["sample"] not in samples or any(row is one for one in kept)]


@spoils("leak", "a row of the test split is also in the training split", "duplicates")
def _(folder: Folder) -> None:
    held, rows = first(folder.rows("test"), diff), folder.rows()
    row = first(rows, lambda about: diff(about) and about["window_size"] == held["metadata"]["window_size"])
    kept = {key: row["metadata"][key] for key in ("stage", "complexity")}
    row |= {"tokens": held["tokens"], "metadata": held["metadata"] | kept | {"sample": "0" * 32}}
    folder.write(rows)
    folder.recount()


@spoils("leak", "a training row has the leak group of a held-out file")
def _(folder: Folder) -> None:
    group = folder.rows("val")[0]["metadata"]["group"]
    rows = folder.rows()
    first(rows, diff)["metadata"]["group"] = group
    folder.write(rows)


@spoils("near_files", "the training split contains a copy of a held-out file with an edited end", "overlap")
def _(folder: Folder) -> None:
    tokenizer = tokenizers.load_tokenizer(folder.path / "tokenizer")
    text, rows = texts_of(folder, "val")[0], folder.rows()
    row = first(rows, lambda about: single(about) and base(about) and about["window_size"] == 256)
    own = row["tokens"][: row["metadata"]["length"] - 1]
    swap(row, [*text[: len(text) * 8 // 10], *own[: len(text) // 10]], tokenizer)
    folder.write(without_others(rows, [row]))
    folder.recount()


@spoils("overlap", "windows of held-out files replace training rows")
def _(folder: Folder) -> None:
    tokenizer = tokenizers.load_tokenizer(folder.path / "tokenizer")
    held = [row for split in ("val", "test") for row in folder.rows(split) if base(row["metadata"])]
    taken = [row["tokens"][: row["metadata"]["length"] - 1] for row in held if row["metadata"]["window_size"] == 256]
    rows = folder.rows()
    kinds = {"ast_based", "error_patterns", "type_annotations", "cross_file_context"}
    begins = {
        row["metadata"]["sample"]: row
        for row in sorted(rows, key=lambda row: row["metadata"]["window_size"])
        if row["metadata"]["augmentation_type"] in kinds and row["metadata"]["token_start"] == 0
    }
    swapped = list(zip(begins.values(), taken, strict=False))
    for row, text in swapped:
        row["metadata"]["total_chunks"] = 1
        swap(row, text[len(text) // 8 :], tokenizer)
    folder.write(without_others(rows, [row for row, _ in swapped]))
    folder.recount()


@spoils("held_out_lines", "a training row made from a commit shows lines of a held-out file", "overlap")
def _(folder: Folder) -> None:
    tokenizer = tokenizers.load_tokenizer(folder.path / "tokenizer")
    text, rows = texts_of(folder, "val")[0], folder.rows()
    row = first(rows, lambda about: diff(about) and about["window_size"] == 256)
    swap(row, text, tokenizer)
    folder.write(rows)
    folder.recount()


@spoils("controls", "a control token is inside a text")
def _(folder: Folder) -> None:
    tokenizer = tokenizers.load_tokenizer(folder.path / "tokenizer")
    rows = folder.rows()
    row = first(rows, diff)
    row["tokens"][row["metadata"]["length"] - 3] = tokenizer.control_token_ids("<file_sep>")[0]
    folder.write(rows)


@spoils("secrets", "a signature contains a GitHub access token")
def _(folder: Folder) -> None:
    secret = planted.KINDS["GITHUB_TOKEN"](Random("beside")).text
    folder.replace("signatures.jsonl", '"signature":"', f'"signature":"{secret} ')


@spoils("source", "one token of an unchanged file is replaced", source=True)
def _(folder: Folder) -> None:
    rows = folder.rows()
    row = first(rows, lambda about: single(about) and base(about) and about["length"] > 40)
    row["tokens"][30] = row["tokens"][31] = row["tokens"][29]
    folder.write(without_others(rows, [row]))
    folder.recount()


@spoils("source", "one token of a variation is replaced", source=True)
def _(folder: Folder) -> None:
    made_by = {"ast_based", "error_patterns", "type_annotations"}
    rows = folder.rows()
    row = first(rows, lambda about: single(about) and about["augmentation_type"] in made_by and about["length"] > 40)
    row["tokens"][30] = row["tokens"][31] = row["tokens"][29]
    folder.write(without_others(rows, [row]))
    folder.recount()


@spoils("texts", "two windows of a text have different tokens in their overlap")
def _(folder: Folder) -> None:
    rows = folder.rows()
    row = first(rows, lambda about: about["total_chunks"] > 2 and base(about) and about["chunk_index"] == 1)
    row["tokens"] = [row["tokens"][1], *row["tokens"][:-1]]
    folder.write(rows)


@spoils("origins", "the role of a row does not fit its path")
def _(folder: Folder) -> None:
    rows = folder.rows()
    about = first(rows, lambda about: diff(about) and about["priority"] == "medium")["metadata"]
    about["role"] = "utility" if about["role"] == "docs" else "docs"
    folder.write(rows)


@spoils("contexts", "a context prefix shows a declaration that the imported file does not have")
def _(folder: Folder) -> None:
    tokenizer = tokenizers.load_tokenizer(folder.path / "tokenizer")
    newline, letter = (tokenizer.encode([text])[0].tolist()[0] for text in (b"\n", b"q"))
    kind = "cross_file_context"
    split = next(
        split for split in SPLITS if any(row["metadata"]["augmentation_type"] == kind for row in folder.rows(split))
    )
    rows = folder.rows(split)
    shown = first(rows, lambda about: about["augmentation_type"] == kind)
    place = shown["tokens"].index(newline, shown["tokens"].index(newline) + 1) - 1  # behind the path: the first line
    for row in rows:
        if row["metadata"]["sample"] == shown["metadata"]["sample"]:
            row["tokens"][place] = letter
    folder.write(rows, split)


@spoils("contexts", "a signature in `signatures.jsonl` differs from the one in a context prefix")
def _(folder: Folder) -> None:
    path = folder.path / "signatures.jsonl"
    path.write_text(path.read_text().replace('"signature":"def make_', '"signature":"async def make_'))
