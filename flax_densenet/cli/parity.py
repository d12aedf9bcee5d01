"""`flax-densenet parity`: whether two frameworks compute the same network, layer by layer."""

import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import tyro

from flax_densenet.cli.devices import DeviceFlags, choose_devices
from flax_densenet.cli.flags import NetworkFlags, WeightsFlags, check_size
from flax_densenet.cli.report import to_json
from flax_densenet.cli.two_pass import given, parse_with_network
from flax_densenet.errors import InputError, NetworksDiffer, require
from flax_densenet.files import make_directory, written_whole
from flax_densenet.implementations.choose import Implementation
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.fields import ComputeType
from flax_densenet.network.variants import VARIANTS
from flax_densenet.parity.half import Precision
from flax_densenet.summary.operations import list_operations

if TYPE_CHECKING:
    from flax_densenet.parity.report import Report
    from flax_densenet.parity.theirs.counterpart import Counterpart
    from flax_densenet.weights.checkpoint import Checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParityArguments:
    """Show, layer by layer, that Flax and PyTorch compute the same network.

    Attributes:
      name: A network of the paper, such as densenet121; flags after it change it further.
      network: The network.
      weights: A checkpoint of any layout that convert reads, or the name of published weights; the
        weights are random if not given.
      source: Which weights are taken, and from where.
      against: What to compare with: torchvision or timm, if they are installed, or
        FILE.py:FUNCTION, which returns your own torch module. Our PyTorch reference if not given.
      precision: What to compare in, with commas: float64 separates faults from rounding; float32 is
        with all its digits (no TF32); default is float32 as the frameworks compute it here.
      implementation: How the Flax network computes: plain shows every output; native (or
        blocked, without a C++ compiler) is what training on a single CPU device uses, and
        shows none before the classifier.
      steps: Steps of training to compare; 0 leaves training out.
      image_size: Height and width in pixels, one number if they are equal. If not given, 32 for the
        cifar stem and 64 for the imagenet stem.
      batch_size: Images. Few values for each channel in the last block amplify rounding.
      seed: Of the random weights and images.
      json: Print everything as JSON instead of the table.
      html: Write a page with the table and plots to this file.
    """

    name: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME]")] = None
    network: DenseNetConfig
    weights: str | None = None
    source: WeightsFlags = WeightsFlags()
    against: str | None = None
    precision: tuple[Precision, ...] = ("float64", "float32")
    implementation: Implementation = "plain"
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
        check_size(self.image_size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _UntypedNetworkFlags(NetworkFlags):
    """The network; --precision says what it is computed in."""

    dtype: tyro.conf.Suppress[ComputeType] = "float32"


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


def parse(args: Sequence[str], prog: str) -> ParityRequest:
    """Parses the command line.

    A checkpoint or a network of the user's own is opened first, since it decides the defaults of
    the network's flags.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      InputError: There is no such network, or it cannot be opened.
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    weights, against = given(args, "weights"), given(args, "against")
    is_package = against in ("torchvision", "timm")
    source = WeightsFlags(weight_set=given(args, "weight_set"), offline="--offline" in args)
    checkpoint, counterpart = _open(weights, source, None if is_package else against)
    opened = checkpoint or counterpart
    usual = VARIANTS["densenet121"] if is_package else DenseNetConfig()
    arguments = parse_with_network(
        ParityArguments,
        args,
        prog,
        otherwise=opened.config if opened else usual,
        spelled={DenseNetConfig: _UntypedNetworkFlags},
    )
    command = shlex.join([*prog.split(), *args])
    return ParityRequest(arguments, checkpoint, counterpart, command)


def _open(
    weights: str | None, source: WeightsFlags, own_network: str | None
) -> "tuple[Checkpoint | None, Counterpart | None]":
    """Opens the checkpoint and the user's own network that are given."""
    if not weights and own_network is None:
        return None, None
    find_counterpart = _set_up_frameworks()
    from flax_densenet.weights.load import load_checkpoint

    checkpoint = None
    if weights:
        checkpoint = load_checkpoint(weights, weight_set=source.weight_set, offline=source.offline)
    if own_network is None:
        return checkpoint, None
    # What the user's own module prints does not belong to the JSON.
    with contextlib.redirect_stdout(sys.stderr):
        return checkpoint, find_counterpart(own_network)


def _set_up_frameworks() -> "Callable[..., Counterpart]":
    """Sets JAX up, which must come before Orbax opens a checkpoint, and imports PyTorch.

    Returns:
      `find_counterpart`, which needs both.

    Raises:
      InputError: PyTorch is not installed.
    """
    try:
        from flax_densenet.parity.theirs.counterpart import find_counterpart
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise InputError(
            "parity compares with PyTorch, and torch is not installed; install flax-densenet[torch]"
        ) from error
    choose_devices(DeviceFlags())
    return find_counterpart


_USUAL_SIZE = {"cifar": (32, 32), "imagenet": (64, 64)}
_FEW_VALUES = 32


def run(request: ParityRequest, prog: str) -> None:
    """Runs the command.

    Args:
      request: What is to be compared.
      prog: Name of the command, which is not needed here.

    Raises:
      InputError: The network or its counterpart cannot be had, or they are different networks, or
        nothing could be decided.
      NetworksDiffer: The frameworks differ by more than rounding.
      SavingFailed: The page cannot be written.
    """
    find_counterpart = _set_up_frameworks()
    from flax_densenet.parity.page import write_page
    from flax_densenet.parity.table import render
    from flax_densenet.weights.adapt import OWN_NETWORK_HINT, check_agreement

    arguments, checkpoint, counterpart, command = request
    config = arguments.network
    found = {
        f"{arguments.weights}": checkpoint and checkpoint.config,
        f"{arguments.against}": counterpart and counterpart.config,
    }
    for where, other in found.items():
        if other is not None:
            check_agreement(other, config, where, OWN_NETWORK_HINT)
    if arguments.against is not None and counterpart is None:
        counterpart = find_counterpart(arguments.against, config)
    with contextlib.redirect_stdout(sys.stderr):
        report = _compare(arguments, checkpoint, counterpart, command)
    print(to_json(report.as_json(), indent=1) if arguments.json else render(report))
    if arguments.html is not None:
        page = Path(arguments.html).expanduser()
        make_directory(page.parent)
        with written_whole(page) as unfinished:
            write_page(report, unfinished)
        print(f"the page is {page}", file=sys.stderr)
    if report.differs:
        raise NetworksDiffer(report.verdict)
    if report.is_undecided:
        raise InputError(report.verdict)


def _compare(
    arguments: ParityArguments,
    checkpoint: "Checkpoint | None",
    counterpart: "Counterpart | None",
    command: str,
) -> "Report":
    import torch

    from flax_densenet.parity.report import Report, describe_environment
    from flax_densenet.parity.theirs.comparison import Comparison

    config = arguments.network
    size = arguments.image_size or _USUAL_SIZE[config.stem]
    height, width = size[0], size[-1]
    config.check_image(height=height, width=width, channels=config.in_channels)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    device_name = torch.cuda.get_device_name() if device == "cuda" else device
    comparison = Comparison(
        config=config,
        variables=checkpoint and checkpoint.variables,
        model=counterpart and counterpart.model,
        keys=counterpart and counterpart.keys,
        image_shape=(arguments.batch_size, config.in_channels, height, width),
        num_steps=arguments.steps,
        implementation=arguments.implementation,
        seed=arguments.seed,
        device=device,
    )
    outcome = comparison.run(arguments.precision)
    return Report(
        title=config.title,
        config=config,
        against=counterpart.title if counterpart else "our PyTorch reference",
        weights=arguments.weights or f"random, seed {arguments.seed}",
        image_shape=comparison.image_shape,
        num_steps=arguments.steps,
        layers=outcome.layers,
        sections=outcome.sections,
        notes=[
            *_notes(config, comparison.image_shape),
            *(counterpart.notes if counterpart else []),
            *outcome.notes,
        ],
        environment=describe_environment(device_name),
        command=command,
    )


def _notes(config: DenseNetConfig, image_shape: tuple[int, int, int, int]) -> list[str]:
    notes = []
    if config.dropout_rate:
        notes.append(
            f"dropout (rate {config.dropout_rate:g}) is off in both: random bits cannot agree"
        )
    batch_size, _, height, width = image_shape
    operations = list_operations(config, height=height, width=width)
    rows, columns, _ = [one.shape for one in operations if one.kind == "batch norm"][-1]
    values = batch_size * rows * columns
    if values < _FEW_VALUES:
        notes.append(
            f"the last block normalizes over {values} values per channel, which amplifies "
            "rounding; more or larger images do not"
        )
    return notes
