"""Compares a model in real llama.cpp with the model itself: token ids, log-probabilities, and texts that fill a gap.

    python benchmarks/export.py MODEL REPO

Texts are the files of the repository's newest commit, in the order of a hash of their paths. For each type of numbers:

- ids: lines whose token ids are those of the library tokenizers (`/tokenize`);
- log-probability: the largest difference for any token of the vocabulary after a beginning of a file, and how often the
  most likely token is the same (`/completion`);
- gap: how often llama.cpp (`/infill`, temperature 0) writes what our model writes without memory. Our prompt has the
  header that llama.cpp always writes, and control tokens that ours never writes are forbidden to llama.cpp, too.
"""

from __future__ import annotations

import argparse
import os
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import llama_cpp
import numpy as np

from git_starcoder.git.objects import Repo
from git_starcoder.model import loading
from git_starcoder.model.complete import Model, clean_prompt
from git_starcoder.model.exports import export, gguf

if TYPE_CHECKING:
    from git_starcoder.text.tokenizer import Tokenizer

LINES, TEXTS, GAPS = 10_000, 64, 40
PROMPT_TOKENS = 256
NEW_TOKENS = 32
GAP_LINES_BEFORE, GAP_LINES_AFTER = 8, 4
MAX_TOKENS_BEFORE, MAX_TOKENS_AFTER = 300, 100
"""Tokens around a gap. llama.cpp keeps 3/4 and 1/4 of a batch of 512, less a few control tokens."""
NAME_OF_LLAMA, PATH_OF_LLAMA = "myproject\n", "filename"
SECONDS = 1200.0


def main() -> None:
    """Print the figures of each type of numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("repo", type=Path)
    arguments = parser.parse_args()
    texts = read_texts(arguments.repo)
    lines = [line for text in texts for line in text.splitlines(keepends=True)][:LINES]
    network, tokenizer = loading.load_model(arguments.model)
    network.precision = "float32"
    model = Model(network, tokenizer, None, NAME_OF_LLAMA)
    prompts = [tokenizer.encode([text.encode()])[0][:PROMPT_TOKENS].tolist() for text in texts[:TEXTS]]
    gaps = find_gaps(texts, tokenizer)
    expected = [
        model.complete(before, suffix=after, path=PATH_OF_LLAMA, max_tokens=NEW_TOKENS) for before, after in gaps
    ]
    with TemporaryDirectory() as folder:
        for number_type in gguf.NUMBER_TYPES:
            made = export(arguments.model, "gguf", Path(folder) / number_type, number_type=number_type).folder
            file = made / gguf.file_name(number_type)
            print(f"{number_type}: {file.stat().st_size:,} bytes")
            print(f"  ids              {count_equal_ids(arguments.model, file, lines):,} of {len(lines):,} lines equal")
            largest, same = compare_predictions(network.model, file, prompts, tokenizer.vocabulary["a"])
            print(
                f"  log-probability  differs by up to {largest:.4f}; the first token is the same in {same} of {len(prompts)}"
            )
            written = fill_gaps(file, gaps, network.suppressed_tokens)
            equal = sum(ours == theirs for ours, theirs in zip(expected, written, strict=True))
            first = sum(ours[:1] == theirs[:1] for ours, theirs in zip(expected, written, strict=True))
            print(f"  gap              {equal} of {len(gaps)} texts equal, {first} begin equally", flush=True)


def read_texts(repository: Path) -> list[str]:
    """The text files of the newest commit."""
    repo = Repo.open(repository)
    entries = sorted(repo.entries(), key=lambda entry: sha256(os.fsencode(entry.path)).digest())
    contents = dict(repo.read_blobs([entry.blob for entry in entries]))
    texts: list[str] = []
    for entry in entries:
        content = contents.get(entry.blob)
        try:
            texts += [content.decode()] if isinstance(content, bytes) and b"\0" not in content else []
        except UnicodeDecodeError:
            continue
    return [text for text in texts if text]


def count_equal_ids(model: Path, file: Path, lines: list[str]) -> int:
    """The lines to which llama.cpp gives the ids that the library tokenizers gives them."""
    import tokenizers

    exact = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
    exact.encode_special_tokens = True
    expected = [encoding.ids for encoding in exact.encode_batch(lines, add_special_tokens=False)]
    options = {"add_special": True, "parse_special": False}
    found = llama_cpp.ask(file, [("/tokenize", {"content": line, **options}) for line in lines], SECONDS)
    return sum(answer["tokens"] == ids for answer, ids in zip(found, expected, strict=True))


def compare_predictions(model: Any, file: Path, prompts: list[list[int]], plain_token: int) -> tuple[float, int]:
    """The largest difference of a log-probability, and how often the most likely token is the same.

    `plain_token` is any token that is a whole character. It is the one that is written, because llama.cpp returns no
    log-probabilities with an end of text or a part of a character. They are of the logits without this bias.
    """
    import torch

    options = {
        "n_predict": 1,
        "n_probs": model.config.vocab_size,
        "temperature": 0,
        "logit_bias": [[plain_token, 1000]],
    }
    answers = llama_cpp.ask(file, [("/completion", {"prompt": prompt, **options}) for prompt in prompts], SECONDS)
    largest, same = 0.0, 0
    for prompt, answer in zip(prompts, answers, strict=True):
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([prompt])).logits[0, -1]
        ours = logits.double().log_softmax(-1).numpy()
        theirs = np.full_like(ours, np.nan)
        for token in answer["completion_probabilities"][0]["top_logprobs"]:
            theirs[token["id"]] = token["logprob"]
        largest = max(largest, float(np.abs(ours - theirs).max()))
        same += int(ours.argmax() == theirs.argmax())
    return largest, same


def find_gaps(texts: list[str], tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """The lines before and after a gap in the middle of each of some files, as far as llama.cpp cuts nothing off."""
    gaps: list[tuple[str, str]] = []
    for text in texts:
        lines = clean_prompt(text, "a file").decode().splitlines(keepends=True)
        middle = len(lines) // 2
        before = "".join(lines[max(0, middle - GAP_LINES_BEFORE) : middle])
        after = "".join(lines[middle + 1 : middle + 1 + GAP_LINES_AFTER])
        lengths = np.diff(tokenizer.encode([before.encode(), after.encode()])[1])
        if before.strip() and after.strip() and lengths[0] <= MAX_TOKENS_BEFORE and lengths[1] <= MAX_TOKENS_AFTER:
            gaps.append((before, after))
    return gaps[:GAPS]


def fill_gaps(file: Path, gaps: list[tuple[str, str]], forbidden: list[int]) -> list[str]:
    """What llama.cpp writes in each gap, without the tokens that our model never writes."""
    bias = [[token, False] for token in forbidden]
    options = {"n_predict": NEW_TOKENS, "temperature": 0, "samplers": ["temperature"], "logit_bias": bias}
    asked = [("/infill", {"input_prefix": before, "input_suffix": after, **options}) for before, after in gaps]
    return [answer["content"] for answer in llama_cpp.ask(file, asked, SECONDS)]


if __name__ == "__main__":
    main()
