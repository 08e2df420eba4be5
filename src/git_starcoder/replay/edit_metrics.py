"""Compares a suggested edit with the one that was made: kept rate and delta-chrF, as the editor Zed defines them.

Both compare two edits of one text: from `base` to what was `predicted`, and from `base` to what was written at last.
Zed measures its edit predictions with them (`crates/edit_prediction/src/metrics` of its repository). This is our own
implementation of these definitions.
"""

from __future__ import annotations

import re
from collections import Counter

CHRF_ORDER = 6
"""The longest sequence of characters that delta-chrF counts."""
CHRF_BETA = 2.0
"""How much more recall counts than precision."""
TOKEN = re.compile(r"\w+|\s+|.", re.DOTALL)
"""A word, a run of white space, or any other character."""


def kept_rate(base: str, predicted: str, final: str) -> float:
    """The share of the characters of new tokens in a prediction that are in the final text, 0 to 1.

    A token of the prediction is not new if it is common to all three texts, by longest common subsequences. If the
    prediction has no new token, the rate is 1 if the final text has none either, and 0 otherwise.
    """
    texts = [TOKEN.findall(text) for text in (base, predicted, final)]
    base_tokens, predicted_tokens, final_tokens = texts
    in_final, of_final = _common(predicted_tokens, final_tokens)
    in_base, _ = _common(predicted_tokens, base_tokens)
    final_in_base, _ = _common(final_tokens, base_tokens)
    new = [token for index, token in enumerate(predicted_tokens) if not (index in in_base and index in in_final)]
    new_in_final = [
        token for index, token in enumerate(final_tokens) if not (index in final_in_base and index in of_final)
    ]
    size = sum(map(len, new))
    if not size:
        return 0.0 if any(new_in_final) else 1.0
    kept, _ = _common(new, new_in_final)
    return sum(len(new[index]) for index in kept) / size


def _common(left: list[str], right: list[str]) -> tuple[set[int], set[int]]:
    """The indexes of the tokens in `left` and in `right` that are in a longest common subsequence."""
    from rapidfuzz.distance import LCSseq

    numbers = {token: number for number, token in enumerate({**dict.fromkeys(left), **dict.fromkeys(right)})}
    equal = [
        code
        for code in LCSseq.opcodes([numbers[token] for token in left], [numbers[token] for token in right])
        if code.tag == "equal"
    ]
    return (
        {index for code in equal for index in range(code.src_start, code.src_end)},
        {index for code in equal for index in range(code.dest_start, code.dest_end)},
    )


def delta_chrf(base: str, predicted: str, final: str) -> float:
    """How alike two edits are, 0 to 100: an F score of the character sequences that they add and remove.

    For each length from 1 to `CHRF_ORDER`, the differences in the counts of sequences are compared, with a sequence
    that is removed as one of another kind. Precision and recall are averaged over the lengths. Runs of white space
    count as one character.
    """
    if base == predicted == final:
        return 100.0
    base, predicted, final = (re.sub(r"[^\S\n]+", " ", re.sub(r"\n+", "\n", text)) for text in (base, predicted, final))
    precision = recall = 0.0
    for order in range(1, CHRF_ORDER + 1):
        before = _sequences(base, order)
        expected, actual = _delta(before, _sequences(final, order)), _delta(before, _sequences(predicted, order))
        if not expected and not actual:
            precision, recall = precision + 1, recall + 1
            continue
        common = (expected & actual).total()
        precision += common / max(1, actual.total())
        recall += common / max(1, expected.total())
    precision, recall = precision / CHRF_ORDER, recall / CHRF_ORDER
    weighted = CHRF_BETA**2 * precision + recall
    return 100 * (1 + CHRF_BETA**2) * precision * recall / weighted if weighted else 0.0


def _sequences(text: str, order: int) -> Counter[str]:
    return Counter(text[start : start + order] for start in range(len(text) - order + 1))


def _delta(before: Counter[str], after: Counter[str]) -> Counter[tuple[str, bool]]:
    """How much more often each sequence occurs after an edit, and how much less often; both as positive counts."""
    added, removed = after - before, before - after
    return Counter(
        {(text, True): count for text, count in added.items()}
        | {(text, False): count for text, count in removed.items()}
    )
