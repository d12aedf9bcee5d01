"""The ways to compute everything but the classifier, all with one result.

`model.py` has the plain one. `native` and `blocked` are made for the CPU (the second
needs no C++ compiler), `gpu` for the GPU.
"""

from flax_densenet.implementations.choose import choose_implementation
from flax_densenet.implementations.variables import apply

__all__ = ["apply", "choose_implementation"]
