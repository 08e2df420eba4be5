"""Does the preflight check predict the peak memory of a training?

    python benchmarks/peak_memory.py DATASET LONG_DATASET [--only NAME…] [--tokens 4096]

Trains each configuration for two steps, in a new process on this machine's CPU, with one thread and in float32. DATASET
has short rows, and LONG_DATASET longer ones. Compares what the preflight check predicted before the first step with the
most memory that the process had until the last step was done and validated (`VmHWM`). Bases are random networks with
the architecture of Qwen2 and few layers, made in a temporary folder. One training divides its weights between two
processes; its figures are those of the process that needs most.

Prints a line of JSON for each training and a table. Exits with 1 if a prediction is off by more than 15 %.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import measure

ALLOWED = 0.15
"""Share of the measured peak by which a prediction may differ."""
MIB = 1 << 20
BASE_SHAPE = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6, "num_attention_heads": 6}
LARGE_VOCABULARY = 151_936
"""Entries of the vocabulary of Qwen2.5."""
LORA = {"tune": "lora", "base": "base"}
FULL = {"tune": "full", "base": "base"}
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "from scratch, AdamW": {"size": "tiny", "optimizer": "adamw"},
    "from scratch, AdamW, micro-batches of half a step": {"size": "tiny", "optimizer": "adamw", "parts": 2},
    "from scratch, Muon": {"size": "tiny", "optimizer": "muon"},
    "from scratch, Muon, long rows": {"size": "tiny", "optimizer": "muon", "rows": "long"},
    "full tuning": FULL,
    "full tuning, recomputed activations, 8-bit AdamW": {**FULL, "recompute": True, "optimizer": "adamw8bit"},
    "LoRA": LORA,
    "LoRA, recomputed activations": {**LORA, "recompute": True},
    "LoRA, recomputed activations, 151,936 entries": {**LORA, "recompute": True, "base": "large vocabulary"},
    "from scratch, AdamW, shard, 2 processes": {"size": "tiny", "optimizer": "adamw", "shard": True},
}


def make_base(folder: Path, tokenizer_folder: Path, vocab_size: int) -> None:
    """Write an untrained Qwen2 that has the tokenizer of a dataset."""
    import torch
    import transformers

    from git_starcoder.text.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(tokenizer_folder)
    config = transformers.Qwen2Config(
        **BASE_SHAPE, num_key_value_heads=2, vocab_size=max(vocab_size, tokenizer.vocab_size),
        max_position_embeddings=8192, tie_word_embeddings=True, pad_token_id=tokenizer.pad_id,
        eos_token_id=tokenizer.end_id, bos_token_id=tokenizer.end_id,
    )  # fmt: skip
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tokenizer.save(folder)


def work(dataset: str, out: str, values: dict[str, Any]) -> None:
    """Be a process of a training, and print what was predicted and measured."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[int(os.environ.get("RANK", "0")) % os.cpu_count()]})
    from git_starcoder.dataset import Dataset
    from git_starcoder.model import preflight
    from git_starcoder.model.config import TrainConfig
    from git_starcoder.model.loop import TrainingLoop
    from git_starcoder.model.training import train

    predict, run = preflight.predict_peak_memory, TrainingLoop.run
    found: dict[str, Any] = {}

    def predict_and_tell(*given: Any) -> Any:
        peak = predict(*given)
        found.update(predicted=peak.needed, parts=peak.parts)
        return peak

    def run_and_tell(loop: TrainingLoop, **options: bool) -> None:
        run(loop, **options)
        print(json.dumps({**found, "measured": peak_memory()}), flush=True)
        loop.processes.wait()
        os._exit(0)

    preflight.predict_peak_memory, TrainingLoop.run = predict_and_tell, run_and_tell
    train(Dataset.open(Path(dataset)), out, TrainConfig(**values))


def peak_memory() -> int:
    """The most bytes that this process had in memory."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) << 10


def train_apart(dataset: Path, out: Path, values: dict[str, Any], processes: int) -> dict[str, Any]:
    """Train in a new process, or several.

    Raises:
        RuntimeError: A process failed.
    """
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    told = json.dumps([str(dataset), str(out), values])
    command = [sys.executable, *(launcher if processes > 1 else []), __file__, str(dataset), "--work", told]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{values} ended with {done.returncode}: {done.stderr[-3000:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return max(lines, key=lambda line: line["measured"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("long_dataset", type=Path, nargs="?")
    parser.add_argument("--tokens", type=int, default=4096, help="tokens of a step")
    parser.add_argument("--only", nargs="+", default=list(CONFIGURATIONS), choices=list(CONFIGURATIONS))
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(*json.loads(arguments.work))
        return 0
    datasets = {"short": arguments.dataset, "long": arguments.long_dataset}
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="starcoder-memory-") as folder:
        for number, name in enumerate(arguments.only):
            values = dict(CONFIGURATIONS[name])
            dataset = datasets[values.pop("rows", "short")]
            tokens, parts = arguments.tokens, values.pop("parts", 1)
            values |= {"micro_batch": tokens // parts + tokens // 8, "batch": tokens, "steps": 2}
            values |= {"recompute": values.get("recompute", False), "device": "cpu", "precision": "float32"}
            if "base" in values:
                base = Path(folder) / f"base{number}"
                make_base(base, dataset / "tokenizer", LARGE_VOCABULARY if values["base"] == "large vocabulary" else 0)
                values["base"] = str(base)
            found = train_apart(dataset, Path(folder) / f"model{number}", values, 2 if values.get("shard") else 1)
            results.append({"name": name, **found})
            print(json.dumps(results[-1]), flush=True)
    print(f"\n{measure.machine()}; steps of {arguments.tokens:,} tokens, one thread, float32\n")
    print("| training | predicted, MiB | measured, MiB | difference |")
    print("| --- | --- | --- | --- |")
    for result in results:
        result["difference"] = result["predicted"] / result["measured"] - 1
        figures = " | ".join(f"{result[key] / MIB:,.0f}" for key in ("predicted", "measured"))
        print(f"| {result['name']} | {figures} | {result['difference']:+.0%} |")
    return int(any(abs(result["difference"]) > ALLOWED for result in results))


if __name__ == "__main__":
    sys.exit(main())
