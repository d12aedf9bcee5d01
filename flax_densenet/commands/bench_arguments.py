"""The flags of `flax-densenet bench`."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro

from flax_densenet.commands.parsing import parse_flags
from flax_densenet.errors import require


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchArguments:
    """Measure how fast a network is on this machine, in evaluation and in training.

    Attributes:
      network: A network of the paper, such as densenet121, or a checkpoint that
        `flax-densenet convert` reads.
      batch_size: Images in a batch; each number is measured.
      image_size: Height and width in pixels. If not given, 32 for the cifar stem and 224 for the
        imagenet stem.
      precision: Type of the computation; float32 for networks of the paper, a checkpoint's own.
      steps: Timed steps of each kind.
      json: Print everything, every single time included, as JSON (docs/benchmarks.md).
    """

    network: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[NAME|CHECKPOINT]")] = (
        "densenet-40-12"
    )
    batch_size: tuple[int, ...] = (1, 16, 64)
    image_size: int | None = None
    precision: Literal["float32", "bfloat16"] | None = None
    steps: int = 10
    json: bool = False

    def __post_init__(self) -> None:
        sizes = self.batch_size
        require(min(sizes) >= 1, "batch_size", sizes, "integers of at least 1")
        for name in ("image_size", "steps"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer of at least 1")


def parse_bench_arguments(args: Sequence[str], prog: str) -> BenchArguments:
    """Parses the command line.

    Args:
      args: Words after the command.
      prog: Name of the command, for messages.

    Raises:
      SystemExit: After `--help`, or with a message for a wrong flag.
    """
    return parse_flags(BenchArguments, args, prog)
