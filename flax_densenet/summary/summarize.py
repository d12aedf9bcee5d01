"""The size of a network in one record: operations, totals and estimates."""

import dataclasses
from typing import Any, NamedTuple

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.summary.memory import (
    TrainingMemory,
    activation_bytes,
    kept_bytes,
    training_memory,
)
from flax_densenet.summary.operations import list_operations
from flax_densenet.summary.published import IMAGE_SIZE, PUBLISHED, Published, find_variant


class Row(NamedTuple):
    """One operation; bytes are for one image.

    Attributes:
      name: Its name, torchvision's where it has one.
      operation: What it does.
      output: Shape of its output: H, W and C, or C.
      parameters: Trainable parameters.
      multiply_adds: Multiplications with an addition.
      flops: Floating-point operations.
      activation_bytes: Size of its output.
      kept_bytes: What is kept of it for the backward pass.
      kept_bytes_with_remat: What is kept if dense layers are computed a second time.
    """

    name: str
    operation: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int
    flops: int
    activation_bytes: int
    kept_bytes: int
    kept_bytes_with_remat: int


class Summary(NamedTuple):
    """The size of one network.

    Attributes:
      config: The network.
      variant: Name of the network with the same layers, if it has one.
      image_size: Height and width in pixels.
      rows: Every operation, in forward order.
      batch_size: Images in a batch.
      training: Estimated memory of a step of training.
      training_with_remat: The same if dense layers are computed a second time.
    """

    config: DenseNetConfig
    variant: str | None
    image_size: tuple[int, int]
    rows: list[Row]
    batch_size: int
    training: TrainingMemory
    training_with_remat: TrainingMemory

    @property
    def totals(self) -> dict[str, int]:
        """Sum of each number over the rows."""
        return {name: sum(getattr(row, name) for row in self.rows) for name in Row._fields[3:]}

    @property
    def published(self) -> list[tuple[Published, bool]]:
        """What others have published about this network, and whether our count agrees."""
        return [
            (number, number.agrees(self.totals[number.quantity]))
            for number in PUBLISHED.get(self.variant or "", ())
            if number.quantity == "parameters" or self.image_size == IMAGE_SIZE
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns it as docs/summary.md describes it."""
        return {
            "title": self.config.title,
            "variant": self.variant,
            "network": dataclasses.asdict(self.config),
            "image": [*self.image_size, self.config.in_channels],
            "operations": [row._asdict() for row in self.rows],
            "totals": self.totals,
            "batch_size": self.batch_size,
            "training_bytes": self.training.with_total(),
            "training_bytes_with_remat": self.training_with_remat.with_total(),
            "published": [
                {
                    "quantity": number.quantity,
                    "value": int(number.value),
                    "rounded_to": number.rounded_to,
                    "source": number.source,
                    "agrees": agrees,
                }
                for number, agrees in self.published
            ],
        }


def summarize(config: DenseNetConfig, *, image_size: tuple[int, int], batch_size: int) -> Summary:
    """Returns the size of a network.

    Args:
      config: The network.
      image_size: Height and width of the images, in pixels.
      batch_size: Images in a batch of training.

    Raises:
      InputError: The image is too small.
    """
    height, width = image_size
    operations = list_operations(config, height=height, width=width)
    columns = (
        operations,
        kept_bytes(config, operations, remat=False),
        kept_bytes(config, operations, remat=True),
    )
    rows = [
        Row(
            name=operation.name,
            operation=operation.kind,
            output=operation.shape,
            parameters=operation.parameters,
            multiply_adds=operation.multiply_adds,
            flops=operation.flops,
            activation_bytes=activation_bytes(config, operation),
            kept_bytes=kept,
            kept_bytes_with_remat=kept_with_remat,
        )
        for operation, kept, kept_with_remat in zip(*columns, strict=True)
    ]
    training, training_with_remat = (
        training_memory(config, operations, batch_size=batch_size, remat=remat)
        for remat in (False, True)
    )
    variant = find_variant(config)
    return Summary(config, variant, image_size, rows, batch_size, training, training_with_remat)
