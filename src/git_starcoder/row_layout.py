"""Rules that several modules must agree on, each defined once: steps, windows, masked rows, labels, stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T")

STEPS = ("read", "analyse", "split", "augment", "window", "dedup", "weigh", "order", "write")
"""The steps of the pipeline in their order; also sections of a recipe and keys of the manifest's counts."""

BASE = "base"
"""The technique of a sample that is a file's text as it is."""

IGNORED_LABEL = -100
"""The label of a token that is not in the loss; the value that PyTorch's cross entropy and all trainers ignore."""

FIM_SENTINELS = 4
"""Control tokens in a masked row: `<fim_prefix>`, `<fim_suffix>`, `<fim_middle>` and the end of text."""

CURRICULUM_STAGES = 3
"""The stages of the curriculum, from easy to hard rows."""


def is_plain_text(metadata: Mapping[str, Any]) -> bool:
    """Whether a row is text as it is, at most with a header before it: nothing is masked, and nothing else is shown."""
    return "hole" not in metadata and ("context" not in metadata or metadata["augmentation_type"] == BASE)


def scored_spans(metadata: Mapping[str, Any]) -> list[tuple[int, int]]:
    """Which tokens of a row are in the loss, as (start, stop): all behind its context prefix, or those of `scored`.

    >>> scored_spans({"length": 9, "context": 2, "scored": [3, 5, 7, 8]})
    [(3, 5), (7, 8)]
    """
    scored = metadata.get("scored")
    if scored is None:
        return [(metadata.get("context", 0), metadata["length"])]
    return list(zip(scored[::2], scored[1::2], strict=True))


def loss_token_count(metadata: Mapping[str, Any]) -> int:
    """The number of tokens of a row that are in the loss."""
    return sum(stop - start for start, stop in scored_spans(metadata))


def window_stride(size: int, overlap: float) -> int:
    """The tokens from the start of one window to the start of the next.

    >>> window_stride(1024, 0.25)
    768
    """
    return max(1, round(size * (1 - overlap)))


def masked_row(prefix: T, suffix: T, middle: T, control_tokens: Sequence[T]) -> list[T]:
    """The parts of a masked row in the order of Bavarian et al. (2022): prefix, suffix, middle.

    `control_tokens` are those for prefix, suffix and middle, and the end of text. The model sees prefix and suffix
    and learns to write the middle.

    >>> masked_row("a", "c", "b", ["<pre>", "<suf>", "<mid>", "<end>"])
    ['<pre>', 'a', '<suf>', 'c', '<mid>', 'b', '<end>']
    """
    return [*gap_prompt(prefix, suffix, control_tokens, suffix_first=False), middle, control_tokens[3]]


def gap_prompt(prefix: T, suffix: T, control_tokens: Sequence[T], *, suffix_first: bool) -> list[T]:
    """The parts of a prompt after which a model writes the middle; the control tokens are as in `masked_row`.

    The suffix may stand first, as in half of the rows that training masks. The middle then follows the prefix directly,
    which small models need, and a prefix that grows changes nothing before it.

    >>> gap_prompt("a", "c", ["<pre>", "<suf>", "<mid>"], suffix_first=True)
    ['<pre>', '<suf>', 'c', '<mid>', 'a']
    """
    prefix_token, suffix_token, middle_token = control_tokens[:3]
    if suffix_first:
        return [prefix_token, suffix_token, suffix, middle_token, prefix]
    return [prefix_token, prefix, suffix_token, suffix, middle_token]
