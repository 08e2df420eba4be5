"""A repository that is also a checkout of ours, with the seeds' commands, as their documents assume."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[1]
CONFIG = "training_config_metal_cuda_universal.yaml"
SCRIPTS = (
    "create_training_dataset_effectiveness.py", "create_training_dataset_ELITE.py", "tests/test_dataset_effectiveness.py",
    "tests/test_dataset_ELITE.py", "training/model_trainer_unified.py", CONFIG,
)  # fmt: skip


def furnish(repository):
    """Put the commands into a repository."""
    (repository / "src").mkdir(exist_ok=True)
    (repository / "src/git_starcoder").symlink_to(ROOT / "src/git_starcoder")
    for script in SCRIPTS:
        (repository / script).parent.mkdir(exist_ok=True)
        (repository / script).write_bytes((ROOT / script).read_bytes())
