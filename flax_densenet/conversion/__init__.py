"""Checkpoints of other software: recognizing, understanding and converting them."""

from typing import TYPE_CHECKING

from flax_densenet.lazy_names import lazy_names

if TYPE_CHECKING:
    from flax_densenet.conversion.checkpoint import Checkpoint, load_checkpoint
    from flax_densenet.conversion.inference import infer_config
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "checkpoint": ("Checkpoint", "load_checkpoint"),
            "inference": ("infer_config",),
        },
    )

__all__ = ["Checkpoint", "infer_config", "load_checkpoint"]
