"""The flags of `flax-densenet learning-curves`."""

import dataclasses
from collections.abc import Sequence

from flax_densenet.commands.arguments import RunArguments, parse_run_arguments
from flax_densenet.commands.device_options import DeviceOptions
from flax_densenet.errors import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Which runs there are, and where their results are kept.

    Attributes:
      seeds: Runs of each framework; their seeds are those from `seed` on.
      output: Directory for config.json, results.jsonl, learning-curves.png and comparison.md. If
        it holds a part of the study already, the rest is done.
    """

    seeds: int = 5
    output: str = "learning-curves"

    def __post_init__(self) -> None:
        require(self.seeds >= 2, "seeds", self.seeds, "an integer of at least 2")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LearningCurvesArguments(RunArguments):
    """Train the same network in Flax and in PyTorch, several times each, and compare.

    Recipe and order of the images are the same; each framework draws its own initial weights,
    augmentation and dropout.
    """

    study: StudyOptions = StudyOptions()
    devices: DeviceOptions = DeviceOptions()


def parse_learning_curves_arguments(args: Sequence[str], prog: str) -> LearningCurvesArguments:
    """Parses the command line; as `parse_run_arguments`.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.
    """
    return parse_run_arguments(LearningCurvesArguments, args, prog)
