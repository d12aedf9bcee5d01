"""DenseNet in JAX and Flax, equal to PyTorch layer for layer."""

from typing import TYPE_CHECKING

from flax_densenet.lazy_names import lazy_names

if TYPE_CHECKING:
    from flax_densenet.batch_norm import BatchNorm
    from flax_densenet.config import DenseNetConfig
    from flax_densenet.errors import InputError
    from flax_densenet.initialization import initialize
    from flax_densenet.layers import count_parameters
    from flax_densenet.model import DenseBlock, DenseLayer, DenseNet, Transition
    from flax_densenet.pretrained import create, image_reader, load
    from flax_densenet.variants import VARIANTS
    from flax_densenet.weights import from_torch, to_torch, to_torch_arrays
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "batch_norm": ("BatchNorm",),
            "config": ("DenseNetConfig",),
            "errors": ("InputError",),
            "initialization": ("initialize",),
            "layers": ("count_parameters",),
            "model": ("DenseBlock", "DenseLayer", "DenseNet", "Transition"),
            "pretrained": ("create", "image_reader", "load"),
            "variants": ("VARIANTS",),
            "weights": ("from_torch", "to_torch", "to_torch_arrays"),
        },
    )

__version__ = "0.1.0"

__all__ = [
    "VARIANTS",
    "BatchNorm",
    "DenseBlock",
    "DenseLayer",
    "DenseNet",
    "DenseNetConfig",
    "InputError",
    "Transition",
    "count_parameters",
    "create",
    "from_torch",
    "image_reader",
    "initialize",
    "load",
    "to_torch",
    "to_torch_arrays",
]
