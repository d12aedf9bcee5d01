"""The flags of `flax-densenet study`, which differ from study to study."""

import dataclasses
from typing import Annotated, Literal

import tyro

from flax_densenet.cli.devices import DeviceOptions
from flax_densenet.cli.flags import NetworkArguments
from flax_densenet.cli.two_pass import RunArguments
from flax_densenet.errors import require
from flax_densenet.study.catalog import BATCH_SIZE, DEPTHS, IMAGE_SIZE, SEEDS

Format = Literal["png", "svg", "pdf"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is written.

    Attributes:
      out: Directory for table.md, results.jsonl, the picture and command.txt; studies/NAME if not
        given. If it holds a part of the study already, the rest is done.
      format: Formats of the picture, with commas between them.
    """

    out: Annotated[str | None, tyro.conf.arg(aliases=("--output",))] = None
    format: tuple[Format, ...] = ("png",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """What the trainings have in common.

    Attributes:
      seeds: Trainings of each network; their seeds are those from `seed` on.
      variant: Start from a named network of the paper; other flags change it further.
    """

    seeds: int = SEEDS
    variant: str | None = None

    def __post_init__(self) -> None:
        require(self.seeds >= 1, "seeds", self.seeds, "an integer of at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldOptions(TrainingOptions):
    """What is compared.

    Attributes:
      values: Values of the field, with commas between them; the layers of blocks as 6-12-24.
    """

    values: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class GradientArguments(RunArguments):
    """Measure the gradient in each layer, with and without the direct connections."""

    study: TrainingOptions = TrainingOptions()
    output: OutputOptions = OutputOptions()
    devices: DeviceOptions = DeviceOptions()


@dataclasses.dataclass(frozen=True, kw_only=True)
class FieldArguments(RunArguments):
    """Train the same network with several values of one field, and compare.

    Error, size, time and memory of each; at last a value is recommended.
    """

    study: FieldOptions
    output: OutputOptions = OutputOptions()
    devices: DeviceOptions = DeviceOptions()


@dataclasses.dataclass(frozen=True, kw_only=True)
class MemoryArguments:
    """Compile a training step at several depths, naive and with less memory.

    Attributes:
      network: The network, but for its depth.
      values: Depths, with commas between them.
      batch_size: Images in a batch.
      image_size: Height and width of an image in pixels.
      output: What is written.
      devices: Which devices take part.
    """

    network: NetworkArguments
    values: tuple[int, ...] = DEPTHS
    batch_size: int = BATCH_SIZE
    image_size: int = IMAGE_SIZE
    output: OutputOptions = OutputOptions()
    devices: DeviceOptions = DeviceOptions()

    def __post_init__(self) -> None:
        for name in ("batch_size", "image_size"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "an integer of at least 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReuseArguments:
    """Show which earlier layers the layers of a trained network read (paper, Figure 5).

    Attributes:
      checkpoint: Whatever `flax-densenet convert` reads, or a work directory of `train`.
      output: What is written.
    """

    checkpoint: Annotated[str, tyro.conf.Positional]
    output: OutputOptions = OutputOptions()
