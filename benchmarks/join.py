"""What do the two joins of a build of many repositories cost, and where do they break?

    git starcoder build --list LIST -o OUT --work WORK
    python benchmarks/join.py WORK [--repositories 100 1000 10000] [--forks 0.1] [--profile]

Takes the tables of the repositories in a work folder as templates and makes as many as wanted of them. Repository i is
a copy of template i modulo their number in which every hash is another one, as if its code were other code. Of the
hashes, `COMMON` are the same in all copies of a template (boilerplate), and `SHARED` in eight repositories. A share
`--forks` of the repositories are forks: they have the texts of an earlier copy of their template, but of `EDITED` of
the texts a tenth of the shingles is new, and half of the MinHash signature. So sizes are real, and what is alike is
planted.

Each join runs in a process of its own. The tables are on disk and memory-mapped, as in a build. One JSON line each:

- `seconds`: of the join, and `cpu_seconds`, which a busy machine changes less; `load_seconds`: of opening all tables;
- `anonymous_gb`: peak memory without mapped files, which the system may drop;
- `tables_gb`: size of the tables on disk; `maps`: memory maps that are open at once (Linux allows 65,530 by default);
- `figures`: those of the manifest, among them whether the search for near-duplicates was exact.

The recipe is `natural`, whose tables have no history. The work folder must be of one build, whose recipe it was.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import measure
import numpy as np

from git_starcoder.build_state import BuildState, StepCounts
from git_starcoder.hashing.arrays import mix_bits
from git_starcoder.many import storage
from git_starcoder.protocols import NO_PROGRESS
from git_starcoder.recipe import Recipe
from git_starcoder.stages import dedup, split

COMMON, SHARED = 0.01, 0.05
"""Shares of the hashes. Of five unlike repositories, 1 to 3 % of the different hashes were in more than one."""
REPOSITORIES_PER_GROUP = 8
"""Repositories that have the shared hashes in common: as many as a rare shingle may have, and fewer than 16."""
EDITED = 0.05
"""Share of the texts of a fork that are edited."""
EDITED_HASHES = 10
"""Of an edited text, one hash in so many is new."""
SAMPLED = ("token_runs", "line_words")


class Engine:
    """What a join needs of an engine: how many threads it may start."""

    jobs = 2


def find_origin(number: int, templates: int, forks: float) -> int:
    """The repository that a repository is a fork of, over all forks in between; itself if it is none."""
    chance = np.random.default_rng(number)
    if number < templates or chance.random() >= forks:
        return number
    earlier = number % templates + templates * int(chance.integers(number // templates))
    return find_origin(earlier, templates, forks)


class Variant:
    """How the hashes of one made repository differ from those of its template."""

    def __init__(self, number: int, templates: int, forks: float, texts: int) -> None:
        origin = find_origin(number, templates, forks)
        self.own, self.of_text = np.uint64(2 * number + 1), np.full(texts, 2 * origin + 1, dtype=np.uint64)
        self.group = np.uint64(2 * (number // templates // REPOSITORIES_PER_GROUP) + 2)
        self.is_edited = (np.random.default_rng((number, 1)).random(texts) < EDITED) & (origin != number)

    def hashes(self, hashes: np.ndarray, text: np.ndarray) -> np.ndarray:
        """Other hashes of the same kind; `text` says for each to which text it belongs."""
        draw = mix_bits(hashes)
        share = (draw >> np.uint64(32)).astype(np.float64) / (1 << 32)
        is_new = self.is_edited[text] & (draw % np.uint64(EDITED_HASHES) == 0)
        salt = np.where(is_new, self.own, self.of_text[text])
        salt = np.select([share < COMMON, share < COMMON + SHARED], [np.uint64(0), self.group], salt)
        return mix_bits(hashes ^ mix_bits(salt))

    def signatures(self, signatures: np.ndarray) -> np.ndarray:
        """Other MinHash signatures, shape (texts, numbers). Half of the numbers of an edited text are its own."""
        salt = np.repeat(self.of_text[:, None], signatures.shape[1], axis=1)
        salt[np.ix_(self.is_edited, np.arange(0, signatures.shape[1], 2))] = self.own
        return mix_bits(signatures.astype(np.uint64) ^ mix_bits(salt)).astype(np.uint32)

    def keys(self, keys: np.ndarray, text: np.ndarray) -> np.ndarray:
        """Other bucket keys, shape (texts, bands)."""
        salt = np.repeat(self.of_text[text][:, None], keys.shape[1], axis=1)
        salt[np.ix_(self.is_edited[text], np.arange(0, keys.shape[1], 2))] = self.own
        return np.where(keys == 0, keys, mix_bits(keys ^ mix_bits(salt)))


def make_files(template: Path, folder: Path, number: int, templates: int, forks: float) -> None:
    """The table of files of a made repository."""
    arrays: dict[str, Any] = dict(storage.load_arrays(template / "files.arrays"))
    lists = storage.load(template / "files.records", storage.FileLists)
    texts = np.arange(len(lists.digests))
    variant = Variant(number, templates, forks, len(texts))
    counts = np.diff(arrays["shingles.offsets"])
    arrays["shingles.hashes"] = variant.hashes(arrays["shingles.hashes"], np.repeat(texts, counts))
    arrays["signatures"] = variant.signatures(arrays["signatures"])
    for name in SAMPLED:
        text = arrays[f"{name}.text"]
        hashes = variant.hashes(arrays[f"{name}.hashes"], text)
        order = np.lexsort((text, hashes))
        arrays[f"{name}.hashes"], arrays[f"{name}.text"] = hashes[order], text[order]
    salts = np.where(variant.is_edited, variant.own, variant.of_text).tolist()
    digests = [f"{digest}.{salt:x}" for digest, salt in zip(lists.digests, salts, strict=True)]
    folder.mkdir(parents=True)
    storage.store_arrays(folder / "files.arrays", arrays)
    storage.store(folder / "files.records", lists._replace(digests=digests))


def make_rows(template: Path, folder: Path, number: int, templates: int, forks: float) -> None:
    """The table of rows of a made repository. Its tokens are those of the template; rows of copied files are there."""
    arrays: dict[str, Any] = dict(storage.load_arrays(template / "rows.arrays"))
    sample = arrays["rows.sample"]
    variant = Variant(number, templates, forks, int(sample.max(initial=0)) + 1)
    salts = np.where(variant.is_edited, variant.own, variant.of_text)
    arrays["rows.content_key"] = mix_bits(arrays["rows.content_key"] ^ mix_bits(salts[sample]))
    arrays["bucket_keys"] = variant.keys(arrays["bucket_keys"], sample)
    folder.mkdir(parents=True)
    storage.store_arrays(folder / "rows.arrays", arrays)
    for name in ("rows.records", storage.TOKENS_FILE):
        storage.link_or_copy(template / name, folder / name)


def join(kind: str, folder: Path) -> dict[str, Any]:
    """Run a join over all tables in a folder; what it cost."""
    recipe = Recipe.load("natural")
    start = time.perf_counter()
    step = StepCounts(kind, NO_PROGRESS, [])
    folders = sorted(folder.iterdir())
    with (
        tempfile.TemporaryDirectory() as scratch,
        BuildState(Path(scratch), recipe.seed, Engine()) as state,  # type: ignore[arg-type]
    ):
        if kind == "files":
            tables = [storage.load_file_table(each, each.name) for each in folders]
            loaded, used = time.perf_counter(), time.process_time()
            split.join_files(state, step, recipe, tables)
            counts = {
                "files": sum(len(table.paths) for table in tables),
                "shingles": sum(len(table.compared.shingles.hashes) for table in tables),
            }
        else:
            rows = [storage.load_row_table(each, each.name) for each in folders]
            loaded, used = time.perf_counter(), time.process_time()
            decisions = dedup.join_rows(state, step, recipe.dedup, rows)
            counts = {
                "rows": sum(len(table.rows.size) for table in rows),
                "dropped": sum(len(each.rows) for each in decisions),
            }
        seconds, cpu = time.perf_counter() - loaded, time.process_time() - used
        maps = len(Path("/proc/self/maps").read_text().splitlines())
    times = {"load_seconds": round(loaded - start, 2), "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2)}
    return {**counts, **times, "maps": maps, "figures": step.figures}


def anonymous_bytes() -> int:
    """Memory of this process that is no file."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssAnon"))
    return int(line.split()[1]) << 10


def measured(kind: str, folder: Path, *, is_profiled: bool) -> dict[str, Any]:
    """What a join costs, with its peak memory."""
    peak, done = [anonymous_bytes()], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak.append(max(peak.pop(), anonymous_bytes()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    profile = cProfile.Profile()
    try:
        result = profile.runcall(join, kind, folder) if is_profiled else join(kind, folder)
    finally:
        done.set()
        watcher.join()
    if is_profiled:
        pstats.Stats(profile, stream=sys.stderr).sort_stats("tottime").print_stats(15)
    return {**result, "anonymous_gb": round(peak[0] / 1e9, 3)}


def main() -> None:
    """Make tables, and measure the joins over them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--repositories", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--forks", type=float, default=0.1)
    parser.add_argument("--scratch", type=Path, help="folder for the tables: 1 to 2 MB for each repository")
    parser.add_argument("--profile", action="store_true", help="print the functions that take longest")
    parser.add_argument("--join", choices=["files", "rows"], help=argparse.SUPPRESS)  # what a process is started for
    arguments = parser.parse_args()
    if arguments.join:
        print(json.dumps(measured(arguments.join, arguments.work, is_profiled=arguments.profile)))
        return
    for count in arguments.repositories:
        for kind, source, make in (("files", "read", make_files), ("rows", "rows", make_rows)):
            templates = sorted((arguments.work / source).iterdir())
            folder = Path(tempfile.mkdtemp(prefix="starcoder-join-", dir=arguments.scratch))
            try:
                for number in range(count):
                    template = templates[number % len(templates)]
                    make(template, folder / f"r{number:06}", number, len(templates), arguments.forks)
                size = sum(path.stat().st_size for path in folder.rglob("*") if path.name != storage.TOKENS_FILE)
                command = [sys.executable, __file__, str(folder), "--join", kind, *["--profile"] * arguments.profile]
                found = json.loads(
                    subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment()).stdout
                )
            finally:
                shutil.rmtree(folder)
            about = {"question": "join", "join": kind, "repositories": count, "templates": len(templates)}
            found = {**about, "forks": arguments.forks, **found, "tables_gb": round(size / 1e9, 3)}
            print(json.dumps({**found, "machine": measure.machine()}), flush=True)


def environment() -> dict[str, str]:
    """The environment of a measurement: libraries start no threads of their own."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


if __name__ == "__main__":
    main()
