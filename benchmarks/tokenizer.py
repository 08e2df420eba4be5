"""Which encoder and which learner, how fast are they, and do they agree token for token?

    python benchmarks/tokenizer.py REPO [--vocab-size 8192] [--megabytes 8] [--runs 5]

Texts are the UTF-8 files of the repository's HEAD up to 1 MB, as many as fit in `--megabytes`. The candidates run in
turn; one JSON line each with the median and the range of the seconds, MB/s, and whether the result equals that of
`tokenizers`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measure

from git_starcoder.git.objects import Repo, Unreadable
from git_starcoder.text import learned_bpe
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Callable


def texts_of(repo: Path, megabytes: float) -> list[bytes]:
    """UTF-8 files of the HEAD."""
    opened = Repo.open(repo)
    blobs = dict.fromkeys(entry.blob for entry in opened.entries() if 0 < (entry.size or 0) <= 2**20)
    texts: list[bytes] = []
    left = megabytes * 1e6
    for _, data in opened.read_blobs(blobs):
        if isinstance(data, Unreadable) or b"\0" in data:
            continue
        try:
            data.decode()
        except UnicodeDecodeError:
            continue
        left -= len(data)
        if left < 0:
            break
        texts.append(data)
    return texts


def encoders(tokenizer: tokenizers.Tokenizer, texts: list[bytes]) -> dict[str, Callable[[], Any]]:
    """Ways to encode the texts; each gives a list of lists of ids."""
    import gigatoken
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(Path(folder))
        definition = json.loads((Path(folder) / "tokenizer.json").read_text("utf-8"))
        automatic = AutoTokenizer.from_pretrained(folder)
    exact = Tokenizer.from_str(json.dumps(definition))
    exact.encode_special_tokens = True
    threads = gigatoken.Tokenizer.from_json(json.dumps(definition | {"added_tokens": []}))
    strings = [text.decode() for text in texts]
    return {
        "tokenizers, batch": lambda: [encoding.ids for encoding in exact.encode_batch_fast(strings)],
        "tokenizers, one by one": lambda: [exact.encode(string).ids for string in strings],
        "transformers, the usual call": lambda: automatic(strings, split_special_tokens=True)["input_ids"],
        "gigatoken, threads": lambda: threads.encode_batch(texts).to_list(),
        "ours": lambda: tokenizer.encode(texts),
    }


def learners(texts: list[bytes], size: int) -> dict[str, Callable[[], Any]]:
    """Ways to learn; each gives the merges."""
    special = tokenizers.SPECIAL_TOKENS
    return {
        "tokenizers": lambda: learned_bpe._merges_exact(texts, special, size),  # noqa: SLF001
        "ours": lambda: learned_bpe.learn_bpe(texts, special, size)["model"]["merges"],
    }


def compare(what: str, candidates: dict[str, Callable[[], Any]], megabytes: float, runs: int) -> None:
    """Run the candidates in turn and print what they took; the first is what the others should equal."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    results: dict[str, Any] = {}
    for _ in range(runs):
        for name, run in candidates.items():
            clock = time.perf_counter()
            results[name] = run()
            seconds[name].append(time.perf_counter() - clock)
    expected = next(iter(results.values()))
    for name, times in seconds.items():
        found = results[name]
        if isinstance(found, tuple):  # tokens behind one another, and where each text begins
            flat, offsets = found
            found = [flat[begin:end].tolist() for begin, end in itertools.pairwise(offsets)]
        line = {
            "measure": what,
            "candidate": name,
            "seconds": round(statistics.median(times), 4),
            "range": [round(min(times), 4), round(max(times), 4)],
            "mb_per_second": round(megabytes / statistics.median(times), 1),
            "equal": found == expected,
        }
        print(json.dumps(line), flush=True)


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repo", type=Path)
    parser.add_argument("--vocab-size", type=int, default=8192)
    parser.add_argument("--megabytes", type=float, default=8)
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    texts = texts_of(arguments.repo, arguments.megabytes)
    megabytes = sum(map(len, texts)) / 1e6
    tokenizer = tokenizers.learned_tokenizer(
        learned_bpe.learn_bpe(texts, tokenizers.SPECIAL_TOKENS, arguments.vocab_size)
    )
    summary = {
        "machine": measure.machine(),
        "texts": len(texts),
        "megabytes": round(megabytes, 2),
        "vocab_size": tokenizer.vocab_size,
        "encoder": tokenizer.encoder_name,
    }
    print(json.dumps(summary), flush=True)
    compare("learn", learners(texts, arguments.vocab_size), megabytes, arguments.runs)
    compare("encode", encoders(tokenizer, texts), megabytes, arguments.runs)


if __name__ == "__main__":
    main()
