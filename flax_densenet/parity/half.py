"""One framework's half of a comparison: settings and what it observes.

Axes: B batch, C channels, H height, W width, K classes.

Both halves are seen through the same records, so that comparing them is one loop over names.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Literal, NamedTuple, Protocol

import numpy as np

from flax_densenet.network.fields import ComputeType

Precision = Literal["float64", "float32", "default"]


class Setting(NamedTuple):
    """One precision.

    Attributes:
      dtype: Type of weights, images and computation.
      is_exact: Whether both frameworks keep all digits of the type in products.
      description: What that means, for people.
    """

    dtype: ComputeType
    is_exact: bool
    description: str


SETTINGS: dict[Precision, Setting] = {
    "float64": Setting("float64", True, "rounding far below any fault"),
    "float32": Setting("float32", True, 'precision "highest" in JAX, TF32 off in PyTorch'),
    "default": Setting("float32", False, "float32 as both frameworks compute it unless told"),
}


@contextmanager
def computing(setting: Setting) -> Iterator[None]:
    """Sets JAX to a precision."""
    import jax  # not at the top: the command line needs the names of the settings alone

    exact = jax.default_matmul_precision("highest") if setting.is_exact else nullcontext()
    with jax.enable_x64(setting.dtype == "float64"), exact:
        yield


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
