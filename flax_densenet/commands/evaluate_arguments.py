"""The flags of `flax-densenet evaluate`."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro

from flax_densenet.commands.device_options import DeviceOptions
from flax_densenet.errors import require

SplitName = Literal["test", "validation", "train"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateArguments:
    """Evaluate a trained network: loss, errors, a table by class and a confusion matrix.

    Attributes:
      path: A work directory, or one of its checkpoints, such as runs/mine/checkpoints/220.
      best: Take the work directory's best checkpoint instead of its newest.
      dataset: Evaluate on another data set with the same classes.
      data_dir: Directory that holds its files.
      image_size: Height and width in pixels to which images in files are brought; the run's if not
        given, but for another data set.
      split: Images to evaluate on.
      batch_size: Images per step; it does not change the result.
      num_workers: Processes that read and decode images in files; 0 reads in the main process.
      output: Directory for confusion.png and evaluation.json; evaluation/ in the work directory if
        not given.
      devices: Which devices take part.
    """

    path: Annotated[str, tyro.conf.Positional]
    best: bool = False
    dataset: str | None = None
    data_dir: str | None = None
    image_size: int | None = None
    split: SplitName = "test"
    batch_size: int = 256
    num_workers: int = 0
    output: str | None = None
    devices: DeviceOptions = DeviceOptions()

    def __post_init__(self) -> None:
        for name, minimum in (("batch_size", 1), ("num_workers", 0)):
            value = getattr(self, name)
            require(value >= minimum, name, value, f"an integer of at least {minimum}")


def parse_evaluate_arguments(args: Sequence[str], prog: str) -> EvaluateArguments:
    """Parses the command line.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    return tyro.cli(
        EvaluateArguments,
        args=args,
        prog=prog,
        use_underscores=True,
        config=(tyro.conf.OmitArgPrefixes,),
    )
