"""The network on a CPU in compiled C++ kernels, which XLA calls.

The kernels are in `cpp/`. Each keeps a tile of results in registers and its operands in the cache.
XLA computes the small networks' stem, the head and the classifier
(docs/decisions/0013-native-kernels.md).
"""

from flax_densenet.implementations.native.build import is_available, why_unavailable
from flax_densenet.implementations.native.features import evaluate, train
from flax_densenet.implementations.native.optimizer import (
    add_decayed_weights,
    apply_updates,
    nesterov_sgd,
)

__all__ = [
    "add_decayed_weights",
    "apply_updates",
    "evaluate",
    "is_available",
    "nesterov_sgd",
    "train",
    "why_unavailable",
]
