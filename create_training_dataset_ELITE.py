"""The elite dataset of a Git repository, in training_data_ELITE/."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from git_starcoder.cli import main

if __name__ == "__main__":
    sys.exit(main(command="git_starcoder.cli.seed_dataset_scripts:create_elite"))
