"""`flax-densenet parity`: whether two frameworks compute the same network, layer by layer."""

import argparse
import contextlib
import dataclasses
import importlib
import json
import shlex
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from flax_densenet.commands.devices import DeviceOptions, choose_devices
from flax_densenet.commands.network import (
    NetworkName,
    UntypedNetworkArguments,
    parse_with_network,
)
from flax_densenet.config import DenseNetConfig
from flax_densenet.conversion.agreement import OWN_NETWORK_HINT, check_agreement
from flax_densenet.conversion.checkpoint import Checkpoint, load_checkpoint
from flax_densenet.errors import InputError, NetworksDiffer, require
from flax_densenet.parity.page import write_page
from flax_densenet.parity.report import Layer, Report, describe_environment
from flax_densenet.parity.settings import Precision
from flax_densenet.parity.table import render
from flax_densenet.training.workdir import writing
from flax_densenet.variants import VARIANTS

if TYPE_CHECKING:
    from torch_reference.counterpart import Counterpart

_USUAL_SIZE = {"cifar": (32, 32), "imagenet": (64, 64)}
_FEW_VALUES = 32


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


def parity(args: Sequence[str], prog: str) -> None:
    """Runs the command.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      InputError: The network or its counterpart cannot be had, or they are different networks.
      NetworksDiffer: The frameworks differ by more than rounding.
      SavingFailed: The page cannot be written.
    """
    find_counterpart = _import_reference().find_counterpart
    choose_devices(DeviceOptions())
    weights, against = _read_first(args)
    checkpoint = load_checkpoint(weights) if weights else None
    is_package = against in ("torchvision", "timm")
    usual = VARIANTS["densenet121"] if is_package else DenseNetConfig()
    counterpart = None
    if against is not None and not is_package:
        # What the user's own module prints does not belong to the JSON.
        with contextlib.redirect_stdout(sys.stderr):
            counterpart = find_counterpart(against)
    found = {
        f"{weights}": checkpoint and checkpoint.config,
        f"{against}": counterpart and counterpart.config,
    }
    arguments = parse_with_network(
        ParityArguments,
        args,
        prog,
        flags=UntypedNetworkArguments,
        otherwise=next((one for one in found.values() if one), usual),
    )
    config = arguments.network.config
    for where, other in found.items():
        if other is not None:
            check_agreement(other, config, where, OWN_NETWORK_HINT)
    if against is not None and counterpart is None:
        counterpart = find_counterpart(against, config)
    command = shlex.join([*prog.split(), *args])
    with contextlib.redirect_stdout(sys.stderr):
        report = _compare(arguments, config, checkpoint, counterpart, command)
    print(json.dumps(report.as_json(), indent=1) if arguments.json else render(report))
    if arguments.html is not None:
        page = Path(arguments.html).expanduser()
        with writing(page):
            write_page(report, page)
        print(f"the page is {page}", file=sys.stderr)
    if not report.agrees:
        raise NetworksDiffer(report.verdict)


def _import_reference() -> types.ModuleType:
    try:
        return importlib.import_module("torch_reference.counterpart")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise InputError(
            "parity compares with PyTorch, and torch is not installed; install flax-densenet[torch]"
        ) from error


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


def _compare(
    arguments: ParityArguments,
    config: DenseNetConfig,
    checkpoint: Checkpoint | None,
    counterpart: "Counterpart | None",
    command: str,
) -> Report:
    import torch

    from torch_reference.comparison import Comparison

    size = arguments.image_size or _USUAL_SIZE[config.stem]
    height, width = size[0], size[-1]
    config.check_image(height=height, width=width, channels=config.in_channels)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    comparison = Comparison(
        config=config,
        variables=checkpoint and checkpoint.variables,
        model=counterpart and counterpart.model,
        keys=counterpart and counterpart.keys,
        image_shape=(arguments.batch_size, config.in_channels, height, width),
        num_steps=arguments.steps,
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
            *_notes(config, outcome.layers),
            *(counterpart.notes if counterpart else []),
            *outcome.notes,
        ],
        environment=describe_environment(_describe_device(device)),
        command=command,
    )


def _describe_device(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def _notes(config: DenseNetConfig, layers: list[Layer]) -> list[str]:
    notes = []
    if config.dropout_rate:
        notes.append(
            f"dropout (rate {config.dropout_rate:g}) is off in both: random bits cannot agree"
        )
    batch_size, _, height, width = next(
        layer.shape for layer in layers if layer.name == "features.norm5"
    )
    values = batch_size * height * width
    if values < _FEW_VALUES:
        notes.append(
            f"the last block normalizes over {values} values per channel, which amplifies "
            "rounding; more or larger images do not"
        )
    return notes
