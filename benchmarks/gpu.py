"""Does training work on this GPU, is it exact, and how fast is it? One command, eight minutes at most, no network.

    python benchmarks/gpu.py [--out gpu.json]    # on the machine with the GPU
    python benchmarks/gpu.py --reduced           # tiny shapes on a CPU, in about a minute: does every step still run?

What has to be installed: Python 3.11 or newer, git, and this project with its libraries for training and adapters, with
a torch that is built for CUDA. Where there is a network, `pip wheel -w wheels '.[lora]'`; on a machine without one, from
the root of the project:

    python -m venv .venv && .venv/bin/pip install --no-index --find-links wheels 'git-starcoder[lora]' && \\
        .venv/bin/python benchmarks/gpu.py

Steps, each in a process of its own with a time limit of its own (`STEPS`). Correctness comes first:

- dataset: a generated repository becomes a dataset.
- losses: losses and training on the device agree with those of the CPU in float32.
- compile: a compiled network gives the same losses and gradients; all packed rows of one size share one graph, and no
  graph breaks.
- resume: a training that is interrupted and resumed has the weights of an undisturbed one, bit for bit, with torch's
  deterministic kernels; and how far two trainings are apart without them.
- speed-124M, speed-350M: tokens per second, MFU and peak memory of the training loop on packed rows of 1,024 tokens
  and less; how long training waits for a checkpoint, and how many graphs were compiled.
- lora-1.5B: the same for adapters on a base of the shape of Qwen2.5-Coder-1.5B with random weights, which are made here.
- memory: the estimate of the preflight check against the measured peak.

A step that fails or takes too long is reported, and the next one runs. After each step everything so far is written to
`--out` as JSON. At the end comes the table for docs/benchmarks.md. Exit code 1 if a step failed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from unittest import mock

import measure
import numpy as np

from git_starcoder.dataset import Dataset
from git_starcoder.machine import GIB
from git_starcoder.model.architecture import new_network
from git_starcoder.model.building import build_network
from git_starcoder.model.checkpoint import MetricsLog, load_newest_checkpoint
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.devices import best_precision, import_libraries
from git_starcoder.model.loop import STEPS_PER_GPU_FETCH, TrainingLoop, ValidationSet
from git_starcoder.model.optimizer import Optimizer, StepRunner
from git_starcoder.model.packing import micro_batch_size, pack_rows
from git_starcoder.model.plan import TrainingPlan
from git_starcoder.model.preflight import run_preflight
from git_starcoder.model.processes import ProcessGroup
from git_starcoder.model.throughput import ModelOperations, peak_operations
from git_starcoder.pipeline import build
from git_starcoder.protocols import NO_PROGRESS, Progress
from git_starcoder.recipe import Recipe
from git_starcoder.text import tokenizer as tokenizers

if TYPE_CHECKING:
    from collections.abc import Callable

TOTAL_SECONDS = 480.0
QWEN_1_5B = {
    "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
    "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True, "max_position_embeddings": 32768,
}  # fmt: skip
"""From the configuration of Qwen2.5-Coder-1.5B."""
REDUCED_BASE = QWEN_1_5B | {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 1024,
}  # fmt: skip
MICRO_BATCHES = ((100, 32768), (60, 16384), (30, 8192), (14, 4096), (0, 2048))
"""Tokens of a micro-batch at 124M by the memory of the device in GiB."""
MAX_LOSS_DIFFERENCE = {"float32": 5e-3, "float16": 3e-2, "bfloat16": 6e-2}
"""Root mean square, in nats per token, between the losses of the device and those of the CPU in float32. Products of
float32 on CUDA are in TF32, which has 10 bits; bfloat16 has 7."""
MAX_TRAINED_DIFFERENCE = 0.03
"""Share by which the mean loss of a short training may differ from that on the CPU."""
MEMORY_TOLERANCE = 0.15


class WrongError(Exception):
    """What a step measured is not as it should be. Its figures are reported all the same."""

    def __init__(self, what: str, figures: dict[str, Any]) -> None:
        super().__init__(what)
        self.figures = figures


@dataclass
class Run:
    """Where and how large."""

    scratch: Path
    device: str
    reduced: bool

    @property
    def torch(self) -> Any:
        return import_libraries()[0]

    @property
    def dataset(self) -> Dataset:
        return Dataset.open(self.scratch / "dataset")

    def synchronize(self) -> None:
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    def peak_gib(self) -> float:
        """The largest memory of the device so far, or of this process."""
        if self.device == "cuda":
            return self.torch.cuda.max_memory_allocated() / GIB
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def make_dataset(run: Run) -> dict[str, Any]:
    random, repo = Random(0), run.scratch / "repository"
    repo.mkdir()
    names = ["account", "order", "ledger", "ticket", "parcel", "sensor", "signal", "packet", "folder", "member"]
    for file in range(12 if run.reduced else 60):
        parts = [f'"""Module {file} of a generated repository."""\n\n']
        for _ in range(12):
            one, other, third = random.sample(names, 3)
            parts.append(
                f"def find_{one}_{random.randrange(99)}(items, limit):\n    {other} = {random.randrange(999)}\n"
                f"    for {third} in items:\n        if {third} > limit + {random.randrange(9)}:\n"
                f"            {other} += {third} * {random.randrange(99)}\n    return {other}\n\n\n"
            )
        (repo / f"module_{file}.py").write_text("".join(parts))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-C", str(repo)]
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "generated"]):
        subprocess.run([*git, *command], check=True)
    build(repo, Recipe.load(overrides=("window.size=256",)), run.scratch / "dataset")
    corpus = Corpus.read(run.dataset, tokenizers.load_tokenizer(run.dataset.tokenizer_folder))
    return {"rows": len(corpus.lengths), "tokens": int(corpus.lengths.sum())}


def describe_device(run: Run) -> dict[str, Any]:
    torch = run.torch
    figures: dict[str, Any] = {"torch": torch.__version__, "precision": best_precision(run.device)}
    if run.device != "cuda":
        return {"name": measure.machine(), **figures}
    name = torch.cuda.get_device_name()
    peak = peak_operations(name, figures["precision"])
    free, total = torch.cuda.mem_get_info()
    return {
        "name": name, **figures, "capability": ".".join(map(str, torch.cuda.get_device_capability())),
        "cuda": torch.version.cuda, "gib": round(total / GIB, 1), "free_gib": round(free / GIB, 1),
        "peak_tflops": None if peak is None else peak / 1e12,
    }  # fmt: skip


def small_config(run: Run, **values: Any) -> TrainConfig:
    """A training on the generated dataset. On a CPU, one that takes seconds."""
    size = {"size": "200K", "batch": 256} if run.reduced else {"size": "tiny", "batch": 2048}
    return TrainConfig(**{"device": run.device, "steps": 3 if run.reduced else 8, "compile": False, **size, **values})


def runner_for(config: TrainConfig, dataset: Dataset) -> StepRunner:
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    corpus = Corpus.read(dataset, tokenizer)
    runner = StepRunner(build_network(config, tokenizer, 512), corpus, config, ProcessGroup())
    runner.micro_batch_tokens = max(config.batch, int(corpus.lengths.max()) + 8)
    return runner


def trained_losses(runner: StepRunner) -> list[float]:
    """The losses of all steps at a constant rate."""
    plan = TrainingPlan.build(runner.corpus, runner.config, runner.config.steps or 0, is_curriculum=False)
    return [float(runner.run_step(plan, step, 3e-3).loss) for step in plan.steps_from()]


def compare_losses(run: Run) -> dict[str, Any]:
    """The losses of some rows, and of a short training, in each precision against float32 on the CPU."""
    torch, figures = run.torch, {}
    best = best_precision(run.device) if run.device == "cuda" else "bfloat16"
    sides = {"cpu": ("cpu", "float32"), "float32": (run.device, "float32"), best: (run.device, best)}
    rows_of: dict[str, Any] = {}
    trained_of: dict[str, Any] = {}
    for name, (device, precision) in sides.items():
        runner = runner_for(small_config(run, device=device, precision=precision), run.dataset)
        rows = [
            runner.corpus.input_tokens(row) for row in range(min(4 if run.reduced else 24, len(runner.corpus.lengths)))
        ]
        with torch.no_grad():
            runner.network.model.eval()
            rows_of[name] = runner.network.token_losses(pack_rows(rows)).float().cpu().numpy()
        trained_of[name] = np.array(trained_losses(runner))
    wrong = ""
    for name, (_, precision) in list(sides.items())[1:]:
        difference = float(np.sqrt(np.mean((rows_of[name] - rows_of["cpu"]) ** 2)))
        apart = float(np.abs(trained_of[name] / trained_of["cpu"] - 1).max())
        figures[name] = {"rms_nats": round(difference, 6), "trained_apart": round(apart, 5)}
        if not difference <= MAX_LOSS_DIFFERENCE[precision] or not apart <= MAX_TRAINED_DIFFERENCE:
            wrong = f"the losses in {name} are not those of the CPU"
    if wrong:
        raise WrongError(wrong, figures)
    return figures


def compare_compiled(run: Run) -> dict[str, Any]:
    """Losses and gradients with and without compilation, over micro-batches of one size with other rows."""
    torch = run.torch
    dataset = run.dataset
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    corpus = Corpus.read(dataset, tokenizer)
    rows = [corpus.input_tokens(row) for row in range(min(40, len(corpus.lengths)))]
    size = 1024 if run.reduced else 8192
    precision = "float32" if run.device == "cpu" else best_precision(run.device)
    counters = torch._dynamo.utils.counters  # noqa: SLF001
    found: dict[bool, list[Any]] = {}
    graphs: list[int] = []
    # A CPU has no time for the compiler: there, the graph is only traced.
    faster = mock.patch.object(torch, "compile", partial(torch.compile, backend="aot_eager"))
    for is_compiled in (False, True):
        with faster if run.reduced else mock.MagicMock():
            network = new_network(
                small_config(run).size, tokenizer, 512, 0,
                device=run.device, precision=precision, is_compiled=is_compiled,
            )  # fmt: skip
        found[is_compiled] = []
        network.model.train()
        for count in (1, 2, 3):
            packed = pack_rows([row[: 50 * count] for row in rows[count : 3 * count]], multiple=size)
            losses = network.token_losses(packed)
            losses.mean().backward()
            norm = torch.stack([weight.grad.norm() for weight in network.trainable_weights().values()]).norm()
            found[is_compiled].append((losses.detach().float().cpu().numpy(), float(norm)))
            network.model.zero_grad()
            if is_compiled:
                graphs.append(int(counters["stats"]["unique_graphs"]))
    pairs = list(zip(found[False], found[True], strict=True))
    figures = {
        "rms_nats": round(max(float(np.sqrt(np.mean((one - other) ** 2))) for (one, _), (other, _) in pairs), 6),
        "gradient_apart": round(max(abs(one / other - 1) for (_, one), (_, other) in pairs), 6),
        "graphs": graphs[-1], "graph_breaks": sum(counters["graph_break"].values()),
    }  # fmt: skip
    if figures["rms_nats"] > MAX_LOSS_DIFFERENCE[precision] or figures["gradient_apart"] > MAX_TRAINED_DIFFERENCE:
        raise WrongError("a compiled network computes something else", figures)
    if graphs[-1] != graphs[0] or figures["graph_breaks"]:
        raise WrongError("rows of one size share no graph", figures)
    return figures


class Interrupt(Progress):
    """Ends a training, as Ctrl-C does, after some steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def advance(self, count: int) -> None:
        self.left -= count
        if self.left <= 0:
            raise KeyboardInterrupt


def make_loop(
    runner: StepRunner, folder: Path, plan: TrainingPlan, progress: Progress = NO_PROGRESS, *, resume: bool = False
) -> TrainingLoop:
    """The training loop as `train` makes it, without a held-out text."""
    folder.mkdir(exist_ok=True)
    checkpoint = load_newest_checkpoint(folder, print) if resume else None
    if resume and checkpoint is None:
        raise RuntimeError("no checkpoint was written")
    size, step = (checkpoint.values["metrics"], checkpoint.step) if checkpoint else (0, 0)
    metrics = MetricsLog(folder, size=size, step=step, tensorboard=False)
    nothing = ValidationSet(runner.network, (), 0)
    loop = TrainingLoop(runner, plan, None, nothing, metrics, folder, {}, progress)
    if checkpoint:
        loop.restore(checkpoint)
    return loop


def resume(run: Run) -> dict[str, Any]:
    torch = run.torch
    steps = 6 if run.device == "cpu" else 3 * STEPS_PER_GPU_FETCH
    config = small_config(run, steps=steps, checkpoint_minutes=1e-6, ema=0.9, dropout=0.1)

    def weights(name: str, stops: tuple[int, ...] = ()) -> Any:
        for index in range(len(stops) + 1):
            runner = runner_for(config, run.dataset)
            plan = TrainingPlan.build(runner.corpus, config, steps, is_curriculum=False)
            progress = Interrupt(stops[index]) if index < len(stops) else NO_PROGRESS
            loop = make_loop(runner, run.scratch / name, plan, progress, resume=index > 0)
            try:
                loop.run()
            except KeyboardInterrupt:
                continue
        loop.token_counter.close()
        return [weight.detach().cpu().clone() for weight in runner.weights.values()]

    def apart(one: Any, other: Any) -> float:
        return max(float((first - second).abs().max()) for first, second in zip(one, other, strict=True))

    figures: dict[str, Any] = {"steps": steps}
    if run.device == "cuda":  # the usual kernels add up in an order that differs from run to run
        figures["two_runs_apart"] = apart(weights("first"), weights("second"))
    torch.use_deterministic_algorithms(True)
    whole = weights("whole")
    figures["resumed_apart"] = apart(whole, weights("resumed", (2 * steps // 3,)))
    figures["two_exact_runs_apart"] = apart(whole, weights("again")) if run.device == "cuda" else 0.0
    if figures["resumed_apart"]:
        raise WrongError("a resumed training has other weights", figures)
    return figures


def random_corpus(tokenizer: Any, tokens: int, window: int) -> Corpus:
    """Rows of random tokens: three quarters have the length of a window, the others any."""
    random = np.random.default_rng(0)
    lengths = np.where(random.random(tokens // window) < 0.75, window, random.integers(16, window, tokens // window))
    count = len(lengths)
    data = random.integers(0, tokenizer.vocab_size, int(lengths.sum())).astype(np.uint16)
    data[np.isin(data, list(tokenizer.control_tokens))] = 300
    return Corpus(
        data, np.concatenate(([0], np.cumsum(lengths))), np.ones(count, dtype=bool), np.zeros(count, dtype=bool),
        np.zeros(count, dtype=np.int32), np.full(count, -1), np.ones(count), np.arange(count, dtype=np.uint64),
        end_token=tokenizer.end_id, fim_tokens=None,
        text_tokens=np.setdiff1d(np.arange(tokenizer.vocab_size), list(tokenizer.control_tokens)),
    )  # fmt: skip


def choose_micro_batch(run: Run, divisor: int) -> int:
    """Tokens of a micro-batch that should fit. If they do not, the trainer halves them."""
    if run.reduced:
        return 512
    gib = run.torch.cuda.mem_get_info()[1] / GIB if run.device == "cuda" else 0
    return max(2048, next(tokens for least, tokens in MICRO_BATCHES if gib >= least) // divisor)


def measure_loop(run: Run, config: TrainConfig, window: int) -> dict[str, Any]:
    """Run the training loop on random rows. The first interval, in which the network is compiled, does not count."""
    torch, scratch = run.torch, run.scratch / "loop"
    tokenizer = tokenizers.load_tokenizer(run.dataset.tokenizer_folder)
    steps, batch = config.steps or 0, config.batch
    corpus = random_corpus(tokenizer, max(2 * batch, 50 * window), window)
    begun = time.perf_counter()
    network = build_network(config, tokenizer, window)
    runner = StepRunner(network, corpus, config, ProcessGroup())
    built = time.perf_counter() - begun
    plan = TrainingPlan.build(corpus, config, steps, is_curriculum=False)
    # A little more than `micro_batch`, so that nearly every step fits into whole micro-batches, as the trainer does it.
    runner.micro_batch_tokens = micro_batch_size(corpus, plan, max(1, round(batch / (config.micro_batch or batch))))
    if run.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    loop = make_loop(runner, scratch, plan)
    begun = time.perf_counter()
    loop.run()
    run.synchronize()
    whole = time.perf_counter() - begun
    # Losses are fetched in intervals; all steps of one have the same time.
    lines = [line for line in loop.metrics.lines if "loss" in line] if loop.metrics else []
    first = next(line for line in reversed(lines) if line["seconds"] == lines[0]["seconds"])
    seconds = lines[-1]["seconds"] - first["seconds"]
    targets = lines[-1]["tokens"] - first["tokens"]
    counts = loop.counts
    peak = peak_operations(torch.cuda.get_device_name() if run.device == "cuda" else "", network.precision)
    operations = ModelOperations.of(network)
    rate = (operations.per_input + operations.per_target) * targets / seconds
    begun = time.perf_counter()
    loop._save_checkpoint()  # noqa: SLF001
    waited = time.perf_counter() - begun
    loop.writer.wait()
    written = time.perf_counter() - begun
    return {
        "parameters": sum(weight.numel() for weight in network.model.parameters()), "precision": network.precision,
        "tokens_per_second": round(targets / seconds), "mfu": None if peak is None else round(rate / peak, 4),
        "tflops": round(rate / 1e12, 3), "seconds": round(seconds, 2), "batch": batch,
        "micro_batch": runner.micro_batch_tokens, "padding": round(counts.padded / counts.laid, 4),
        "peak_gib": round(run.peak_gib(), 2), "built_s": round(built, 1),
        "first_interval_s": round(whole - seconds, 1), "loss": round(lines[-1]["loss"], 3),
        "checkpoint_wait_s": round(waited, 3), "checkpoint_s": round(written, 2),
        "graphs": int(torch._dynamo.utils.counters["stats"].get("unique_graphs", 0)),  # noqa: SLF001
    }  # fmt: skip


def speed(run: Run, size: str, divisor: int) -> dict[str, Any]:
    micro_batch = choose_micro_batch(run, divisor)
    values: dict[str, Any] = {"size": size, "batch": 4 * micro_batch, "steps": 3 * STEPS_PER_GPU_FETCH}
    if run.reduced:
        values |= {"size": "200K", "batch": 1024, "steps": 3}
    config = TrainConfig(device=run.device, micro_batch=micro_batch, checkpoint_minutes=60, fim=0, **values)
    return measure_loop(run, config, 128 if run.reduced else 1024)


def lora(run: Run) -> dict[str, Any]:
    torch, transformers = import_libraries()
    folder = run.scratch / "base"
    settings = transformers.Qwen2Config(**(REDUCED_BASE if run.reduced else QWEN_1_5B))
    with torch.device(run.device):
        base = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)
    base.save_pretrained(folder)
    del base
    if run.device == "cuda":
        torch.cuda.empty_cache()
    for file in run.dataset.tokenizer_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    micro_batch = choose_micro_batch(run, 4)
    values = (
        {"batch": 1024, "steps": 3} if run.reduced else {"batch": 2 * micro_batch, "steps": 2 * STEPS_PER_GPU_FETCH}
    )
    config = TrainConfig(
        base=str(folder),
        tune="lora",
        device=run.device,
        micro_batch=micro_batch,
        checkpoint_minutes=60,
        fim=0,
        **values,
    )
    return measure_loop(run, config, 128 if run.reduced else 1024)


def compare_memory(run: Run) -> dict[str, Any]:
    """The estimate of the preflight check, and the peak of some steps, for a size and two micro-batches."""
    torch, dataset = run.torch, run.dataset
    figures: dict[str, Any] = {}
    wrong = ""
    shapes = (("200K", 512),) if run.reduced else (("medium", 4096), ("medium", 16384), ("large", 4096))
    for size, tokens in shapes:
        config = small_config(run, size=size, batch=tokens, micro_batch=tokens, steps=3)
        if run.device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        runner = runner_for(config, dataset)
        tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
        results = run_preflight(dataset, runner.corpus, runner.network, tokenizer, config, run.scratch / "none")
        figure = next(result.figure for result in results if result.what == "memory")
        match = re.search(r"about ([\d.]+) GiB", figure)
        if match is None:
            raise RuntimeError(f"the preflight check says no figure: {figure}")
        runner.optimizer = Optimizer(runner.network, config, runner.processes)
        trained_losses(runner)
        estimate, peak = float(match[1]), run.peak_gib()
        figures[f"{size}, {tokens:,} tokens"] = {"estimate_gib": estimate, "peak_gib": round(peak, 2)}
        if run.device == "cuda" and abs(estimate / peak - 1) > MEMORY_TOLERANCE:
            wrong = f"the estimate is off by more than {MEMORY_TOLERANCE:.0%}"
        del runner
    if wrong:
        raise WrongError(wrong, figures)
    return figures


STEPS: dict[str, tuple[float, Callable[[Run], dict[str, Any]]]] = {
    "dataset": (40.0, make_dataset),
    "device": (20.0, describe_device),
    "losses": (45.0, compare_losses),
    "compile": (50.0, compare_compiled),
    "resume": (60.0, resume),
    "speed-124M": (80.0, partial(speed, size="124M", divisor=1)),
    "speed-350M": (90.0, partial(speed, size="350M", divisor=2)),
    "lora-1.5B": (60.0, lora),
    "memory": (35.0, compare_memory),
}
"""The limit of each step in seconds, on a GPU, and the step."""
SHARED_MODULES = (
    "torch._dynamo", "peft", "transformers.models.qwen2.modeling_qwen2", "transformers.models.qwen3.modeling_qwen3",
)  # fmt: skip
"""What takes seconds to import is imported once, before the processes of the steps begin."""
REDUCED_FACTOR = 10.0
"""A CPU may be busy, so its limits are larger."""


def run_step(function: Callable[[Run], dict[str, Any]], run: Run, file: Path) -> None:
    """Run a step, and write what it found. In a process of its own."""
    try:
        found = {"ok": True, **function(run)}
    except WrongError as error:
        found = {"ok": False, "why": str(error), **error.figures}
    except BaseException as error:  # noqa: BLE001 - whatever it is, the other steps go on
        traceback.print_exc()
        found = {"ok": False, "why": f"{type(error).__name__}: {error}"[:500]}
    file.write_text(json.dumps(found))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # without the end of libraries that another process has loaded


def run_limited(name: str, run: Run, seconds: float) -> dict[str, Any]:
    """Run a step in a process of its own, and end it after so many seconds."""
    file = run.scratch / f"{name}.json"
    context = multiprocessing.get_context("fork")  # libraries are loaded once, and CUDA only in the process of a step
    begun, used = time.perf_counter(), os.times()
    process = context.Process(target=run_step, args=(STEPS[name][1], run, file))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        found: dict[str, Any] = {"ok": False, "why": f"took more than {seconds:.0f} s"}
    elif file.is_file():
        found = json.loads(file.read_text())
    else:
        found = {"ok": False, "why": f"the process ended with {process.exitcode}"}
    now = os.times()
    processor = now.children_user + now.children_system - used.children_user - used.children_system
    return {**found, "wall_s": round(time.perf_counter() - begun, 1), "processor_s": round(processor, 1)}


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = ["| step | result | seconds | figures |", "| --- | --- | --- | --- |"]
    for name, found in results.items():
        hidden = {"ok", "why", "wall_s", "processor_s"}
        figures = ", ".join(f"{key} {json.dumps(value)}" for key, value in found.items() if key not in hidden)
        result = "ok" if found["ok"] else f"**{found['why']}**"
        lines.append(
            f"| {name} | {result} | {found['wall_s']} | {figures.translate({ord(mark): None for mark in '{}'})} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="where the results go")
    parser.add_argument("--reduced", action="store_true", help="tiny shapes on a CPU")
    parser.add_argument("--steps", nargs="+", choices=STEPS, help="only these, and what they need")
    arguments = parser.parse_args()
    os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # torch's deterministic products want it
    begun = time.perf_counter()
    import_libraries()
    for name in SHARED_MODULES:
        with suppress(ImportError):  # whose step says so
            import_module(name)
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="starcoder-gpu-") as scratch:
        run = Run(Path(scratch), "cpu" if arguments.reduced else "cuda", arguments.reduced)
        for name, (limit, _) in STEPS.items():
            if arguments.steps and name not in {"dataset", *arguments.steps}:
                continue
            factor = REDUCED_FACTOR if arguments.reduced else 1.0
            left = factor * TOTAL_SECONDS - (time.perf_counter() - begun)
            results[name] = run_limited(name, run, max(1.0, min(factor * limit, left)))
            print(json.dumps({"step": name, **results[name]}), flush=True)
            record = {
                "command": " ".join(sys.argv), "reduced": arguments.reduced, "machine": measure.machine(),
                "seconds": round(time.perf_counter() - begun, 1), "steps": results,
            }  # fmt: skip
            partial_file = arguments.out.with_suffix(".partial")
            partial_file.write_text(json.dumps(record, indent=1) + "\n")
            partial_file.replace(arguments.out)
    print(table(results))
    if not all(found["ok"] for found in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
