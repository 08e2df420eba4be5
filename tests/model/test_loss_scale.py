"""Training in float16: losses are scaled, and a step that overflows is repeated, not lost."""

from __future__ import annotations

import pytest

import finished
from git_starcoder.errors import UsageError
from git_starcoder.model import building, devices, loss_scale
from git_starcoder.model.config import TrainConfig
from git_starcoder.model.corpus import Corpus
from git_starcoder.model.loss_scale import LossScale
from git_starcoder.model.optimizer import StepRunner
from git_starcoder.model.plan import TrainingPlan
from git_starcoder.model.processes import ProcessGroup
from git_starcoder.text import tokenizer as tokenizers

torch = pytest.importorskip("torch")
TOY = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}


def weight(*gradient):
    found = torch.nn.Parameter(torch.zeros(len(gradient)))
    found.grad = torch.tensor(gradient)
    return found


def test_the_scale_halves_at_an_overflow_and_doubles_after_many_steps(monkeypatch):
    monkeypatch.setattr(loss_scale, "GROWTH_STEPS", 2)
    scale = LossScale()
    scale.value = 4.0
    good, bad, unused = weight(8.0, 4.0), weight(1.0, float("inf")), torch.nn.Parameter(torch.zeros(1))
    assert not scale.unscale(torch, [good, bad, unused])
    assert scale.value == 2.0
    good.grad = torch.tensor([8.0, 4.0])
    assert scale.unscale(torch, [good, unused])
    assert good.grad.tolist() == [4.0, 2.0]
    assert (scale.value, scale.good_steps) == (2.0, 1)
    assert scale.unscale(torch, [good])
    assert (scale.value, scale.good_steps) == (4.0, 0)
    scale.value = 1.0
    assert scale.unscale(torch, [bad])  # whoever looks at the norm says so
    assert scale.value == 1.0


def test_training_in_float16_is_that_in_float32_though_it_overflows(tmp_path, monkeypatch):
    monkeypatch.setattr(loss_scale, "FIRST_SCALE", 2.0**30)
    dataset = finished.toy(tmp_path / "dataset")
    tokenizer = tokenizers.load_tokenizer(dataset.tokenizer_folder)
    corpus = Corpus.read(dataset, tokenizer)
    losses = {}
    for precision in ("float32", "float16"):
        config = TrainConfig(size="toy", batch=512, steps=6, device="cpu", precision=precision)
        runner = StepRunner(building.build_network(config, tokenizer, 128), corpus, config, ProcessGroup())
        runner.micro_batch_tokens = 300
        plan = TrainingPlan.build(corpus, config, 6, is_curriculum=False)
        losses[precision] = [float(runner.run_step(plan, step, 0.01).loss) for step in plan.steps_from()]
    assert losses["float16"] == pytest.approx(losses["float32"], rel=0.01)
    assert losses["float16"][-1] < losses["float16"][0] - 0.1
    values = runner.optimizer.state_values()
    assert values["loss_scale"][0] < 2.0**30
    fresh = StepRunner(runner.network, corpus, config, ProcessGroup())
    fresh.optimizer.restore_state({}, values)
    assert fresh.optimizer.state_values() == values


def test_old_gpus_take_float16_and_are_not_compiled(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert devices.best_precision("cuda") == "float16"
    for capability, has_kernel in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda capability=capability: capability)
        assert devices.has_varlen_kernel("cuda") is has_kernel
    assert not devices.has_varlen_kernel("cpu")


def test_gradients_in_float16_are_not_sharded():
    with pytest.raises(UsageError, match="gradients in float16 cannot be sharded"):
        TrainConfig(shard=True, precision="float16")
