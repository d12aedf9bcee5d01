"""Trains a DenseNet: `python train.py --growth_rate 12`, the same as `flax-densenet train`."""

import sys

from flax_densenet.cli.interruption import exit_on_interrupt

exit_on_interrupt()  # before anything that takes time to import

from flax_densenet.cli.main import run_command  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(run_command("train", sys.argv[1:], prog="python train.py"))
