"""Writes the card of a model: what it was trained on, which base it goes back to, and the sources of this base."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from git_starcoder import strict_config
from git_starcoder.evals import BASE, BITS_PER_BYTE, NETWORK
from git_starcoder.text.visible import escape_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from git_starcoder.bases import Base
    from git_starcoder.model.base_lineage import BaseLineage

CARD_FILE = "README.md"


def render_card(record: Mapping[str, Any], lineage: BaseLineage | None, scores: Mapping[str, Any] | None = None) -> str:
    """The card of a model, from its training record, what it was tuned from, and the scores of its last evaluation."""
    header: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["code", "git", "git-starcoder"],
    }
    held_out = record["result"]["held_out"]
    quality = "" if held_out is None else f" It needs {held_out:.3f} bits per byte of the validation text."
    if record["result"].get("kept_step") == 0:
        quality += " No step lowered the validation loss, so the weights are those before training."
    training = f"{record['parameters']:,} parameters in {record['result']['steps']:,} steps"
    parts = [
        f"---\n{strict_config.dump(header)}---\n\n# {_title(record)}\n",
        f"git-starcoder trained {training} on the dataset {record['dataset'][:12]}.{quality}\n",
        "`training.json` and `training.yaml` say how.\n",
        "The folder `memory/` contains the text of the repository. Whoever has the model can read the repository.\n",
        *_score_parts(scores),
        *_lineage_parts(lineage),
    ]
    return "\n".join(parts)


def render_export_card(record: Mapping[str, Any], lineage: BaseLineage | None, target: str) -> str:
    """The card of an exported model, which has only the network of the model that the record is of."""
    parts = [
        f"# {_title(record)}, for {target}\n",
        f"Exported by git-starcoder from a model of the dataset {record['dataset'][:12]}.\n",
        *_lineage_parts(lineage),
    ]
    return "\n".join(parts)


def _title(record: Mapping[str, Any]) -> str:
    repository = record.get("repository")
    return f"A model of {_as_code(repository)}" if repository else "A small code model"


def _score_parts(scores: Mapping[str, Any] | None) -> list[str]:
    """What the network needs for held-out text, next to its base before tuning."""
    if scores is None:
        return []
    overall = [each for each in scores["scores"] if each["measure"] == BITS_PER_BYTE and not each["by"]]
    per_byte = {each["subject"]: each["value"] for each in overall}
    if not per_byte.keys() >= {NETWORK, BASE}:
        return []
    pairs = scores["comparisons"]
    pair = next(each for each in pairs if (each["subject"], each["reference"]) == (NETWORK, BASE))
    interval = "" if pair["low"] is None else f" (95 % interval {pair['low']:.3f} to {pair['high']:.3f})"
    counted = f"{scores['files']:,} of {scores['of']:,} {scores['split']} files"
    network = f"the network needs {per_byte[NETWORK]:.3f} bits per byte"
    base = f"the base before tuning {per_byte[BASE]:.3f}: a share of {pair['ratio']:.3f}{interval}"
    return [f"## Scores\n\nOn {counted}, {network}, and {base}. `scores.json` has all scores.\n"]


def _lineage_parts(lineage: BaseLineage | None) -> list[str]:
    if lineage is None:
        return ["The model was trained from scratch, on nothing else.\n"]
    start = f"## Base\n\nTraining started from {_as_code(lineage.name)}"
    base = lineage.base
    if base is None:
        unknown = "" if lineage.blobs is not None else " What that model was trained on is not known here."
        return [f"{start}.{unknown}\n"]
    name = base.record["name"]
    itself = "" if lineage.name == name else f", which goes back to the base `{name}`"
    return [
        f"{start}{itself} (weights {base.weights_digest[:12]}). {base.about}\n",
        f"Sources of the base, {base.record['tokens']:,} tokens of training:\n",
        sources_table(base),
    ]


def sources_table(base: Base) -> str:
    """The repositories that a base was trained on, as a Markdown table."""
    lines = ["| repository | commit | date | licence | files | bytes |", "| --- | --- | --- | --- | --- | --- |"]
    lines += [
        f"| {_link(source.repository, source.url)} | {source.commit[:12]} | {source.date[:10]} | {source.licence} "
        f"| {source.files:,} | {source.bytes:,} |"
        for source in base.sources
    ]
    return "\n".join(lines) + "\n"


def _link(text: str, url: str) -> str:
    return f"[{text}]({url})" if url.startswith("https://") else text


def _as_code(text: Any) -> str:
    """A name as Markdown code; a name may have backticks, line breaks and bytes that are not UTF-8."""
    return f"`{escape_line(str(text)).replace('`', '')}`"
