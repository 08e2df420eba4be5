"""The seeds' 24 tests on a built elite dataset: python3 tests/test_dataset_ELITE.py [DIR] [-v]."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from git_starcoder.cli import main

if __name__ == "__main__":
    sys.exit(main(command="git_starcoder.cli.seed_dataset_scripts:test_elite"))
