"""How a GPU computes the network: the same values as in model.py, with fewer passes over memory.

Axes: B batch, H height, W width, C channels.

Plain batch normalization reads all feature maps of a block again in every layer, three times in
each direction. Here the statistics of a map are computed once, when it is made; the backward pass
adds up what all its readers do to them, and applies it once
(docs/decisions/0011-shared-statistics.md).
In evaluation what follows a convolution is folded into it.
"""

from flax_densenet.implementations.gpu.features import evaluate, train

__all__ = ["evaluate", "train"]
