"""The ways to compute everything but the classifier, all with one result.

The network's own is the plain one. `native` and `blocked` are made for the CPU (the second needs
no C++ compiler), `gpu` is made for the GPU.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
