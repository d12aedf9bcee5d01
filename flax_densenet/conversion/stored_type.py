"""The types in which a conversion can store parameters."""

from typing import Literal

StoredType = Literal["float16", "bfloat16", "float32", "float64"]
