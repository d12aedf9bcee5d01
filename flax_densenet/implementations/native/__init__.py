"""The network on a CPU in compiled C++ kernels, which XLA calls.

The kernels are in `cpp/`. Each keeps a tile of results in registers and its operands in the cache.
XLA computes the small networks' stem, the head and the classifier
(docs/decisions/0013-native-kernels.md).
"""

from flax_densenet.implementations.native.body import evaluate, train
from flax_densenet.implementations.native.build import is_available
from flax_densenet.implementations.native.calls import combine, weighted_sums

__all__ = ["combine", "evaluate", "is_available", "train", "weighted_sums"]
