"""Times completions while somebody types a real file, and says where the time goes.

    python benchmarks/serve.py MODEL REPOSITORY FILE

200 keystrokes are typed into FILE, ten into each of twenty lines, of which the rest and nothing else is missing. After
each, the engine is asked for the rest of the line. Four engines answer in turns: with all parts, without drafts, without
the cached prefix, and without both. They write each line to its end, however unsure they are. A fifth, `as served`, ends
where the model's threshold says that nothing is shown. `cold` is the first question about the file, with nothing kept. The
floor of an engine is the time of one pass of one token times the tokens that were written: what the network alone would
take if the prompt cost nothing. `CPU` is the median of the processor time, which depends less on what else runs.

Before that, one engine with all parts answers REQUESTS times, and the memory of the process is printed: alone, as a server
has it. And files are saved, to see when they are known.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from measure import machine

from git_starcoder.memory.repository_memory import MemoryReader
from git_starcoder.serve.cursor import Cursor, Suggestion, Wishes
from git_starcoder.serve.disk import WorkTree
from git_starcoder.serve.engine import ALL_PARTS, Engine, EngineParts, keep_collector_short
from git_starcoder.serve.metrics import resident_bytes

KEYSTROKES, LINE_KEYSTROKES = 200, 10
"""The keystrokes of the trace, and those of one line; then the next line is typed."""
REQUESTS, REPORT_EVERY = 2000, 400
PASSES = 30
WISHES = Wishes(ending="line", min_confidence=0, max_tokens=32)
AS_SERVED = "as served"
ENGINES = {
    "all parts": ALL_PARTS,
    "no drafts": EngineParts(drafts=False),
    "no cached prefix": EngineParts(cache=False),
    "neither": EngineParts(drafts=False, cache=False),
    AS_SERVED: ALL_PARTS,
}
FOLLOW_TRIALS = 5


class Row(NamedTuple):
    """The answers of one engine."""

    cold: Suggestion
    warm: list[Suggestion]
    cpu_seconds: list[float]
    """Of each warm answer."""


def keystrokes(text: str, path: str, count: int) -> list[Cursor]:
    """The cursor after each keystroke of the trace."""
    starts = [0, *(place + 1 for place, character in enumerate(text) if character == "\n")]
    lines = [(start, text.find("\n", start)) for start in starts]
    long = [(start, stop) for start, stop in lines if stop - start > 2 * LINE_KEYSTROKES]
    chosen = long[len(long) // 3 :][: count // LINE_KEYSTROKES]
    found: list[Cursor] = []
    for start, stop in chosen:
        begin = start + len(text[start:stop]) - len(text[start:stop].lstrip())
        found += [Cursor(text[: begin + typed], text[stop:], path) for typed in range(LINE_KEYSTROKES)]
    return found


def pass_seconds(engine: Engine) -> float:
    """The time of one pass of one token behind a long prompt: the median."""
    passes = engine.open_passes()
    with engine.network.without_gradient():
        passes.read([[1] * (engine.network.context // 2)], is_prompt=True)
        times: list[float] = []
        for _ in range(PASSES):
            begun = time.perf_counter()
            passes.read([[1]])
            times.append(time.perf_counter() - begun)
    return statistics.median(times)


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def seconds_until_known(engine: Engine, tree: WorkTree) -> list[float]:
    """The times from saving a file to the index that has it."""
    file = tree.root / "starcoder_benchmark_file.py"
    found: list[float] = []
    try:
        for trial in range(FOLLOW_TRIALS):
            before = engine.follower.updates
            file.write_text(f"name_of_trial_{trial} = {trial}\n")
            begun = time.perf_counter()
            while engine.follower.updates == before:
                time.sleep(0.002)
            found.append(time.perf_counter() - begun)
            time.sleep(0.5)
    finally:
        file.unlink(missing_ok=True)
    return found


def serve_alone(model: str, tree: WorkTree, trace: list[Cursor], requests: int) -> None:
    """Print the memory of a process with one engine, after requests, and when a saved file is known."""
    with Engine.open(model, repository=tree.root) as engine:
        engine.follower.wait(600)
        for number in range(requests + 1):
            if number % REPORT_EVERY == 0 or number == requests:
                print(f"after {number:>6,} requests  {resident_bytes() / 2**20:,.0f} MiB")
            engine.complete(trace[number % len(trace)], WISHES)
        known = seconds_until_known(engine, tree)
        print(f"a saved file is known after {1000 * statistics.median(known):.0f} ms, at most {1000 * max(known):.0f}")


def main() -> None:
    """Print a table of latencies, the floor, and the memory after many requests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("repository", type=Path)
    parser.add_argument("file", help="path of a file in the repository")
    parser.add_argument("--keystrokes", type=int, default=KEYSTROKES)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    arguments = parser.parse_args()
    tree = WorkTree(arguments.repository)
    text = (tree.root / arguments.file).read_text(encoding="utf-8")
    trace = keystrokes(text, arguments.file, arguments.keystrokes)
    if len(trace) < arguments.keystrokes:
        parser.error(f"the file has too few long lines: {len(trace)} keystrokes of {arguments.keystrokes}")
    print(f"{machine()}; {arguments.model}, {arguments.file}")
    serve_alone(arguments.model, tree, trace, arguments.requests)
    engines = {name: Engine.open(arguments.model, repository=tree.root, parts=parts) for name, parts in ENGINES.items()}
    wishes = {name: WISHES._replace(min_confidence=None) if name == AS_SERVED else WISHES for name in ENGINES}
    for engine in engines.values():
        engine.follower.wait(600)
        engine.complete(Cursor("x = 1\n"), WISHES)  # libraries load parts of themselves when they are first used
    keep_collector_short()
    rows = {name: Row(engine.complete(trace[0], wishes[name]), [], []) for name, engine in engines.items()}
    for cursor in trace[1:]:  # in turns, so that a busy machine disturbs all of them
        for name, engine in engines.items():
            begun = time.process_time()
            rows[name].warm.append(engine.complete(cursor, wishes[name]))
            rows[name].cpu_seconds.append(time.process_time() - begun)
    first = rows["all parts"]
    for name, row in rows.items():
        if name != AS_SERVED and [each.text for each in row.warm] != [each.text for each in first.warm]:
            parser.error(f"'{name}' writes other texts")
    tokens = statistics.mean(len(each.tokens) for each in first.warm)
    one_pass = pass_seconds(engines["all parts"])
    prompt = statistics.mean(each.prompt_tokens for each in first.warm)
    shown = statistics.mean(bool(each.text) for each in rows[AS_SERVED].warm)
    print(f"load of the machine {os.getloadavg()[0]:.1f}")
    print(f"a pass of one token {1000 * one_pass:.1f} ms; {tokens:.1f} tokens a completion, prompts of {prompt:.0f}")
    print(f"{'':18}{'cold':>8}{'median':>8}{'95 %':>8}{'CPU':>8}{'prompt':>8}{'floor':>8}   milliseconds")
    for name, row in rows.items():
        seconds = [each.seconds for each in row.warm]
        values = (
            row.cold.seconds, statistics.median(seconds), percentile(seconds, 0.95), statistics.median(row.cpu_seconds),
            statistics.median(each.prompt_seconds for each in row.warm),
            one_pass * statistics.mean(len(each.tokens) for each in row.warm),
        )  # fmt: skip
        print(f"{name:18}" + "".join(f"{1000 * value:8.1f}" for value in values))
    print(f"as served, {shown:.0%} of the completions are shown")
    print_parts(engines["all parts"], trace)
    for engine in engines.values():
        engine.close()


def print_parts(engine: Engine, trace: list[Cursor]) -> None:
    """Print which parts of a completion take how long: the mean over the trace."""
    spent, calls = Counter[str](), Counter[str]()

    def watch(kind: type[Any], method: str, name: str) -> None:
        plain = getattr(kind, method)

        def timed(*arguments: Any, **options: Any) -> Any:
            begun = time.perf_counter()
            try:
                return plain(*arguments, **options)
            finally:
                spent[name] += time.perf_counter() - begun
                calls[name] += 1

        setattr(kind, method, timed)

    watch(type(engine.open_passes()), "read", "passes through the network")
    watch(MemoryReader, "mix", "mixing the memory in")
    watch(MemoryReader, "draft", "drafts")
    watch(MemoryReader, "add", "reading along")
    engine.complete(trace[0], WISHES)
    spent.clear()
    calls.clear()
    total = sum(engine.complete(cursor, WISHES).seconds for cursor in trace[1:])
    count = len(trace) - 1
    for name, seconds in spent.most_common():
        print(f"{name:28}{1000 * seconds / count:6.1f} ms in {calls[name] / count:4.1f} calls")
    print(f"{'all else':28}{1000 * (total - spent.total()) / count:6.1f} ms")


if __name__ == "__main__":
    main()
