"""Implementations of everything but the classifier, equal up to rounding.

Plain is the modules of flax_densenet/network/model.py. `native` and `blocked` are for a CPU; only
the first needs a C++ compiler. `gpu` is for a GPU.
"""

from flax_densenet.implementations.choose import choose_implementation
from flax_densenet.implementations.variables import apply

__all__ = ["apply", "choose_implementation"]
