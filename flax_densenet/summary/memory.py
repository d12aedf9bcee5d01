"""Estimate of the memory of one training step.

It is an estimate, since compilers choose what they keep. Counted are

- the parameters, their gradients and momentum, and the running statistics;
- the activations that are kept for the backward pass, in the type of the computation: whatever a
  convolution, a normalization, a linear layer, a maximum or a leaky or parametric ReLU reads,
  whatever a ReLU, a sigmoid or a tanh writes, both factors of squeeze-and-excitation, and for
  dropout one byte for each number, its mask;
- the working set of the backward pass, in the dense layer where it is largest: the gradients of
  what the layer has kept.

With remat (https://arxiv.org/abs/1707.06990) a dense layer keeps the feature maps that it reads,
which its readers share, and nothing else: what is kept grows linearly with the number of layers
instead of quadratically. The rest is computed a second time, one layer after the other, and belongs
to the working set.

Not counted are the loss, the statistics of the batch, and what libraries need for their own work.
docs/summary.md compares the estimate with what PyTorch, JAX and XLA keep.
"""

from collections import Counter
from typing import NamedTuple

from flax_densenet.network.config import DenseNetConfig
from flax_densenet.network.fields import ComputeType
from flax_densenet.network.layers import count_parameters, weight_layers
from flax_densenet.summary.operation import Operation, OperationKind

_BYTES: dict[ComputeType, int] = {"bfloat16": 2, "float32": 4, "float64": 8}
_NEED_THEIR_INPUT: tuple[OperationKind, ...] = (
    "convolution",
    "batch norm",
    "linear",
    "leaky ReLU",
    "PReLU",
    "maximum pool",
    "squeeze",  # excitation needs every number of its input
    "excitation",
)
_NEED_THEIR_OUTPUT: tuple[OperationKind, ...] = ("ReLU", "sigmoid", "tanh")


class TrainingMemory(NamedTuple):
    """Memory of one step of SGD with momentum, in bytes.

    Attributes:
      parameters: The parameters.
      gradients: Their gradients.
      momentum: Their momentum.
      statistics: Running means and variances.
      activations: What is kept for the backward pass, of the whole batch.
      working_set: What the backward pass adds in the largest dense layer, of the whole batch.
    """

    parameters: int
    gradients: int
    momentum: int
    statistics: int
    activations: int
    working_set: int

    def with_total(self) -> dict[str, int]:
        """Returns all by name, and their sum as "total"."""
        return {**self._asdict(), "total": sum(self)}


def activation_bytes(config: DenseNetConfig, operation: Operation) -> int:
    """Returns the size of an operation's output for one image, in bytes."""
    return operation.size * _BYTES[config.dtype]


def kept_bytes(config: DenseNetConfig, operations: list[Operation], *, remat: bool) -> list[int]:
    """Returns what is kept of each operation for the backward pass, for one image in bytes.

    Args:
      config: The network.
      operations: All its operations.
      remat: Whether dense layers are computed a second time.
    """
    followers = [*operations[1:], None]
    return [
        _kept(config, operation, follower, remat)
        for operation, follower in zip(operations, followers, strict=True)
    ]


def training_memory(
    config: DenseNetConfig, operations: list[Operation], *, batch_size: int, remat: bool
) -> TrainingMemory:
    """Returns the estimate for one step of training.

    Args:
      config: The network.
      operations: All its operations.
      batch_size: Images in the batch.
      remat: Whether dense layers are computed a second time.
    """
    parameter_bytes = max(_BYTES[config.dtype], 4)
    parameters = parameter_bytes * count_parameters(config)
    channels = sum(layer.axes["C"] for layer in weight_layers(config) if layer.kind == "norm")
    largest = _largest_dense_layer(config, operations)
    return TrainingMemory(
        parameters=parameters,
        gradients=parameters,
        momentum=parameters,
        statistics=parameter_bytes * 2 * channels,
        activations=batch_size * sum(kept_bytes(config, operations, remat=remat)),
        working_set=batch_size * largest * (2 if remat else 1),
    )


def _kept(
    config: DenseNetConfig, operation: Operation, follower: Operation | None, remat: bool
) -> int:
    output = activation_bytes(config, operation)
    reader = follower.kind if follower is not None else None
    if remat and operation.dense_layer:
        # Other layers of the block read the new maps; nothing but the joined block the last ones.
        is_last = follower is None or not follower.dense_layer
        return output if reader == "concatenation" and not is_last else 0
    mask = operation.size if operation.kind == "dropout" else 0
    is_needed = reader in _NEED_THEIR_INPUT or operation.kind in _NEED_THEIR_OUTPUT
    return mask + (output if is_needed else 0)


def _largest_dense_layer(config: DenseNetConfig, operations: list[Operation]) -> int:
    sizes: Counter[tuple[str, ...]] = Counter()
    kept = kept_bytes(config, operations, remat=False)
    for operation, size in zip(operations, kept, strict=True):
        if operation.dense_layer:
            sizes[operation.dense_layer] += size
    return max(sizes.values())
