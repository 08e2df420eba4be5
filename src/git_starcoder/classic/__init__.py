"""Provides the commands of the seeds: their flags, file names, words and config keys, translated into ours.

The scripts of a checkout (`create_training_dataset_ELITE.py` and its neighbours) only call `start`.
"""

from __future__ import annotations

from git_starcoder.cli import main

SCRIPT_COMMANDS = {
    "create_training_dataset_effectiveness": "datasets:create_effectiveness",
    "create_training_dataset_ELITE": "datasets:create_elite",
    "test_dataset_effectiveness": "datasets:test_effectiveness",
    "test_dataset_ELITE": "datasets:test_elite",
    "model_trainer_unified": "trainer:command",
}
"""Module and name of the command of each script."""


def start(script: str) -> int:
    """Run the command of a script with the arguments of this process; return its exit code."""
    return main(command=f"git_starcoder.classic.{SCRIPT_COMMANDS[script]}")
