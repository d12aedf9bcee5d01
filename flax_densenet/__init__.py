"""DenseNet in JAX and Flax, equal to PyTorch layer for layer."""

import lazy_loader

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
