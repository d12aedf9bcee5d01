"""The network on a GPU, with fewer passes over its memory.

Plain batch normalization reads all feature maps of a block again in every layer, three times in
each direction. Here the statistics of a map are computed once, when it is made. The backward pass
adds up the gradients of all its readers and applies them once
(docs/decisions/0011-shared-statistics.md).
"""

from flax_densenet.implementations.gpu.features import evaluate, train

__all__ = ["evaluate", "train"]
