"""`flax-densenet summary`: every operation of a network, and what the network costs."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Annotated

import tyro

from flax_densenet.cli.flags import check_size
from flax_densenet.cli.two_pass import find_network, parse_with_network
from flax_densenet.errors import require
from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.variants import IMAGE_SIZES
from flax_densenet.summary.published import Quantity
from flax_densenet.summary.summarize import Row, Summary, summarize

_COLUMNS = {  # and how each is aligned
    "name": "<",
    "operation": "<",
    "output": "<",
    "parameters": ">",
    "FLOPs": ">",
    "activation": ">",
    "kept": ">",
    "with remat": ">",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SummaryArguments:
    """Show every operation of a network, its parameters, FLOPs and memory.

    Attributes:
      name: A network of the paper, such as densenet121, or a checkpoint that
        `flax-densenet convert` reads; flags after it change it further.
      network: The network.
      image_size: Height and width in pixels, one number if they are equal. If not given, 32 for the
        cifar stem and 224 for the imagenet stem.
      batch_size: Images per step of training, whose memory is estimated.
      json: Print everything as JSON (docs/summary.md).
    """

    name: Annotated[
        str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME|CHECKPOINT]")
    ] = None
    network: DenseNetConfig
    image_size: tuple[int, ...] | None = None
    batch_size: int = 64
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False

    def __post_init__(self) -> None:
        check_size(self.image_size)
        require(self.batch_size >= 1, "batch_size", self.batch_size, "an integer of at least 1")


def parse(args: Sequence[str], prog: str) -> SummaryArguments:
    """Parses the command line; see `parse_with_network`.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.
    """
    return parse_with_network(SummaryArguments, args, prog, find=find_network)


def run(arguments: SummaryArguments, prog: str) -> None:
    """Runs the command.

    Args:
      arguments: Its flags.
      prog: Name of the command, which is not needed here.

    Raises:
      InputError: The network cannot take images of this size.
    """
    config = arguments.network
    size = arguments.image_size or (IMAGE_SIZES[config.stem],)
    result = summarize(config, image_size=(size[0], size[-1]), batch_size=arguments.batch_size)
    if arguments.json:
        print(json.dumps(result.to_json()))
        return
    _print_operations(result.rows)
    _print_totals(result)
    _print_training(result)


def _print_operations(rows: list[Row]) -> None:
    table = [tuple(_COLUMNS), *map(_cells, rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        columns = zip(line, _COLUMNS.values(), widths, strict=True)
        print("  ".join(f"{cell:{sign}{width}}" for cell, sign, width in columns).rstrip())


def _cells(row: Row) -> tuple[str, ...]:
    sizes = (row.activation_bytes, row.kept_bytes, row.kept_bytes_with_remat)
    return (
        row.name,
        row.operation,
        "x".join(map(str, row.output)),
        f"{row.parameters:,}" if row.parameters else "",
        _scaled(row.flops, 1000, ("", "k", "M", "G", "T")),
        *(_binary(size) for size in sizes),
    )


def _print_totals(result: Summary) -> None:
    config, totals = result.config, result.totals
    height, width = result.image_size
    print(f"\n{config.title}, one image of {height}x{width}x{config.in_channels}")
    print(f"parameters     {totals['parameters']:>15,}{_published(result, 'parameters')}")
    print(f"multiply-adds  {totals['multiply_adds']:>15,}{_published(result, 'multiply_adds')}")
    print(f"FLOPs          {totals['flops']:>15,}")


def _published(result: Summary, quantity: Quantity) -> str:
    text = ""
    for number, agrees in result.published:
        if number.quantity == quantity:
            verdict = "equal" if agrees else "different"
            rounded = "" if number.rounded_to == 1 else " after rounding"
            text += f"   {number.source}: {int(number.value):,}, {verdict}{rounded}"
    return text


def _print_training(result: Summary) -> None:
    print(f"\none step of training, batch of {result.batch_size}, {result.config.dtype}, estimated")
    print(f"{'':<14} {'without remat':>15}  {'with remat':>15}")
    with_remat = result.training_with_remat.with_total()
    for name, size in result.training.with_total().items():
        heading = name.replace("_", " ")
        print(f"{heading:<14} {_binary(size):>15}  {_binary(with_remat[name]):>15}")


def _binary(size: int) -> str:
    return _scaled(size, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def _scaled(number: float, factor: int, units: tuple[str, ...]) -> str:
    """Returns a number with three digits and its unit; nothing for 0."""
    if number == 0:
        return ""
    power = 0
    while number >= 999.5:
        number, power = number / factor, power + 1
    decimals = 0 if power == 0 or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{decimals}f} {units[power]}".rstrip()
