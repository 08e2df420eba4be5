"""What does `git starcoder run` give on repositories, and by how much does it beat another version of git-starcoder?

    python benchmarks/runs.py OUT REPO... [--minutes 10] [--other CHECKOUT] [--replay CHARACTERS] [-- OPTION...]

Each repository is run once into `OUT/NAME`; runs that are done are not done again, so an interrupted comparison goes on.
With `--other`, the folder of a checkout with a virtual environment in `.venv`, both versions run at the same time, each
on a processor of its own, and their networks are scored on the beginnings of the same files: those that both hold out.
Options after `--` go to `git starcoder run`, for example `--base none` or `--set split.holdout=commits`. With the
latter, `--replay` types so much of what later commits added, and prints the keystrokes that each suggester saves.

Prints the machine, a line for each repository, and the medians. Ratios have a 95 % interval over leak groups; those to
another version have one over files.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measure
import numpy as np

from git_starcoder.dataset import Dataset
from git_starcoder.dataset.held_out import load_documents
from git_starcoder.evals import bootstrap_ratio
from git_starcoder.evals.bits_per_byte import document_bits
from git_starcoder.model.loading import load_model

if TYPE_CHECKING:
    from git_starcoder.protocols import LanguageModel
    from git_starcoder.text.tokenizer import Tokenizer

SCORES = "scores.json"
TIMES = "times.json"
REPLAY = "replay.json"
MIN_RIGHT = 0.5
"""At least so many of the suggestions that are shown in a replay are right."""
PPM = "PPMd-24, reset after each file"
MAX_FILE_BYTES = 16_384
"""Bytes of a file that are scored: a few long files must not decide."""


def run_versions(repo: Path, out: Path, minutes: float, versions: dict[str, Path], options: list[str]) -> None:
    """Run the versions at the same time, each on its share of the processors; write how long each took."""
    cores = sorted(os.sched_getaffinity(0))
    share = len(cores) // len(versions)
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    for index, (name, checkout) in enumerate(versions.items()):
        mine = cores[index * share : (index + 1) * share]
        command = [str(checkout / ".venv/bin/git-starcoder"), "run", str(repo), "--out", str(out / name)]
        command = [
            "taskset",
            "-c",
            ",".join(map(str, mine)),
            *command,
            "--minutes",
            f"{minutes:g}",
            "--quiet",
            "--force",
            *options,
        ]
        running[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL), time.monotonic()
    seconds: dict[str, float] = {}
    while len(seconds) < len(running):
        time.sleep(0.5)
        for name, (process, begun) in running.items():
            if name not in seconds and (code := process.poll()) is not None:
                if code:
                    raise SystemExit(f"{versions[name]} failed on {repo} with exit code {code}")
                seconds[name] = time.monotonic() - begun
    (out / TIMES).write_text(json.dumps(seconds))


def read_run(out: Path) -> dict[str, Any]:
    """The scores that a run stored."""
    return json.loads((out / "model" / SCORES).read_text())


def score_networks(out: Path, names: list[str]) -> dict[str, Any]:
    """Bits per byte of each version's network on the same files, and the ratio of the first to the second."""
    datasets = {name: Dataset.open(out / name / "dataset") for name in names}
    files = shared_files(datasets)
    bits: dict[str, dict[str, tuple[float, int]]] = {}
    for name in names:
        network, tokenizer = load_model(out / name / "model")
        bits[name] = score_files(network, tokenizer, datasets[name], files)
    paths = sorted(set.intersection(*(set(each) for each in bits.values())))
    totals = [np.array([bits[name][path][0] for path in paths]) for name in names]
    sizes = np.array([bits[names[0]][path][1] for path in paths])
    return {
        "files": len(paths), "bits_per_byte": [float(total.sum() / sizes.sum()) for total in totals],
        "ratio": bootstrap_ratio(*totals, 0),
    }  # fmt: skip


def shared_files(datasets: dict[str, Dataset], split: Any = "test") -> set[str]:
    """The files that every dataset holds out whole."""
    paths = [
        {document.path for document in load_documents(dataset, split) if document.start == 0}
        for dataset in datasets.values()
    ]
    if shared := set.intersection(*paths):
        return shared
    raise SystemExit("the datasets hold out no file together")


def score_files(
    model: LanguageModel, tokenizer: Tokenizer, dataset: Dataset, files: set[str], split: Any = "test"
) -> dict[str, tuple[float, int]]:
    """The bits that a model needs for the beginning of each file, and the bytes of this beginning."""
    documents = [each for each in load_documents(dataset, split) if each.path in files and each.start == 0]
    bits_of_file: dict[str, tuple[float, int]] = {}
    for document in documents:
        text = tokenizer.decode(document.tokens[document.tokens != tokenizer.end_id])
        if len(text) > MAX_FILE_BYTES:  # the same bytes for every arm, whatever its tokenizer
            text = text[: text.rfind(b"\n", 0, MAX_FILE_BYTES) + 1]
            document = replace(document, tokens=tokenizer.encode([text])[0].astype(np.int32))
        if text:
            bits = document_bits(model, [document], tokenizer.end_id, parts=2)
            bits_of_file[document.path] = float(bits[0]), len(text)
    return bits_of_file


def print_replay(out: Path, ratios: dict[str, list[float]]) -> None:
    """Print and collect what suggesters save where at least half of what they show is right."""
    values = json.loads((out / REPLAY).read_text())
    saved: list[str] = []
    for result in values["results"]:
        right = [each for each in result["by_threshold"] if each["precision"] >= MIN_RIGHT]
        best = max(right, key=lambda each: each["saved"], default={"saved": 0.0, "from": 1.0, "precision": 0.0})
        saved.append(f"{result['name']} {best['saved']:.1%} (from {best['from']:g}, {best['precision']:.0%} right)")
        ratios.setdefault(f"share of keystrokes that {result['name']} saves", []).append(best["saved"])
    print("  keystrokes saved: " + ", ".join(saved), flush=True)


def replay(repo: Path, out: Path, checkout: Path, characters: int) -> None:
    """Type what later commits added, if that is not done yet."""
    if not (out / REPLAY).exists():
        command = [str(checkout / ".venv/bin/git-starcoder"), "replay", str(out / "this/model"), str(repo)]
        command += ["--characters", str(characters), "--json", "--quiet"]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
        (out / REPLAY).write_bytes(done.stdout)


def main() -> None:
    """Run what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("repos", type=Path, nargs="+")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--replay", type=int, metavar="CHARACTERS")
    arguments = sys.argv[1:]
    split = arguments.index("--") if "--" in arguments else len(arguments)
    asked, options = parser.parse_args(arguments[:split]), arguments[split + 1 :]
    versions = {"this": Path(__file__).parent.parent} | ({"other": asked.other.resolve()} if asked.other else {})
    print(measure.machine(), flush=True)
    ratios: dict[str, list[float]] = {}
    for repo in asked.repos:
        out = asked.out / repo.resolve().name
        out.mkdir(parents=True, exist_ok=True)
        if not (out / TIMES).exists():
            run_versions(repo, out, asked.minutes, versions, options)
        print_repository(out, list(versions), ratios)
        if asked.replay:
            replay(repo, out, versions["this"], asked.replay)
            print_replay(out, ratios)
    for name, found in ratios.items():
        print(f"median {name}: {statistics.median(found):.3f} ({min(found):.3f} to {max(found):.3f}, {len(found)})")


def print_repository(out: Path, names: list[str], ratios: dict[str, list[float]]) -> None:
    """Print the scores of a repository, and add its ratios to those of the others."""
    run = read_run(out / names[0])
    values = {(score["measure"], score["subject"]): score for score in run["scores"] if not score["by"]}
    seconds = json.loads((out / TIMES).read_text())[names[0]]
    print(f"{out.name}: {seconds / 60:.1f} minutes")
    bits = {subject: score["value"] for (name, subject), score in values.items() if name == "bits per byte"}
    print("  bits per byte: " + ", ".join(f"{subject} {value:.3f}" for subject, value in bits.items()))
    for subject in ("network and memory", "network", "memory"):
        ratios.setdefault(f"{subject} / PPMd-24", []).append(bits[subject] / bits[PPM])
    for each in run["comparisons"]:
        if each["reference"] == PPM:
            interval = "no interval" if each["low"] is None else f"{each['low']:.3f} to {each['high']:.3f}"
            print(f"  {each['subject']} / PPMd-24: {each['ratio']:.3f}, {interval}, {each['groups']} groups")
    exact = {subject: score for (name, subject), score in values.items() if name == "next line, exact match"}
    print("  next line exact: " + ", ".join(f"{subject} {score['value']:.3f}" for subject, score in exact.items()))
    if frequent := exact["most frequent next line"]["value"]:
        ratios.setdefault("next line exact / most frequent", []).append(exact["network and memory"]["value"] / frequent)
    if len(names) > 1:
        both = score_networks(out, names)
        this, other = both["bits_per_byte"]
        ratio, low, high = both["ratio"]
        interval = "no interval" if low is None else f"{low:.3f} to {high:.3f}"
        print(f"  network alone: {this:.3f}, other version {other:.3f}: {ratio:.3f}, {interval}, {both['files']} files")
        ratios.setdefault("network / network of the other version", []).append(ratio)


if __name__ == "__main__":
    main()
