"""How the network computes on a CPU: the same values as in model.py, a cache's worth at a time.

Axes: G chunks of the batch, C channels, P pixels of a chunk (images, rows and columns together).

What costs time on a CPU is memory: each layer of a block reads all feature maps before it. Here the
batch is cut into chunks that fit the cache; a layer normalizes, multiplies and adds up one chunk
before it turns to the next one. docs/decisions/0010-cache-blocked.md has the arithmetic.
"""

from flax_densenet.implementations.blocked.body import evaluate, train

__all__ = ["evaluate", "train"]
