"""Train, or evaluate, a small model on a dataset, with the flags of the seeds."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from git_starcoder.cli import main

if __name__ == "__main__":
    sys.exit(main(command="git_starcoder.cli.seed_trainer_script:command"))
