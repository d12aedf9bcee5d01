"""Parts of a network along its depth: stem, dense blocks, transitions, classifier."""

import itertools
import re
from typing import NamedTuple

from flax_densenet.parity.report import Layer

_BLOCK = re.compile(r"(?:features\.)?(denseblock|transition)(\d+)(?:\.|$)")


class Stage(NamedTuple):
    """Some layers in a row.

    Attributes:
      title: Name for people.
      start: Position of its first layer in the network.
      layers: Its layers, in forward order.
    """

    title: str
    start: int
    layers: list[Layer]

    @property
    def stop(self) -> int:
        """Position after its last layer."""
        return self.start + len(self.layers)

    @property
    def torch_parameters(self) -> int:
        """Trainable parameters in PyTorch."""
        return sum(layer.torch_parameters for layer in self._leaves)

    @property
    def flax_parameters(self) -> int:
        """Trainable parameters in Flax."""
        return sum(layer.flax_parameters for layer in self._leaves)

    @property
    def _leaves(self) -> list[Layer]:
        containers = {layer.name.rpartition(".")[0] for layer in self.layers} | {"logits"}
        return [layer for layer in self.layers if layer.name not in containers]

    @property
    def is_block(self) -> bool:
        """Whether it is a dense block."""
        return self.title.startswith("block")

    @property
    def is_transition(self) -> bool:
        """Whether it is a transition."""
        return self.title.startswith("transition")


def find_stages(layers: list[Layer]) -> list[Stage]:
    """Returns the stages of a network.

    Args:
      layers: All layers in forward order, beginning with the image, which is at position 0.
    """
    stages: list[Stage] = []
    for block, group in itertools.groupby(layers, lambda layer: _block(layer.name)):
        title = block or ("classifier" if stages else "stem")
        start = stages[-1].stop if stages else 0
        stages.append(Stage(title, start, list(group)))
    return stages


def _block(name: str) -> str:
    found = _BLOCK.match(name)
    if found is None:
        return ""
    kind, number = found.groups()
    return f"{'block' if kind == 'denseblock' else kind} {number}"
