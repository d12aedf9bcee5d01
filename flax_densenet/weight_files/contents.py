"""What a weight file holds, whatever its format."""

from typing import Any, NamedTuple

import numpy as np

Keys = tuple[str, ...]


class Contents(NamedTuple):
    """The arrays of a weight file, and what else it says.

    Attributes:
      format: Name of the format, for people: "PyTorch zip", "PyTorch legacy", "safetensors",
        "Keras HDF5" or "Orbax".
      arrays: Arrays by their path in the nested dictionaries of the file, in its order; each owns
        its memory. Indices of lists are digits: ("optimizer", "state", "0", "momentum_buffer").
      settings: Everything else that is plain: numbers, text, bools, None and lists of them.
      metadata: The text that safetensors files and our Orbax directories hold; {} elsewhere.
    """

    format: str
    arrays: dict[Keys, np.ndarray]
    settings: dict[Keys, Any]
    metadata: dict[str, str]
