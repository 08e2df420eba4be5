"""The seeds' 17 tests on a built dataset: python3 tests/test_dataset_effectiveness.py [DIR]."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from git_starcoder.classic import start

if __name__ == "__main__":
    sys.exit(start("test_dataset_effectiveness"))
