"""The network on a CPU in compiled C++, which XLA calls.

`source/` has the kernels: each keeps a tile of results in registers and its operands in the cache.
The small networks' stem, the head and the classifier remain XLA's
(docs/decisions/0013-native-kernels.md).
"""

from flax_densenet.formulations.native.body import evaluate, train
from flax_densenet.formulations.native.combination import combine
from flax_densenet.formulations.native.library import is_available

__all__ = ["combine", "evaluate", "is_available", "train"]
