"""Names and logits of small networks of MONAI and pytorchcv, and the weights that they belong to.

`data/other_software.json.gz` holds them in float64; `make_other_software.py` writes it. As in
golden.py, the name of an array alone decides its values.
"""

import functools
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np

from parity_tests.golden import tensor

FILE = Path(__file__).parent / "data" / "other_software.json.gz"


@functools.cache
def other_software() -> dict[str, dict[str, Any]]:
    """Returns {name: {"software", "shapes", "image_shape", "logits"}}."""
    return json.loads(gzip.decompress(FILE.read_bytes()))


def state_of(name: str) -> dict[str, np.ndarray]:
    """Returns the state dict of a network, float64 with counters of 0."""
    return {
        key: np.zeros((), np.int64) if key.endswith("tracked") else tensor(key, tuple(shape))
        for key, shape in other_software()[name]["shapes"].items()
    }
