"""Implementations of everything but the classifier, equal up to rounding.

Plain is the modules of flax_densenet/network/model.py. `native` and `blocked` are for a CPU; only
the first needs a C++ compiler. `gpu` is for a GPU.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
