"""Trains a DenseNet: `python train.py --growth_rate 12`, the same as `flax-densenet train`."""

import sys

from flax_densenet.commands.main import run_command

if __name__ == "__main__":
    raise SystemExit(run_command("train", sys.argv[1:], prog="python train.py"))
