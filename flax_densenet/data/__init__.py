"""Image data sets as uint8 arrays, in memory or in files."""

from flax_densenet.data.dataset import ArraySplit, ChannelStatistics, Dataset, Split
from flax_densenet.data.load import describe_dataset, load_dataset

__all__ = [
    "ArraySplit",
    "ChannelStatistics",
    "Dataset",
    "Split",
    "describe_dataset",
    "load_dataset",
]
