"""The network on a CPU in compiled C++, which XLA calls.

`source/` has the kernels: each keeps a tile of results in registers and its operands in the cache.
The small networks' stem, the head and the classifier remain XLA's
(docs/decisions/0013-native-kernels.md).
"""

from flax_densenet.implementations.native.build import is_available
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
]
