"""The network on a CPU, a cache's worth at a time, computed by XLA.

Memory costs time on a CPU: each layer of a block reads all feature maps before it. Here the batch
is cut into chunks that fit the cache. A layer normalizes, multiplies and adds up one chunk before
it turns to the next one (docs/decisions/0010-cache-blocked.md).
"""

from flax_densenet.implementations.blocked.features import evaluate, train

__all__ = ["evaluate", "train"]
