"""Which secrets does redaction find, what does it take for one, and how fast is it?

    python benchmarks/redaction.py [--each 30] [--show 100] [REPO...]

Made-up secrets of every kind and look-alikes come from `tests/planted.py`: `recall` is the share of secrets that were
found, `alarms` are look-alikes in which something was. Where `kingfisher-secret-scanner` is installed it is measured
beside ours, offline and without its validators. Of a REPO the texts of its HEAD are redacted, and the first findings
shown, value and all, for a person to judge. One JSON line per question.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from random import Random

import measure

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import planted
from git_starcoder.git.objects import Repo, Unreadable
from git_starcoder.recipe import ReadOptions
from git_starcoder.text.encoding import Refusal, decode_file
from git_starcoder.text.secrets import REDACTED_MARK, redact, secret_file_reason

Finder = Callable[[bytes], list[bytes]]
"""The secrets of a text."""


def ours(text: bytes) -> list[bytes]:
    """What stands between those parts of a text that redaction leaves alone."""
    parts = REDACTED_MARK.split(redact(text).text)
    found, at = [], len(parts[0])
    for number, part in enumerate(parts[1:], 1):
        stop = text.find(part, at + 1) if number + 1 < len(parts) else len(text) - len(part)
        found.append(text[at:stop])
        at = stop + len(part)
    return found


def kingfisher() -> Finder:
    """The scanner with its own rules, which take seconds to compile."""
    from kingfisher_sdk import Scanner

    scanner = Scanner()
    return lambda text: [finding.secret.encode() for finding in scanner.scan(text) if finding.visible]


def judge(finder: Finder, each: int) -> dict[str, object]:
    """Recall and false alarms, and of which kinds."""
    missed: Counter[str] = Counter()
    alarms: Counter[str] = Counter()
    for kind, make in planted.KINDS.items():
        for number in range(each):
            text, secret = (part.encode() for part in make(Random(f"{kind}{number}")))
            missed[kind] += not any(secret in found or _is_most_of(found, secret) for found in finder(text))
    for kind, imitate in planted.LOOKALIKES.items():
        for number in range(each):
            alarms[kind] += bool(finder(imitate(Random(f"{kind}{number}")).encode()))
    secrets, lookalikes = each * len(planted.KINDS), each * len(planted.LOOKALIKES)
    return {
        "secrets": secrets,
        "recall": round(1 - missed.total() / secrets, 4),
        "lookalikes": lookalikes,
        "alarms": alarms.total(),
        "missed": +missed,
        "alarmed": +alarms,
    }


def _is_most_of(found: bytes, secret: bytes) -> bool:
    return found in secret and len(found) > 0.8 * len(secret)


def line_of(text: bytes, found: bytes) -> str:
    """The line that it begins in, for a person to judge it."""
    at = text.find(found)
    return text[text.rfind(b"\n", 0, at) + 1 :].partition(b"\n")[0][:300].decode(errors="replace").strip()


def texts_of(repository: str) -> Iterator[tuple[str, bytes]]:
    """Paths and texts of the files of the HEAD, each text once."""
    repo, options = Repo.open(repository), ReadOptions()
    paths = {entry.blob: entry.path for entry in repo.entries() if 0 < (entry.size or 0) <= options.max_bytes}
    for blob, data in repo.read_blobs(paths):
        if not isinstance(data, Unreadable):
            text = decode_file(data, max_line=options.max_line, mean_line=options.mean_line)
            if not isinstance(text, Refusal):
                yield paths[blob], text.utf8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repos", nargs="*", metavar="REPO")
    parser.add_argument("--each", type=int, default=30, help="texts of each kind")
    parser.add_argument("--show", type=int, default=0, help="findings to show of each repository")
    arguments = parser.parse_args()
    finders: dict[str, Finder] = {"ours": ours}
    if find_spec("kingfisher_sdk"):
        finders["kingfisher"] = kingfisher()
    for name, finder in finders.items():
        print(json.dumps({"finder": name, **judge(finder, arguments.each)}))
    for repository in arguments.repos:
        texts = list(texts_of(repository))
        clock = time.perf_counter()
        results = [redact(text) for _, text in texts]
        seconds = time.perf_counter() - clock
        print(
            json.dumps(
                {
                    "repository": Path(repository).name,
                    "texts": len(texts),
                    "bytes": sum(len(text) for _, text in texts),
                    "seconds": round(seconds, 3),
                    "found": sum((result.counts for result in results), Counter()),
                    "files": sum(bool(result.counts) for result in results),
                    "only_secrets": sum(bool(secret_file_reason(path, text)) for path, text in texts),
                    "mostly_secrets": sum(result.is_mostly_secrets for result in results),
                    "machine": measure.machine(),
                }
            )
        )
        shown = ((path, found, line_of(text, found)) for path, text in texts for found in ours(text))
        for path, found, line in islice(shown, arguments.show):
            print(json.dumps({"path": path, "found": found.decode(), "line": line}))


if __name__ == "__main__":
    main()
