"""The flags of `flax-densenet convert`."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from flax_densenet.commands.parsing import parse_flags
from flax_densenet.conversion.stored_type import StoredType
from flax_densenet.errors import require
from flax_densenet.layouts import LAYOUTS
from flax_densenet.options import Activation, TransitionPool
from flax_densenet.variants import VARIANTS


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertArguments:
    """Convert a DenseNet checkpoint: PyTorch, Keras or Flax in, Flax or PyTorch out.

    Attributes:
      source: A .pth, .safetensors or .h5 file, an Orbax directory or a work directory of train.
      target: A directory (Flax variables, Orbax), FILE.pth (PyTorch state dict) or
        FILE.safetensors (whichever of the two the source is not).
      layout: Whose names the target has; torchvision, or flax. Others are on request.
      optimizer: Take the momentum and the step of SGD along, so that the training can go on.
      weights: Which weights of the source to take, by their place in it, where there are several.
      dtype: Type of the target's parameters. Running statistics have at least float32.
      variant: The network that the source is expected to hold; another one is an error.
      depth: Depth that the source is expected to have, likewise.
      growth_rate: Growth rate that the source is expected to have, likewise.
      num_classes: Classes of the target. Another number than the source's needs new_head.
      new_head: Give the target a classifier with initial weights.
      in_channels: Image channels of the target: 1 from any number (the kernels are added), or any
        number from 1 (the kernel is divided).
      activation: Activation of the source, if it does not tell: weights alone show no difference
        between those without parameters.
      transition_pool: Pooling of the source, likewise.
      batch_norm_epsilon: What the source's training added to variances, if its layout's is wrong.
      mean: Mean of each image channel in 0 to 255, if the source does not tell or is wrong.
      std: Standard deviation of each image channel, likewise.
      overwrite: Replace the target if it exists.
      no_verify: Do not run both networks afterwards to compare them.
      report: CSV file for the mapping, one row for each array.
    """

    source: Annotated[str, tyro.conf.Positional]
    target: Annotated[str, tyro.conf.Positional]
    layout: str | None = None
    optimizer: bool = False
    weights: str | None = None
    dtype: StoredType = "float32"
    variant: str | None = None
    depth: int | None = None
    growth_rate: int | None = None
    num_classes: int | None = None
    new_head: bool = False
    in_channels: int | None = None
    activation: Activation | None = None
    transition_pool: TransitionPool | None = None
    batch_norm_epsilon: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    overwrite: bool = False
    no_verify: bool = False
    report: str | None = None

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            require(
                bool(getattr(self, name)), name, "", "a path; is a variable of the shell empty?"
            )
        for name, table in (("layout", LAYOUTS), ("variant", VARIANTS)):
            value = getattr(self, name)
            require(value is None or value in table, name, value, f"one of {', '.join(table)}")
        for name in ("num_classes", "in_channels"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer of at least 1")


def parse_convert_arguments(args: Sequence[str], prog: str) -> ConvertArguments:
    """Parses the command line.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    return parse_flags(ConvertArguments, args, prog)
