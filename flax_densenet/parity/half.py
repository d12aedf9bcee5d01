"""What is seen of a network, in either framework: under PyTorch's names and in its layout.

Both halves are seen through the same records, so that comparing them is one loop over names.

Axes: B batch, C channels, H height, W width, K classes.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

STATISTICS = ("running_mean", "running_var")
PARAMETERS = ("weight", "bias")

# The training that both halves do. At 0.05, changing the last bit of every kernel moves PyTorch's
# own float32 momentum of an ImageNet net by 20 % within ten steps; at 0.01 by 1e-5.
LEARNING_RATE = 0.01
WEIGHT_DECAY = 1e-2  # large enough to be seen
EMA_DECAY = 0.8
# (pixel - 128) / 64 has no rounding in float32, so both halves get the same input.
PIXEL_MEAN, PIXEL_STD = 128.0, 64.0


class Batch(NamedTuple):
    """Images [B, C, H, W] and labels [B]; pixels are uint8 for training, else normalized."""

    image: np.ndarray
    label: np.ndarray


class Observation(NamedTuple):
    """What one pass shows.

    Attributes:
      activations: Output of every module, [B, C, H, W], and the "logits" [B, K], in forward order.
      loss: Mean cross-entropy, under the name "loss".
      gradients: Gradient of the loss for "image" and every parameter.
      statistics: Running statistics after the pass.
    """

    activations: dict[str, np.ndarray]
    loss: dict[str, np.ndarray]
    gradients: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]


class Trained(NamedTuple):
    """What some steps of training leave behind.

    Attributes:
      losses: "loss of step N" for every step, before its update.
      weights: Parameters and running statistics after the last step.
      momentum: The optimizer's momentum of every parameter.
      average: Moving average of the parameters, and the statistics.
    """

    losses: dict[str, np.ndarray]
    weights: dict[str, np.ndarray]
    momentum: dict[str, np.ndarray]
    average: dict[str, np.ndarray]


class Half(Protocol):
    """A network with its weights, which stay as they are whatever is done with it."""

    def parameters(self) -> dict[str, np.ndarray]:
        """Returns its trainable parameters."""
        ...

    def forward(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the activations (see `Observation`) of images [B, C, H, W] in evaluation."""
        ...

    def observe(self, batch: Batch, *, train: bool) -> Observation:
        """Returns all that one pass shows."""
        ...

    def train(self, batches: Sequence[Batch]) -> Trained:
        """Trains by one step on each batch: Nesterov momentum, weight decay, two drops."""
        ...
