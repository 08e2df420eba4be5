"""Does augmented code still parse, compile and pass its tests?

    python benchmarks/augmented_code.py parse REPOSITORY...
    python benchmarks/augmented_code.py run REPOSITORY [--under PREFIX]... [--only KEY]... -- COMMAND...

`parse` makes every variation of every file that parses and parses it again. `run` exports the commit into a temporary
folder, runs COMMAND there, then once more for each augmentation that needs a tree, applied to every file under one of
the prefixes. Every line of output is a JSON object; the exit status is 1 when something got worse.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from git_starcoder import augmentations, registry
from git_starcoder.git.objects import Repo
from git_starcoder.parse.language import detect_language
from git_starcoder.parse.renaming import find_local_names
from git_starcoder.parse.tree import Code, parse
from git_starcoder.stages.augment import DrawnVariation, VariationResult, VariationTask, make_variations

KEYS = [key for key in registry.names("augmentations") if augmentations.input_kind(key) == "tree"]
LARGEST = 1 << 20


def files(repository: str) -> list[tuple[str, bytes]]:
    """Paths and texts of the files of a commit."""
    repo = Repo.open(repository)
    entries = [entry for entry in repo.entries() if entry.mode & 0o170000 == 0o100000 and (entry.size or 0) <= LARGEST]
    texts = dict(repo.read_blobs(sorted({entry.blob for entry in entries})))
    return [(entry.path, text) for entry in entries if isinstance(text := texts[entry.blob], bytes) and _utf8(text)]


def _utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def made(text: bytes, language: str, keys: list[str]) -> dict[str, VariationResult]:
    """One variation of a text for each key."""
    return dict(
        zip(
            keys,
            make_variations(VariationTask(text, language, [DrawnVariation(key, len(text)) for key in keys])),
            strict=True,
        )
    )


def _name(repository: str) -> str:
    return Repo.open(repository).name


def parse_all(repository: str) -> bool:
    """Every variation of every file, once."""
    counts: dict[str, Counter[str]] = {key: Counter() for key in registry.names("augmentations")}
    worse = 0
    for path, text in files(repository):
        language = detect_language(path, text)
        before = parse(text, language)
        needed = KEYS if before.is_clean else []
        drawn = [DrawnVariation(key, len(text)) for key in [*needed, "token_masking"]]
        for (key, _), result in zip(drawn, make_variations(VariationTask(text, language, drawn)), strict=True):
            if result.text is None:
                counts[key][result.reason] += 1
                continue
            counts[key]["varied"] += 1
            after = parse(result.text, language)
            worse += _errors(after) > _errors(before)
            if key == "variable_renaming":
                counts[key].update(_renamed(before, after))
    for key, count in counts.items():
        print(json.dumps({"repository": _name(repository), "augmentation": key, **count}))
    print(json.dumps({"repository": _name(repository), "worse": worse}))
    return worse == 0


def _errors(code: Code) -> int:
    return 0 if code.root is None or code.is_clean else str(code.root).count("(ERROR") + 1


def _renamed(before: Code, after: Code) -> dict[str, int]:
    """How much was renamed, and whether the names are as safe in the new text as they were in the old one."""
    old, new = find_local_names(before).functions, find_local_names(after).functions
    same = [[len(places) for places in function.safe_names.values()] for function in old] == [
        [len(places) for places in function.safe_names.values()] for function in new
    ]
    return {
        "functions": len(old),
        "names": sum(len(function.safe_names) for function in old),
        "places": sum(len(places) for function in old for places in function.safe_names.values()),
        "not_symmetric": not same,
    }


def run_all(repository: str, under: list[str], only: list[str], command: list[str]) -> bool:
    """A command on the code as it is and on each variation of it."""
    fine = True
    for key in ["base", *(only or KEYS)]:
        with tempfile.TemporaryDirectory() as folder:
            count = Counter[str]()
            for path, text in files(repository):
                target = Path(folder, path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(_vary(path, text, key, under, count))
            begun = time.perf_counter()
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
            last = (done.stdout + done.stderr).strip().splitlines()[-1:]
            line = {"repository": _name(repository), "augmentation": key, **count, "exit": done.returncode}
            print(json.dumps({**line, "seconds": round(time.perf_counter() - begun, 1), "last": last}), flush=True)
            if done.returncode:
                fine = False
                print(done.stdout[-4000:], done.stderr[-8000:], file=sys.stderr)
    return fine


def _vary(path: str, text: bytes, key: str, under: list[str], count: Counter[str]) -> bytes:
    language = detect_language(path, text)
    if key == "base" or language == "text" or not (not under or path.startswith(tuple(under))):
        return text
    before = parse(text, language)
    (result,) = make_variations(VariationTask(text, language, [DrawnVariation(key, len(text))]))
    if result.text is None:
        count[result.reason] += 1
        return text
    count["varied"] += 1
    if key == "variable_renaming":
        count.update(_renamed(before, parse(result.text, language)))
    return result.text


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("parse").add_argument("repositories", nargs="+")
    one = modes.add_parser("run")
    one.add_argument("repository")
    one.add_argument("--under", action="append", default=[])
    one.add_argument("--only", action="append", default=[], choices=KEYS)
    edge = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    options, command = parser.parse_args(sys.argv[1:edge]), sys.argv[edge + 1 :]
    if options.mode == "parse":
        return 0 if min(map(parse_all, options.repositories)) else 1
    return 0 if run_all(options.repository, options.under, options.only, command) else 1


if __name__ == "__main__":
    sys.exit(main())
