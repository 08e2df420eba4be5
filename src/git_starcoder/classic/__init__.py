"""The seeds' commands: their flags, file names, words and config keys, translated into ours.

The scripts of a checkout (`create_training_dataset_ELITE.py` and its neighbours) only call `start`.
"""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {
    "create_training_dataset_effectiveness": "create:effectiveness",
    "create_training_dataset_ELITE": "create:elite",
    "test_dataset_effectiveness": "suite:effectiveness",
    "test_dataset_ELITE": "suite:elite",
    "model_trainer_unified": "trainer:command",
}
"""Where the command of a script is, by the script's name."""


def start(script: str) -> int:
    """Run the command of a script on the arguments of this process; give its exit code."""
    module, _, name = COMMANDS[script].partition(":")
    try:
        from git_starcoder.cli import main

        command = getattr(import_module(f"git_starcoder.classic.{module}"), name)
    except ModuleNotFoundError as error:
        hint = "pip install -c constraints.txt '.[train]'"
        sys.stderr.write(f"error: {error.name} is not installed for {sys.executable}\nhint: {hint}\n")
        return 2
    return main(command=command)
