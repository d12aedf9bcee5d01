"""`flax-densenet parity`: whether two frameworks compute the same network, layer by layer."""

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flax_densenet.commands.parity_arguments import ParityArguments, ParityRequest
from flax_densenet.commands.parity_networks import set_up_frameworks
from flax_densenet.commands.strict_json import to_json
from flax_densenet.config import DenseNetConfig
from flax_densenet.conversion.agreement import OWN_NETWORK_HINT, check_agreement
from flax_densenet.conversion.checkpoint import Checkpoint
from flax_densenet.errors import NetworksDiffer
from flax_densenet.parity.page import write_page
from flax_densenet.parity.report import Report, describe_environment
from flax_densenet.parity.table import render
from flax_densenet.summary.operations import list_operations
from flax_densenet.training.workdir import writing

if TYPE_CHECKING:
    from torch_reference.counterpart import Counterpart

_USUAL_SIZE = {"cifar": (32, 32), "imagenet": (64, 64)}
_FEW_VALUES = 32


def parity(request: ParityRequest, prog: str) -> None:
    """Runs the command.

    Args:
      request: What is to be compared.
      prog: Name of the command, for messages.

    Raises:
      InputError: The network or its counterpart cannot be had, or they are different networks.
      NetworksDiffer: The frameworks differ by more than rounding.
      SavingFailed: The page cannot be written.
    """
    find_counterpart = set_up_frameworks().find_counterpart
    arguments, checkpoint, counterpart, command = request
    config = arguments.network.config
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
        report = _compare(arguments, config, checkpoint, counterpart, command)
    print(to_json(report.as_json(), indent=1) if arguments.json else render(report))
    if arguments.html is not None:
        page = Path(arguments.html).expanduser()
        with writing(page):
            write_page(report, page)
        print(f"the page is {page}", file=sys.stderr)
    if not report.agrees:
        raise NetworksDiffer(report.verdict)


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
        formulation=arguments.formulation,
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
        environment=describe_environment(_describe_device(device)),
        command=command,
    )


def _describe_device(device: str) -> str:
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


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
