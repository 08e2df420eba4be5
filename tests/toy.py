"""A generated code base in several languages, for tests that need a repository with something in it."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NOUNS = [
    "account",
    "order",
    "ledger",
    "ticket",
    "parcel",
    "sensor",
    "signal",
    "packet",
    "folder",
    "member",
    "invoice",
    "journal",
    "vector",
    "matrix",
    "cursor",
]
VERBS = [
    "load",
    "store",
    "merge",
    "split",
    "check",
    "count",
    "trace",
    "parse",
    "apply",
    "build",
    "clean",
    "fetch",
    "group",
    "index",
    "limit",
    "match",
    "order",
    "price",
]

PYTHON = '''\
"""{title}."""

import {other}


def {verb}_{noun}(items, limit):
    """{title}."""
    total = {number}
    # {comment}
    for entry in items:
        if entry > limit:
            total += entry * {factor}
        elif entry < {number}:
            total -= {other}.{other_verb}(entry)
    return total


class {Noun}:
    size = {factor}

    def {verb}(self, depth):
        found = [step for step in range(depth) if step % {factor}]
        return len(found) + self.size
'''

RUST = """\
use crate::{other}::{other_verb};

/// {title}.
pub fn {verb}_{noun}(items: &[i64], limit: i64) -> Option<i64> {{
    let mut total = {number};
    // {comment}
    for entry in items {{
        if *entry > limit {{
            total += entry * {factor};
        }} else {{
            total -= {other_verb}(*entry)?;
        }}
    }}
    Some(total)
}}

pub fn {other_verb}(value: i64) -> Option<i64> {{
    let doubled = value.checked_mul({factor})?;
    Some(doubled + {number})
}}
"""

GO = """\
package {noun}

// {Noun} is {title}.
type {Noun} struct {{
	size int
}}

func {verb}{Noun}(items []int, limit int) int {{
	total := {number}
	// {comment}
	for _, entry := range items {{
		if entry > limit {{
			total += entry * {factor}
		}}
	}}
	return total
}}
"""

TYPESCRIPT = """\
import {{ {other_verb} }} from "./{other}";

/** {title}. */
export function {verb}{Noun}(items: number[], limit: number): number {{
  let total = {number};
  // {comment}
  for (const entry of items) {{
    if (entry > limit) {{
      total += {other_verb}(entry) * {factor};
    }}
  }}
  return total;
}}
"""

C = """\
#include "{other}.h"

/* {title}. */
int {verb}_{noun}(const int *items, int count) {{
    int total = {number};
    for (int place = 0; place < count; place++) {{
        if (items[place] > {factor}) {{
            total += items[place]; /* {comment} */
        }}
    }}
    return total;
}}
"""

DOCS = """\
# {title}

The {noun} is there to {verb} every {other}. {comment}.

- at most {number} at a time
- {factor} times the {other_verb} of the last one
"""

KINDS = (
    (PYTHON, "src/{noun}/{verb}.py"),
    (RUST, "crates/{noun}/src/{verb}.rs"),
    (GO, "{noun}/{verb}.go"),
    (TYPESCRIPT, "web/{noun}/{verb}.ts"),
    (C, "native/{noun}/{verb}.c"),
    (DOCS, "docs/{noun}-{verb}.md"),
    (PYTHON, "tests/test_{noun}_{verb}.py"),
)


def code_base(count: int, seed: int = 0) -> dict[str, str]:
    """`count` files of several languages, all different, the same for the same seed."""
    random = Random(seed)
    pairs = [(noun, verb) for noun in NOUNS for verb in VERBS]
    random.shuffle(pairs)
    files = {}
    for number in range(count):
        noun, verb = pairs[number % len(pairs)]
        text, path = KINDS[number % len(KINDS)]
        words = random.sample(NOUNS + VERBS, 9)
        values = {
            "noun": noun, "Noun": noun.title(), "verb": verb, "title": " ".join(words).capitalize(),
            "comment": " ".join(random.sample(words, 6)), "number": random.randrange(10_000), "factor": random.randrange(2, 99),
            "other": random.choice(NOUNS), "other_verb": random.choice(VERBS),
        }  # fmt: skip
        pieces = [text.format(**{**values, "number": random.randrange(10_000), "verb": f"{verb}{extra or ''}",
                                 "factor": random.randrange(2, 99), "title": " ".join(random.sample(NOUNS + VERBS, 7)),
                                 "comment": " ".join(random.sample(NOUNS + VERBS, 6))})
                  for extra in range(random.randrange(1, 5))]  # fmt: skip
        files[path.format(noun=noun, verb=f"{verb}{number}")] = "\n".join(pieces)
    return files


def evolving(files: int, commits: int) -> list[dict[str, str | None]]:
    """The same code base, and commits that go on with it: edits in several places, renames, moved code, deletions."""
    random = Random(files)
    now: dict[str, str] = dict(code_base(files))
    for number in range(12):
        name, size = f"make_{random.choice(NOUNS)}_{number}", random.randrange(10**6)
        now[f"kit/part_{number}.py"] = f"def {name}(size: int = {size}) -> int:\n    return size * {size + 1}\n"
        now[f"kit/uses_{number}.py"] = (
            f"from kit.part_{number} import {name}\n\n\ndef run_{size}(depth):\n    return [{name}(step + {size}) for step in range(depth)]\n"
        )
    history: list[dict[str, str | None]] = [dict(now)]
    for number in range(commits):
        changed: dict[str, str | None] = {}
        for path in random.sample(sorted(now), 3):
            lines = now[path].split("\n")
            for place in sorted(random.sample(range(len(lines)), min(2, len(lines))), reverse=True):
                if any(sign.isdigit() for sign in lines[place]):
                    lines[place] = "".join(
                        str(random.randrange(1, 9)) if sign.isdigit() else sign for sign in lines[place]
                    )
            lines.append(f"{'#' if path.endswith('.py') else '//'} commit {number} saw this file {random.random()}")
            changed[path] = now[path] = "\n".join(lines)
        if number % 4 == 1:
            path = random.choice(sorted(now))
            folder, _, name = path.rpartition("/")
            moved = f"{folder}/moved_{number}_{name}" if folder else f"moved_{number}_{name}"
            now[moved] = changed[moved] = now.pop(path)
            changed[path] = None
        history.append(changed)
    return history


def embedding_model(folder: Path, vectors: dict[str, tuple[float, ...]]) -> Path:
    """A static embedding model that knows some words."""
    import numpy as np
    from model2vec import StaticModel
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    words = {word: number for number, word in enumerate(("[UNK]", *vectors))}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    size = len(next(iter(vectors.values())))
    table = np.array([(0.0,) * size, *vectors.values()], dtype=np.float32)
    StaticModel(table, tokenizer).save_pretrained(folder)
    return folder
