"""The network on a CPU in compiled C++, which XLA calls.

`source/` has the kernels: each keeps a tile of results in registers and its operands in the cache.
The small networks' stem, the head and the classifier remain XLA's
(docs/decisions/0013-native-kernels.md).
"""

from flax_densenet.implementations.native.body import evaluate, train
from flax_densenet.implementations.native.build import is_available
from flax_densenet.implementations.native.calls import combine

__all__ = ["combine", "evaluate", "is_available", "train"]
