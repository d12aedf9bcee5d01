"""Questions that people ask about DenseNet, each answered by a table and a picture."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
