"""Checkpoints of tiny networks, and images for them."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from flax_densenet import DenseNetConfig, initialize, to_torch_arrays
from flax_densenet.cli.main import main
from flax_densenet.weights.files import write_safetensors

GRAY = DenseNetConfig(depth=7, growth_rate=2, in_channels=1, num_classes=3)
COLOR = dataclasses.replace(GRAY, in_channels=3, batch_norm_epsilon=1e-5)
IMAGENET = DenseNetConfig(blocks=(1, 1), growth_rate=2, stem="imagenet", num_classes=3)
NAMES = ("ant", "bee", "cat")


def write_torchvision(path: Path, config: DenseNetConfig) -> dict[str, Any]:
    """Writes initial weights as timm does, a safetensors file without metadata; returns them."""
    variables = initialize(config, jax.random.key(0))
    write_safetensors(path, to_torch_arrays(variables, config), {}, overwrite=True)
    return variables


def convert(source: Path, target: Path, *flags: str) -> None:
    """Converts a checkpoint."""
    assert main(["convert", str(source), str(target), "--no_verify", *flags]) == 0


def write_images(directory: Path, count: int, size: int = 32, channels: int = 3) -> np.ndarray:
    """Writes 0.png, 1.png... and returns their pixels, [N, S, S, C]."""
    directory.mkdir(exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (count, size, size, channels), np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image.squeeze()).save(directory / f"{number}.png")
    return pixels
