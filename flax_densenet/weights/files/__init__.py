"""Weight files of all formats, read and written as named arrays."""

from flax_densenet.weights.files.contents import Contents
from flax_densenet.weights.files.read import read_weights
from flax_densenet.weights.files.write import write_orbax, write_safetensors, write_torch

__all__ = ["Contents", "read_weights", "write_orbax", "write_safetensors", "write_torch"]
