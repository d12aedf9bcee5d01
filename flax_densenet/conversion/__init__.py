"""Checkpoints of other software: recognizing, understanding and converting them."""

from flax_densenet.conversion.checkpoint import Checkpoint, load_checkpoint
from flax_densenet.conversion.inference import infer_config

__all__ = ["Checkpoint", "infer_config", "load_checkpoint"]
