"""The flags of `flax-densenet parity`, whose defaults come from what is compared."""

import argparse
import dataclasses
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import tyro

from flax_densenet.commands.network import (
    NetworkName,
    UntypedNetworkArguments,
    parse_with_network,
)
from flax_densenet.config import DenseNetConfig
from flax_densenet.errors import require
from flax_densenet.formulation import Formulation
from flax_densenet.parity.settings import Precision
from flax_densenet.variants import VARIANTS

if TYPE_CHECKING:
    from flax_densenet.conversion.checkpoint import Checkpoint
    from torch_reference.counterpart import Counterpart


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityArguments:
    """Show, layer by layer, that Flax and PyTorch compute the same network.

    Attributes:
      name: A network of the paper, such as densenet121; flags behind it change it further.
      network: The network.
      weights: A checkpoint of any layout that convert reads; the weights are random if not given.
      against: What to compare with: torchvision or timm, if they are installed, or
        FILE.py:FUNCTION, which returns your own torch module. Our PyTorch reference if not given.
      precision: What to compare in, with commas: float64 separates faults from rounding; float32 is
        with all its digits (no TF32); default is float32 as the frameworks compute it here.
      formulation: How the Flax network computes: plain shows every output; native (or
        cache_blocked, without a C++ compiler) is what training on a single CPU device uses, and
        shows none before the classifier.
      steps: Steps of training to compare; 0 leaves training out.
      image_size: Height and width in pixels, one number if they are equal. If not given, 32 for the
        cifar stem and 64 for the imagenet stem.
      batch_size: Images. Few values for each channel in the last block amplify rounding.
      seed: Of the random weights and images.
      json: Print everything as JSON instead of the table.
      html: Write a page with the table and plots to this file.
    """

    name: NetworkName = None
    network: UntypedNetworkArguments
    weights: str | None = None
    against: str | None = None
    precision: tuple[Precision, ...] = ("float64", "float32")
    formulation: Formulation = "plain"
    steps: int = 5
    image_size: tuple[int, ...] | None = None
    batch_size: int = 8
    seed: int = 0
    json: tyro.conf.FlagCreatePairsOff[bool] = False
    html: str | None = None

    def __post_init__(self) -> None:
        for name, minimum in (("steps", 0), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            require(value >= minimum, name, value, f"an integer of at least {minimum}")
        size = self.image_size
        is_size = size is None or (len(size) in (1, 2) and min(size) >= 1)
        require(is_size, "image_size", size, "one number of at least 1, or two: HEIGHT,WIDTH")


class ParityRequest(NamedTuple):
    """What is to be compared.

    Attributes:
      arguments: The flags.
      checkpoint: What `weights` names, if it is given.
      counterpart: What `against` names, if that is a network of the user's own.
      command: The whole command line, for the report.
    """

    arguments: ParityArguments
    checkpoint: "Checkpoint | None"
    counterpart: "Counterpart | None"
    command: str


def parse_parity_arguments(args: Sequence[str], prog: str) -> ParityRequest:
    """Parses the command line.

    A checkpoint or a network of the user's own decides the defaults of the network's flags, so that
    it is opened first.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      InputError: There is no such network, or it cannot be opened.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    weights, against = _read_first(args)
    is_package = against in ("torchvision", "timm")
    own_network = None if is_package else against
    checkpoint = counterpart = None
    if weights or own_network is not None:
        from flax_densenet.commands.parity_networks import open_networks  # JAX and PyTorch

        checkpoint, counterpart = open_networks(weights, own_network)
    opened = checkpoint or counterpart
    usual = VARIANTS["densenet121"] if is_package else DenseNetConfig()
    arguments = parse_with_network(
        ParityArguments,
        args,
        prog,
        flags=UntypedNetworkArguments,
        otherwise=opened.config if opened else usual,
    )
    command = shlex.join([*prog.split(), *args])
    return ParityRequest(arguments, checkpoint, counterpart, command)


def _read_first(args: Sequence[str]) -> tuple[str | None, str | None]:
    """Returns --weights and --against, which decide the defaults of the network's flags."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--weights")
    parser.add_argument("--against")
    try:
        first = parser.parse_known_args(args)[0]
    except argparse.ArgumentError:  # a flag without its value, which tyro explains
        return None, None
    return first.weights, first.against
