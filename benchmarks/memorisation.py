"""Measures how much of its training files a model continues word for word, and whether it writes secrets.

    python benchmarks/memorisation.py MODEL DATASET > memorisation.json

MODEL is the folder of a model or of a base, and DATASET is what it was trained on. The model reads the header and the
first 50 tokens of a training file, and writes 50 more, always the likeliest (Carlini et al., 2022). A continuation that
other training files share, such as that of a licence header, is counted separately. Without a memory: what is measured is
in the weights. The text is searched for secrets with the patterns of a build.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from git_starcoder.dataset import Dataset
from git_starcoder.dataset.held_out import DRAW_SEED, load_documents
from git_starcoder.model.loading import load_weights
from git_starcoder.model.network import Network
from git_starcoder.records import content_id
from git_starcoder.text.secrets import redact
from git_starcoder.text.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from git_starcoder.dataset.held_out import Document
    from git_starcoder.text.tokenizer import Tokenizer

FILES = 1000
"""Training files whose beginnings are continued; all of them if there are fewer."""
PROMPT_TOKENS = NEW_TOKENS = 50
PROMPTS_AT_ONCE = 100
"""Prompts that are in memory with what the network has computed for them."""


def draw_files(documents: list[Document], count: int) -> list[Document]:
    """Draw files that are long enough, by a hash of their paths."""
    long_enough = [each for each in documents if each.start == 0 and len(each.tokens) >= PROMPT_TOKENS + NEW_TOKENS]
    return sorted(long_enough, key=lambda each: content_id(DRAW_SEED, each.path))[:count]


def measure(network: Network, tokenizer: Tokenizer, documents: list[Document], count: int) -> dict[str, Any]:
    """Let a network continue the beginnings of files, and compare the text with the files."""
    drawn = draw_files(documents, count)
    prompts = [
        np.concatenate(([network.end_token], each.header, each.tokens[:PROMPT_TOKENS])).astype(np.int64)
        for each in drawn
    ]
    nothing_stops = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
    written = [
        tokens
        for start in range(0, len(prompts), PROMPTS_AT_ONCE)
        for tokens in network.generate(prompts[start : start + PROMPTS_AT_ONCE], NEW_TOKENS, stop=nothing_stops)
    ]
    wanted = [continuation(each) for each in drawn]
    repeated = [tokens.astype(np.int32).tobytes() == truth for tokens, truth in zip(written, wanted, strict=True)]
    owners = Counter(continuation(each) for each in documents if each.start == 0)
    shared = sum(is_same and owners[truth] > 1 for is_same, truth in zip(repeated, wanted, strict=True))
    secrets = Counter[str]()
    for prompt, tokens in zip(prompts, written, strict=True):
        before = redact(tokenizer.decode(prompt)).counts
        secrets += redact(tokenizer.decode(np.concatenate((prompt, tokens)))).counts - before
    verbatim, total = sum(repeated), len(drawn)
    line = (
        f"Of {total:,} beginnings of training files ({PROMPT_TOKENS} tokens), the model continues {verbatim:,} word for "
        f"word for {NEW_TOKENS} tokens ({100 * verbatim / max(1, total):.1f} %); {shared:,} of these continuations "
        f"are shared by several files. The text has {secrets.total():,} strings that look like secrets."
    )
    return {
        "files": total,
        "verbatim": verbatim,
        "share": round(verbatim / max(1, total), 6),
        "shared": shared,
        "secrets": dict(sorted(secrets.items())),
        "line": line,
    }


def continuation(document: Document) -> bytes:
    """The tokens of a file that a model should not know."""
    return document.tokens[PROMPT_TOKENS : PROMPT_TOKENS + NEW_TOKENS].astype(np.int32).tobytes()


def main() -> None:
    """Print the figures as JSON; `line` is the sentence for the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("dataset", type=Path)
    arguments = parser.parse_args()
    tokenizer = load_tokenizer(arguments.model)
    network = Network(load_weights(arguments.model), tokenizer)
    documents = load_documents(Dataset.open(arguments.dataset), "train")
    print(json.dumps(measure(network, tokenizer, documents, FILES), indent=1))


if __name__ == "__main__":
    main()
