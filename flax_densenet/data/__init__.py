"""Image data sets as uint8 arrays in memory."""

from flax_densenet.data.dataset import Dataset, Split
from flax_densenet.data.load import describe_dataset, load_dataset

__all__ = ["Dataset", "Split", "describe_dataset", "load_dataset"]
