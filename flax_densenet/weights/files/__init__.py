"""Weights in files: everything between a file on the disk and named arrays."""

from flax_densenet.weights.files.contents import Contents
from flax_densenet.weights.files.read import read_weights
from flax_densenet.weights.files.write import write_orbax, write_safetensors, write_torch

__all__ = ["Contents", "read_weights", "write_orbax", "write_safetensors", "write_torch"]
